"""A snapshot as the JSON that `dump --json` prints: schema 1. Fields may be added, never renamed or removed. Pure."""

from __future__ import annotations

from typing import Any

from semtrace.model import (
    Death,
    Durations,
    EndedChild,
    FileClaim,
    Finding,
    Frame,
    HeldAtDeath,
    Holder,
    LeakedName,
    Lock,
    LockedFile,
    LockRef,
    Overlap,
    Problem,
    Process,
    SemId,
    Server,
    Snapshot,
    Statistics,
    ThreadLock,
    ThreadLockUse,
    ThreadRef,
    TracedEvent,
    UnusedNames,
    UnusedRoom,
    Wait,
    Waiter,
)
from semtrace.present.deaths import death_text, left_stuck
from semtrace.present.findings import evidence, name, remedy, title
from semtrace.present.places import place_text
from semtrace.present.waits import target_text, wait_place
from semtrace.text import iso
from semtrace.waits.workers import Workers, worker_states

SCHEMA = 1

# Schema 1 began with this word.
_SEVERITIES = {"note": "info"}


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "taken_at": iso(snapshot.taken_at),
        "server": server_json(snapshot.server),
        "processes": [process_json(process) for process in snapshot.processes],
        "locks": [lock_json(lock) for lock in snapshot.locks],
        "thread_locks": _thread_locks(snapshot),
        "findings": [finding_json(finding) for finding in snapshot.findings],
        "problems": [problem_json(problem) for problem in snapshot.problems],
        "waits": [wait_json(wait, snapshot) for wait in snapshot.waits.waits],
        "stuck": stuck_json(snapshot),
        "ended": [_ended(child) for child in snapshot.ended],
        "deaths": [{**death_json(death), "stuck": _left_stuck(death, snapshot)} for death in snapshot.deaths],
        "alive": snapshot.alive,
    }


def wait_json(wait: Wait, snapshot: Snapshot) -> dict[str, Any]:
    """One blocked thread; `on` is what it waits for in words, `idle` says that this is work."""
    return {
        "pid": wait.pid,
        "tid": wait.thread.tid,
        "kind": str(wait.target.kind),
        "on": target_text(wait.target),
        "lock": str(wait.target.semaphore) if wait.target.semaphore else None,
        "since_s": _rounded(wait.for_s),
        "timed": wait.timed,
        "stuck": wait.thread in snapshot.waits.stuck,
        "idle": wait.idle,
        "place": wait_place(wait) or None,
    }


def stuck_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return how many threads are proven stuck, and how many of the workers."""
    states = worker_states(snapshot)
    return {
        "threads": len(snapshot.waits.stuck),
        "workers": states.count("stuck"),
        **states_json(states),
    }


def states_json(states: Workers) -> dict[str, Any]:
    """Count the workers, all and in each state."""
    return {
        "of_workers": len(states),
        "states": {state: states.count(state) for state in ("idle", "busy", "waiting", "stuck", "stopped")},
    }


def death_json(death: Death) -> dict[str, Any]:
    """A process of the server that ended while it was watched: `exit_code` is negative for a signal."""
    return {
        "pid": death.pid,
        "role": death.role,
        "cause": str(death.cause),
        "exit_code": death.exit_code,
        "ended_s": _rounded(death.ended_s),
        "silent_s": _rounded(death.silent_s),
        "text": death_text(death.cause, death.exit_code, death.silent_s),
        "held": [_held_json(each) for each in death.held],
    }


def _left_stuck(death: Death, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the waiters for locks that it held and that are orphaned since."""
    return [
        {"pid": each.process.pid, "tid": each.tid, "lock": str(lock.id), "for_s": _rounded(each.for_s)}
        for lock, each in left_stuck(death, snapshot)
    ]


def _held_json(held: HeldAtDeath) -> dict[str, Any]:
    place = place_text(held.place) if held.place else None
    return {"lock": str(held.lock), "name": held.name, "tid": held.tid, "place": place}


def _ended(child: EndedChild) -> dict[str, Any]:
    return {
        "pid": child.pid,
        "ppid": child.parent,
        "exit_code": child.exit_code,
        "ended_s": _rounded(child.ended_s),
    }


def server_json(server: Server) -> dict[str, Any]:
    return {
        "kind": server.kind,
        "pid": server.pid,
        "title": server.title,
        "version": server.version,
        "started_at": iso(server.started_at),
        "user": server.user,
        "application": server.application,
        "bind": list(server.bind),
        "worker_class": server.worker_class,
        "timeout_s": server.timeout_s,
    }


def process_json(process: Process) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "ppid": process.ppid,
        "role": process.role,
        "state": process.state,
        "cpu_percent": _rounded(process.cpu_percent, 1),
        "rss": process.rss,
        "threads": process.threads,
        "started_at": iso(process.started_at),
        "last_heartbeat_s": _rounded(process.last_heartbeat_s),
        "holds": _ids(process.holds),
        "waits_on": _ids(process.waits_on),
    }


def lock_json(lock: Lock) -> dict[str, Any]:
    return {
        "id": str(lock.id),
        "name": lock.name,
        "names": list(lock.names),
        "kind": lock.kind,
        "part_of": lock.part_of,
        "signal": lock.signal,
        "state": lock.state,
        "value": lock.value,
        "maximum": lock.maximum,
        "shm_name": lock.shm_name,
        "linked": lock.linked,
        "holders": [_holder(holder) for holder in lock.holders],
        "waiters": [_waiter(waiter) for waiter in lock.waiters],
        "mapped_by": [process.pid for process in lock.mapped_by],
        "reason": lock.reason,
        "orphaned_s": _rounded(lock.orphaned_s),
        "separate": lock.separate,
        "statistics": _statistics(lock.statistics),
        "path": lock.file.path if lock.file else None,
        "file": _locked_file(lock.file) if lock.file else None,
    }


def _locked_file(file: LockedFile) -> dict[str, Any]:
    """Return a file that is locked; `end` is None up to the end of the file, `fd` where the kernel's list says it."""
    return {
        "type": str(file.type),
        "exclusive": file.exclusive,
        "deleted": file.deleted,
        "filesystem": file.filesystem,
        "lost_by": [process.pid for process in file.lost_by],
        "claims": [_file_claim(claim) for claim in file.claims],
    }


def _file_claim(claim: FileClaim) -> dict[str, Any]:
    return {
        "pid": claim.process.pid if claim.process else None,
        "type": str(claim.type),
        "exclusive": claim.exclusive,
        "start": claim.start,
        "end": claim.end,
        "fd": claim.fd,
        "inherited": claim.inherited,
        "taker": claim.taker,
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "code": str(finding.code),
        "severity": _SEVERITIES.get(finding.severity, finding.severity),
        "lock": str(finding.lock) if finding.lock else None,
        "name": name(finding),
        "pids": list(finding.pids),
        "title": title(finding),
        "evidence": list(evidence(finding)),
        "remedy": remedy(finding),
        "locks": [_lock_ref(lock) for lock in finding.locks],
        "threads": [_thread_ref(thread) for thread in finding.threads],
        "since_s": _rounded(finding.since_s),
        "files": [_file(each) for each in _unused_files(finding)],
    }


def _unused_files(finding: Finding) -> tuple[LeakedName, ...]:
    unused = finding.fact(UnusedNames) or finding.fact(UnusedRoom)
    return unused.names if unused else ()


def _file(file: LeakedName) -> dict[str, Any]:
    """Return a file in /dev/shm that nobody uses; `size` is how many bytes it takes there."""
    return {
        "id": str(file.id),
        "name": file.name,
        "sort": file.sort,
        "size": file.size,
        "age_s": _rounded(file.age_s),
        "user": file.user,
    }


def _lock_ref(lock: LockRef) -> dict[str, Any]:
    return {
        "id": str(lock.id) if lock.id else None,
        "name": lock.name,
        "kind": lock.kind,
        "pid": lock.process.pid if lock.process else None,
    }


def _thread_ref(thread: ThreadRef) -> dict[str, Any]:
    return {"pid": thread.pid, "tid": thread.tid, "place": place_text(thread.place) if thread.place else None}


def problem_json(problem: Problem) -> dict[str, Any]:
    return {
        "pid": problem.process.pid if problem.process else None,
        "what": problem.what,
        "error": problem.error,
        "remedy": problem.remedy,
    }


def _holder(holder: Holder) -> dict[str, Any]:
    return {
        "pid": holder.pid,
        "tid": holder.tid,
        "count": holder.count,
        "since_s": _rounded(holder.since_s),
        "certain": holder.certain,
        "evidence": holder.evidence,
        "stack": _stack(holder.stack),
        "site": holder.site,
    }


def _waiter(waiter: Waiter) -> dict[str, Any]:
    return {
        "pid": waiter.pid,
        "tid": waiter.tid,
        "for_s": _rounded(waiter.for_s),
        "evidence": waiter.evidence,
        "stack": _stack(waiter.stack),
        "site": waiter.site,
    }


def _statistics(statistics: Statistics | None) -> dict[str, Any] | None:
    if statistics is None:
        return None
    return {
        "acquired": statistics.acquired,
        "contended": statistics.contended,
        "failed": statistics.failed,
        "contention": _rounded(statistics.contention, 6),
        "wait": _durations(statistics.wait),
        "hold": _durations(statistics.hold),
        "sites": [{"site": site, **(_statistics(each) or {})} for site, each in statistics.sites],
    }


def _durations(durations: Durations) -> dict[str, Any]:
    return {
        "count": durations.count,
        "total_s": _rounded(durations.total_s, 9),
        "mean_s": _rounded(durations.mean_s, 9),
        "max_s": _rounded(durations.max_s, 9),
        "p50_s": _rounded(durations.p50_s, 9),
        "p95_s": _rounded(durations.p95_s, 9),
        "p99_s": _rounded(durations.p99_s, 9),
        "spread": [{"below_s": bound, "count": count} for bound, count in durations.spread],
    }


def event_json(event: TracedEvent) -> dict[str, Any]:
    """One line of `events --json`."""
    return {
        "t_s": _rounded(event.t_s, 9),
        "pid": event.process.pid,
        "tid": event.tid,
        "event": event.event,
        "lock": str(event.lock) if event.lock else None,
        "name": event.name,
        "wait_s": _rounded(event.wait_s, 9),
        "held_s": _rounded(event.held_s, 9),
        "site": event.site,
        "seq": event.sequence,
    }


def _thread_locks(snapshot: Snapshot) -> list[dict[str, Any]] | None:
    """Return None where they could not be read."""
    if not snapshot.thread_locks and snapshot.unread("private-locks"):
        return None
    return [_thread_lock(lock) for lock in snapshot.thread_locks]


def _thread_lock(lock: ThreadLock) -> dict[str, Any]:
    uses = [_use(use) for use in lock.processes]
    return {"name": lock.name, "kind": lock.kind, "processes": uses, "overlap": _overlap(lock.overlap)}


def _use(use: ThreadLockUse) -> dict[str, Any]:
    return {
        "pid": use.process.pid,
        "locked": use.locked,
        "holder": _holder(use.holder) if use.holder else None,
        "waiters": None if use.waiters is None else [_waiter(waiter) for waiter in use.waiters],
        "tasks": use.tasks,
    }


def _overlap(overlap: Overlap | None) -> dict[str, Any] | None:
    if overlap is None:
        return None
    return {
        "times": overlap.times,
        "most": overlap.most,
        "first_at": iso(overlap.first_at),
        "last_at": iso(overlap.last_at),
        "pids": [process.pid for process in overlap.processes],
    }


def _stack(stack: tuple[Frame, ...] | None) -> list[dict[str, Any]] | None:
    if stack is None:
        return None
    return [
        {"function": frame.function, "file": frame.file, "line": frame.line, "source": frame.source} for frame in stack
    ]


def _ids(semaphores: tuple[SemId, ...]) -> list[str]:
    return [str(semaphore) for semaphore in semaphores]


def _rounded(seconds: float | None, digits: int = 3) -> float | None:
    return None if seconds is None else round(seconds, digits)
