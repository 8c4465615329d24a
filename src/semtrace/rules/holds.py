"""timeout-risk, long-hold, long-wait, contention: locks that work, but keep people waiting."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.model import (
    Advice,
    At,
    Beat,
    BetweenRequests,
    Contended,
    Crowd,
    Fact,
    Finding,
    FindingCode,
    Holder,
    HolderUnknown,
    Lock,
    Process,
    ProcessId,
    Remedy,
    RootKind,
    SemId,
    Server,
    Snapshot,
    is_own,
)
from semtrace.rules.basis import Limits, is_reportable, longest_wait, processes, unbroken_s
from semtrace.rules.counts import inherited_counts
from semtrace.rules.evidence import holding, known, lock_ref, longest_first, thread_ref, waiting, waiting_threads
from semtrace.rules.greenlets import has_greenlets, may_hold
from semtrace.rules.knots import explained as explained_locks
from semtrace.waits.build import is_signal

# An idle worker of class sync beats every half timeout: gunicorn/workers/sync.py, gunicorn/arbiter.py spawn_worker.
_LATE = 0.125
_MOST_LATE_S = 1.0
_HELD_S = 1.0

# Contention is worth a line when on average so many threads waited, all the time that was watched.
_CROWD = 1.0
_WATCHED_S = 1.0
_MOST_CONTENDED = 3

# In this function a worker of class sync waits for its next request: gunicorn/workers/sync.py, 19.9 to 27. Who serves
# several requests at once has no such place, for the code that holds may be suspended.
_LOOPS = (("gunicorn/workers/sync.py", "wait"), ("/socketserver.py", "serve_forever"))
# A request or job that has just ended may be about to release.
_ENDED_S = 1.0


def keeps_waiting(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield the most serious finding about each lock."""
    present = processes(snapshot)
    explained = explained_locks(snapshot) | _waits_for_stopped(snapshot)
    crowded = []
    for lock in snapshot.semaphores:
        if lock.id in explained or lock.state == "orphaned" or lock.proof_needs_rights or not is_reportable(lock):
            continue
        found = (
            _unreleased(lock, snapshot, present)
            or _timeout_risk(lock, snapshot, present)
            or _long_hold(lock, limits, snapshot.server)
        )
        # Units of a semaphore may come back from others than their takers, and inherited counts tell who waits and why.
        if found is None and not is_signal(lock) and not inherited_counts(lock, snapshot):
            found = _long_wait(lock, limits, snapshot.server)
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


def _waits_for_stopped(snapshot: Snapshot) -> set[SemId | None]:
    """Return the locks whose holder is stopped: the rule `stopped` reports those."""
    roots = (root for root in snapshot.waits.roots if root.kind is RootKind.STOPPED)
    return {target.semaphore for root in roots for target in root.targets}


def _is_in_use(lock: Lock) -> bool:
    """Return False for a lock that may have no holder, so that its waiters wait endlessly. One in flux is in use."""
    return lock.orphaned_s is None and (lock.state != "unknown" or lock.in_flux)


def _timeout_risk(lock: Lock, snapshot: Snapshot, present: dict[ProcessId, Process]) -> Finding | None:
    timeout_s = snapshot.server.timeout_s
    if snapshot.server.kind != "gunicorn" or not timeout_s:
        return None
    for holder in lock.sure_holders:
        process = present.get(holder.process)
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
    return Finding(
        code=FindingCode.TIMEOUT_RISK,
        severity="warning",
        locks=(lock_ref(lock),),
        threads=(thread_ref(holder),),
        facts=(*holding(lock), Beat(process.last_heartbeat_s, timeout_s), *waiting(lock)),
        remedy=Remedy((Advice.AVOID_KILL,)),
    )


def _unreleased(lock: Lock, snapshot: Snapshot, present: dict[ProcessId, Process]) -> Finding | None:
    """Others wait for a lock whose holder has left the code that took it."""
    longest = longest_wait(lock, _ENDED_S)
    if longest is None or _is_internal(lock) or is_signal(lock):
        return None
    idle = {wait.thread.process for wait in snapshot.waits.waits if wait.idle}
    for holder in lock.sure_holders:
        process, held_s = present.get(holder.process), unbroken_s(lock, holder) or 0.0
        if process is not None and held_s >= _ENDED_S and _is_between_requests(holder, process, idle, snapshot.server):
            return Finding(
                code=FindingCode.LONG_HOLD,
                severity="warning",
                locks=(lock_ref(lock),),
                threads=(thread_ref(holder), *waiting_threads(lock)),
                facts=(BetweenRequests(thread_ref(holder), holder.site), *waiting(lock)),
                remedy=Remedy((Advice.RELEASE_IN_FINALLY,)),
                since=known(held_s, holder.evidence),
            )
    return None


def _is_between_requests(holder: Holder, process: Process, idle: set[ProcessId], server: Server) -> bool:
    frames = holder.stack or ()
    if (
        process.threads != 1
        or holder.within
        or has_greenlets(server, [frames])
        or any(is_own(frame.file) for frame in frames)
    ):
        return False
    in_loop = any(frame.file.endswith(file) and frame.function == name for frame in frames for file, name in _LOOPS)
    return holder.process in idle or (in_loop and bool(process.idle))


def _is_internal(lock: Lock) -> bool:
    return not lock.own or lock.name is None or lock.name.rpartition(".")[2].startswith("_")


def _long_hold(lock: Lock, limits: Limits, server: Server) -> Finding | None:
    """Return a finding about a long hold. A library's own lock needs a waiter: long holds may be its purpose, as of
    loky's, which a worker gets when it may exit.
    """
    if _is_internal(lock) and not lock.waiters:
        return None
    for holder in lock.sure_holders:
        held_s = unbroken_s(lock, holder)
        if held_s is not None and held_s >= limits.hold_s:
            return Finding(
                code=FindingCode.LONG_HOLD,
                severity="warning",
                locks=(lock_ref(lock),),
                threads=(thread_ref(holder),),
                facts=(At((thread_ref(holder),)), *may_hold(server, [holder.stack]), *waiting(lock)),
                remedy=Remedy((Advice.HOLD_SHORTER,), ("semtrace", "dump", "--stacks", str(holder.pid))),
                since=known(held_s, holder.evidence),
            )
    return None


def _long_wait(lock: Lock, limits: Limits, server: Server) -> Finding | None:
    found = longest_wait(lock, limits.wait_s)
    if found is None:
        return None
    longest, waited_s = found
    unknown = [HolderUnknown(lock.reason)] if lock.state == "unknown" and lock.reason else []
    return Finding(
        code=FindingCode.LONG_WAIT,
        severity="warning",
        locks=(lock_ref(lock),),
        threads=longest_first(lock, longest),
        facts=(*unknown, *holding(lock), *may_hold(server, [longest.stack]), *waiting(lock)),
        remedy=Remedy((Advice.SET_TIMEOUT,), ("semtrace", "dump", "--stacks", str(server.pid))),
        since=known(waited_s, longest.evidence),
    )


def _contention(lock: Lock, snapshot: Snapshot) -> Finding:
    longer = ("semtrace", "doctor", str(snapshot.server.pid), "--for", "15")
    one_hold = _one_hold(lock, snapshot)
    return Finding(
        code=FindingCode.CONTENTION,
        severity="note",
        locks=(lock_ref(lock),),
        threads=waiting_threads(lock),
        facts=(Crowd(lock.waited_s, snapshot.watched_s), *_statistics(lock), *holding(lock), *waiting(lock)),
        remedy=Remedy((Advice.WATCH_LONGER,), longer) if one_hold else Remedy((Advice.LESS_CONTENTION,)),
    )


def _one_hold(lock: Lock, snapshot: Snapshot) -> bool:
    """Return True if it has had no other holder since the watching began."""
    return any((unbroken_s(lock, holder) or 0.0) >= snapshot.watched_s for holder in lock.holders)


def _statistics(lock: Lock) -> Iterator[Fact]:
    """Yield the counters of a traced lock."""
    if lock.statistics is not None and lock.statistics.contention:
        yield Contended(lock.statistics)
