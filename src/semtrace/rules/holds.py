"""timeout-risk, long-hold, long-wait, contention: locks that work, but keep people waiting."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.model import Finding, Holder, Lock, Process, ProcessId, Snapshot
from semtrace.rules.basis import Limits, longest_wait, processes, unbroken_s, worth_a_word
from semtrace.rules.counts import inherited_counts
from semtrace.rules.deadlocks import deadlocked
from semtrace.rules.wording import at_least, holding, label, thread, waiting, waiting_pids, where
from semtrace.text import age, clean, counted, exact

# An idle worker of class sync beats every half timeout: gunicorn/workers/sync.py, gunicorn/arbiter.py spawn_worker.
_LATE = 0.125
_MOST_LATE_S = 1.0
_HELD_S = 1.0

# linux.process, after fs/proc/array.c task_state_array.
_STOPPED = ("stopped", "tracing-stop")

# Contention is worth a line when on average so many threads waited, all the time that was watched.
_CROWD = 1.0
_WATCHED_S = 1.0
_MOST_CONTENDED = 3
_AT_WORK = "It does its work; if that is too slow, hold it for less time or use several locks."
_AGAIN = (
    "All this time it was one and the same hold: watch for longer to see whether it ends.\n"
    "semtrace doctor {pid} --for 15"
)


def keeps_waiting(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """At most one finding a lock, the most serious."""
    known = processes(snapshot)
    explained = deadlocked(snapshot)
    crowded = []
    for lock in snapshot.locks:
        if lock.id in explained or lock.state == "orphaned" or lock.barred or not worth_a_word(lock):
            continue
        found = _stopped(lock, known) or _timeout_risk(lock, snapshot, known) or _long_hold(lock, limits)
        if found is None and not inherited_counts(lock, snapshot):  # which tells who waits, and why
            found = _long_wait(lock, limits, snapshot.server.pid)
        if found is not None:
            yield found
        elif (
            _is_in_use(lock)
            and not lock.strays
            and snapshot.watched_s >= _WATCHED_S
            and lock.waited_s >= _CROWD * snapshot.watched_s
        ):
            crowded.append(lock)
    for lock in sorted(crowded, key=lambda lock: -lock.waited_s)[:_MOST_CONTENDED]:
        yield _contention(lock, snapshot)


def _stopped(lock: Lock, known: dict[ProcessId, Process]) -> Finding | None:
    """A holder that is stopped lets nobody in until it is continued, however short its hold would have been."""
    for holder in lock.sure_holders if lock.waiters else ():
        process = known.get(holder.process)
        if process is not None and process.state in _STOPPED:
            return Finding(
                code="long-hold",
                severity="warning",
                lock=lock.id,
                name=label(lock),
                pids=(holder.pid,),
                title=f"PID {holder.pid}, which holds {label(lock)}, is stopped: nobody gets in until it is continued",
                evidence=(*holding(lock), *waiting(lock)),
                remedy="A debugger, Ctrl-Z or kill -STOP stopped it. If nobody is at work on it, kill -CONT "
                f"{holder.pid} lets it go on.",
            )
    return None


def _is_in_use(lock: Lock) -> bool:
    """False where it may be that nobody has it, whose waiters wait in vain. One in flux does its work."""
    return lock.orphaned_s is None and (lock.state != "unknown" or lock.in_flux)


def _timeout_risk(lock: Lock, snapshot: Snapshot, known: dict[ProcessId, Process]) -> Finding | None:
    timeout_s = snapshot.server.timeout_s
    if snapshot.server.kind != "gunicorn" or not timeout_s:
        return None
    for holder in lock.sure_holders:
        process = known.get(holder.process)
        if process is not None and process.role == "worker" and _may_be_killed(holder, process, snapshot, timeout_s):
            return _killed_finding(lock, holder, process, timeout_s)
    return None


def _may_be_killed(holder: Holder, process: Process, snapshot: Snapshot, timeout_s: float) -> bool:
    """The master kills by the heartbeat alone. Where none can be seen the class must be one that does not beat while it
    works.
    """
    held_s, beat_s = holder.since_s or 0.0, process.last_heartbeat_s
    if beat_s is None:
        return snapshot.server.worker_class == "sync" and held_s >= timeout_s / 2
    late_s = min(_LATE * timeout_s, _MOST_LATE_S)
    return beat_s >= timeout_s / 2 + late_s and held_s >= min(timeout_s / 2, _HELD_S)


def _killed_finding(lock: Lock, holder: Holder, process: Process, timeout_s: float) -> Finding:
    beat_s = process.last_heartbeat_s
    silent = f"its last heartbeat was {age(beat_s)} ago; gunicorn kills it at {timeout_s:g} s (--timeout)"
    unseen = f"gunicorn kills a worker that is busy for {timeout_s:g} s (--timeout)"
    return Finding(
        code="timeout-risk",
        severity="warning",
        lock=lock.id,
        name=label(lock),
        pids=(holder.pid,),
        title=f"gunicorn will soon kill PID {holder.pid}, which holds {label(lock)}",
        evidence=(*holding(lock), unseen if beat_s is None else silent, *waiting(lock)),
        remedy="A holder that is killed may leave the lock locked for ever: hold it for less time, not over calls that "
        "may block, or raise --timeout.",
    )


def _long_hold(lock: Lock, limits: Limits) -> Finding | None:
    """Of a library's own lock only where somebody waits: to keep it may be what it is for, as of loky's, which a worker
    is given when it may exit.
    """
    if not lock.own and not lock.waiters:
        return None
    for holder in lock.sure_holders:
        held_s = unbroken_s(lock, holder)
        if held_s is not None and held_s >= limits.hold_s:
            return Finding(
                code="long-hold",
                severity="warning",
                lock=lock.id,
                name=label(lock),
                pids=(holder.pid,),
                title=f"{thread(holder.process, holder.tid)} has held {label(lock)}"
                f"{at_least(held_s, holder.evidence)} without a break",
                evidence=(*where([holder]), *waiting(lock)),
                remedy="Do under the lock only what must be done under it. See what that thread is doing.\n"
                f"semtrace dump --stacks {holder.pid}",
            )
    return None


def _long_wait(lock: Lock, limits: Limits, server: int) -> Finding | None:
    found = longest_wait(lock, limits.wait_s)
    if found is None:
        return None
    longest, waited_s = found
    unknown = [f"who holds it is not known: {lock.reason}"] if lock.state == "unknown" and lock.reason else []
    return Finding(
        code="long-wait",
        severity="warning",
        lock=lock.id,
        name=label(lock),
        pids=waiting_pids(lock),
        title=f"{thread(longest.process, longest.tid)} has waited for {label(lock)}"
        f"{at_least(waited_s, longest.evidence)}",
        evidence=(*unknown, *holding(lock), *waiting(lock)),
        remedy="Give acquire a timeout where a request can fail instead, and see what all do meanwhile.\n"
        f"semtrace dump --stacks {server}",
    )


def _contention(lock: Lock, snapshot: Snapshot) -> Finding:
    crowd = lock.waited_s / snapshot.watched_s
    return Finding(
        code="contention",
        severity="info",
        lock=lock.id,
        name=label(lock),
        pids=waiting_pids(lock),
        title=f"{crowd:.1f} threads at a time waited for {label(lock)}",
        evidence=(
            f"{age(lock.waited_s)} of waiting, summed over all threads, in {age(snapshot.watched_s)}",
            *_statistics(lock),
            *holding(lock),
            *waiting(lock),
        ),
        remedy=_AGAIN.format(pid=snapshot.server.pid) if _one_hold(lock, snapshot) else _AT_WORK,
    )


def _one_hold(lock: Lock, snapshot: Snapshot) -> bool:
    """Whether it has had no other holder since the watching began."""
    return any((unbroken_s(lock, holder) or 0.0) >= snapshot.watched_s for holder in lock.holders)


def _statistics(lock: Lock) -> Iterator[str]:
    """What traced locks counted themselves."""
    counts = lock.statistics
    if counts is None or not counts.contention:
        return
    yield (
        f"{counts.contention:.0%} of {counted(counts.acquired, 'acquire')} had to wait, {exact(counts.wait.mean_s)} on "
        f"average, {exact(counts.wait.max_s)} at most"
    )
    for site, held in [each for each in counts.sites if each[1].hold.count][:3]:
        yield f"held {exact(held.hold.mean_s)} on average from {clean(site)}, {exact(held.hold.total_s)} in all"
