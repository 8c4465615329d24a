"""orphaned-lock: a lock whose holder died without a release."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.model import (
    Advice,
    DeadByFile,
    DeadHolder,
    DeathCause,
    DiedOf,
    Elapsed,
    EndedOtherwise,
    EndUnknown,
    Fact,
    Finding,
    FindingCode,
    HolderNotSeen,
    KilledByTimeout,
    LastHolder,
    LastSeen,
    Lock,
    MayHaveHeld,
    ProcessId,
    Remedy,
    Server,
    Snapshot,
    ThreadRef,
    TimeoutKills,
    UnitsLost,
    VerdictReason,
)
from semtrace.rules.basis import Limits
from semtrace.rules.evidence import holding, lock_ref, waiting, waiting_threads

# gunicorn sends SIGABRT at its timeout and SIGKILL a second later, and looking sees a lower bound.
_NEARLY = 0.8
_FAR_LESS = 0.5

# A hold that began so long after the watching did was seen from its beginning: its length is known, not a lower bound.
_BEFORE_S = 1.0
_FEW_DEATHS = 3


def orphaned_lock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield locks that the verdict has proved orphaned."""
    for lock in snapshot.semaphores:
        if lock.state != "orphaned":
            continue
        preview = Advice.PREVIEW_RELEASE_TO_WAITERS if lock.waiters else Advice.PREVIEW_RELEASE
        torn = [Advice.MESSAGE_MAY_BE_TORN] if _guards_messages(lock) else []
        yield Finding(
            code=FindingCode.ORPHANED_LOCK,
            severity="error",
            locks=(lock_ref(lock),),
            threads=waiting_threads(lock),
            facts=(*_reason(lock), *_end(lock, snapshot), *waiting(lock)),
            remedy=Remedy((preview, Advice.DATA_NOT_REPAIRED, *torn), release_command(snapshot.server, lock)),
        )


def _guards_messages(lock: Lock) -> bool:
    """Return True for a queue's own locks: they guard a pipe, in which messages lie one behind the other
    (Lib/multiprocessing/connection.py Connection._send_bytes).
    """
    return lock.part_of is not None and (lock.name or "").endswith(("._rlock", "._wlock"))


def seems_orphaned(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield locks that only root can prove to be orphaned."""
    for lock in snapshot.semaphores:
        if not lock.proof_needs_rights:
            continue
        yield Finding(
            code=FindingCode.ORPHANED_LOCK,
            severity="warning",
            locks=(lock_ref(lock),),
            threads=waiting_threads(lock),
            facts=(*_reason(lock), *_end(lock, snapshot), *waiting(lock)),
            remedy=Remedy((Advice.ASK_AS_ROOT,), ("semtrace", "doctor", str(snapshot.server.pid)), as_root=True),
        )


def lost_unit(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield BoundedSemaphores that have lost a unit because its taker died.

    An unproved loss is reported only if it lasts: a thread that has just taken a unit may not have counted it yet.
    """
    for lock in snapshot.semaphores:
        lost = lock.lost
        if lost is None or lock.signal or lock.strays or not (lost.proved or (lost.for_s or 0.0) >= limits.wait_s):
            continue
        yield Finding(
            code=FindingCode.ORPHANED_LOCK,
            severity="warning",
            locks=(lock_ref(lock),),
            threads=waiting_threads(lock),
            facts=(
                *_reason(lock),
                UnitsLost(lost.units, lock.maximum or 0, lost.proved, lost.for_s),
                *(_by_its_file(lock.dead_holder, snapshot) if lock.dead_holder else []),
                *holding(lock),
                *waiting(lock),
            ),
            remedy=Remedy((Advice.RESTART_FOR_UNITS,)),
        )


def release_command(server: Server, lock: Lock) -> tuple[str, ...]:
    """Return the command, with the lock's name if only this lock has it and a terminal can show it."""
    unique = lock.name is not None and lock.separate == 1 and lock.name.isprintable()
    return "semtrace", "release", str(server.pid), lock.name if unique and lock.name else str(lock.id)


def _reason(lock: Lock) -> list[Fact]:
    return [VerdictReason(lock.reason)] if lock.reason else []


def _end(lock: Lock, snapshot: Snapshot) -> Iterator[Fact]:
    """Yield when the holder ended and how, by the best evidence there is: its state file, or the snapshots before."""
    if lock.dead_holder is not None:
        return _by_its_file(lock.dead_holder, snapshot)
    last = lock.last_holder
    if last is None or last.ended_s is None:  # a process that lives has released it
        return _not_seen(lock, snapshot)
    return _last_seen(last, last.ended_s, snapshot)


def _by_its_file(dead: DeadHolder, snapshot: Snapshot) -> Iterator[Fact]:
    """Yield when the holder ended. The start of its hold is exact; its end lies between two snapshots, or before the
    first.
    """
    yield DeadByFile(dead.process, dead.alive_s, dead.gone_s, snapshot.watched_s)
    if (seen := _certificate(dead.process, snapshot)) is not None:
        yield seen
        return
    if dead.alive_s is None or dead.gone_s is None:
        least_s, most_s = None, dead.acquired_s - snapshot.watched_s
    else:
        least_s, most_s = dead.acquired_s - dead.alive_s, dead.acquired_s - dead.gone_s
    how = _how(least_s, most_s, snapshot)
    if how is not None:
        yield how
    elif snapshot.server.kind == "gunicorn":
        yield EndUnknown()


def _last_seen(last: LastHolder, ended_s: float, snapshot: Snapshot) -> Iterator[Fact]:
    held = Elapsed(last.unbroken_s) if last.unbroken_s else Elapsed(last.held_s, "samples") if last.held_s else None
    yield LastSeen(ThreadRef(last.process, last.tid), last.seen_s, held, ended_s)
    if (seen := _certificate(last.process, snapshot)) is not None:
        yield seen
        return
    if last.held_s is None:
        return
    timeout_s = _timeout_s(snapshot)
    if timeout_s is not None and last.silent_s is not None and last.silent_s >= _NEARLY * timeout_s:
        yield KilledByTimeout(timeout_s, last.silent_s)
        return
    from_its_beginning = last.seen_s + last.held_s < snapshot.watched_s - _BEFORE_S
    how = _how(last.unbroken_s, last.held_s if from_its_beginning else None, snapshot)
    if how is not None:
        yield how


def _certificate(process: ProcessId, snapshot: Snapshot) -> DiedOf | None:
    """Return how it ended, where that was seen."""
    known = (each for each in snapshot.deaths if each.id == process and each.cause is not DeathCause.UNKNOWN)
    return next((DiedOf(each.id, each.cause, each.exit_code, each.silent_s) for each in known), None)


def _how(least_s: float | None, most_s: float | None, snapshot: Snapshot) -> Fact | None:
    """Return how it ended, by the least and most time that it had held the lock, as far as they are known."""
    timeout_s = _timeout_s(snapshot)
    if timeout_s is None:
        return None
    if least_s is not None and least_s >= _NEARLY * timeout_s:
        return KilledByTimeout(timeout_s)
    return EndedOtherwise(timeout_s) if most_s is not None and most_s < _FAR_LESS * timeout_s else None


def _not_seen(lock: Lock, snapshot: Snapshot) -> Iterator[Fact]:
    if lock.statistics is None:  # else the lock was traced, and its reason says who died with it
        yield HolderNotSeen()
        if ended := _ended_before(lock, snapshot):
            yield MayHaveHeld(ended)
    timeout_s = _timeout_s(snapshot)
    if timeout_s is not None:
        yield TimeoutKills(timeout_s)


def _ended_before(lock: Lock, snapshot: Snapshot) -> tuple[DiedOf, ...]:
    """Return the last processes of the server that ended before the lock was proved orphaned, if that was watched."""
    since_s = lock.orphaned_s or 0.0
    before = sorted((each for each in snapshot.deaths if each.ended_s >= since_s), key=lambda each: each.ended_s)
    return tuple(DiedOf(each.id, each.cause, each.exit_code, each.silent_s) for each in before[:_FEW_DEATHS])


def _timeout_s(snapshot: Snapshot) -> float | None:
    """Return gunicorn's --timeout if a holder may have died of it. None without a timeout, where threads hold locks
    while the worker beats (gunicorn/workers/gthread.py), and where the server is younger than it.
    """
    server = snapshot.server
    if server.kind != "gunicorn" or not server.timeout_s or server.worker_class == "gthread":
        return None
    return server.timeout_s if snapshot.taken_at - server.started_at >= server.timeout_s else None
