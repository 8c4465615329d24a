"""inherited-hold, over-release: counts that do not fit what was taken and given back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from semtrace.model import (
    SEM_VALUE_MAX,
    AboveMaximum,
    Advice,
    AllWaitThemselves,
    Fact,
    Finding,
    FindingCode,
    Inherited,
    Lock,
    OverReleased,
    Remedy,
    RLockKeepsCount,
    Snapshot,
    Stray,
)
from semtrace.rules.basis import Limits, is_read_lock
from semtrace.rules.evidence import holding, lock_ref, process_refs, waiting
from semtrace.rules.knots import explained
from semtrace.waits.graph import ASLEEP_S


def inherited_hold(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Processes that count a hold which is another's: what a fork copies with the memory of the holder."""
    stuck_locks = explained(snapshot)
    for lock in snapshot.semaphores:
        strays = inherited_counts(lock, snapshot)
        if not strays or lock.id in stuck_locks:  # the finding about those who are stuck says it then
            continue
        processes = tuple(stray.process for stray in strays)
        stuck = _all_wait(lock, strays, snapshot)
        cure = (Advice.MASTER_FORKS_WITHOUT, Advice.RESTART_TO_CLEAR)
        yield Finding(
            code=FindingCode.INHERITED_HOLD,
            severity="warning",
            locks=(lock_ref(lock),),
            threads=process_refs(processes),
            facts=(
                Inherited(processes, all(stray.certain for stray in strays), lock.maximum),
                *([RLockKeepsCount()] if lock.kind == "RLock" else []),
                *stuck,
                *_still_holding(lock),
                *waiting(lock),
            ),
            remedy=Remedy((Advice.CANNOT_BE_RELEASED, *cure) if stuck else cure),
        )


def inherited_counts(lock: Lock, snapshot: Snapshot) -> list[Stray]:
    """The counts of processes that may have inherited them: whose parents have the lock too. Without such a parent a
    count that stays is left by one who takes what others release.
    """
    strays = [stray for stray in lock.strays if stray.count > 0]
    if not strays:
        return []
    if is_read_lock(lock):
        return []  # a thread that reads a queue keeps it all the time, and the children only write
    if lock.signal or lock.maximum == SEM_VALUE_MAX or len(strays) < len(lock.strays):
        return []
    parents = {process.id: process.ppid for process in snapshot.processes}
    mapping = {process.pid for process in lock.mapped_by}
    return [stray for stray in strays if parents.get(stray.process) in mapping]


def _still_holding(lock: Lock) -> Iterator[Fact]:
    """Yield who holds it, if that has not run meanwhile: a hold that may be over by now is not reported as one."""
    if all(holder.asleep_s or holder.evidence == "events" for holder in lock.holders):
        yield from holding(lock)


def _all_wait(lock: Lock, strays: Sequence[Stray], snapshot: Snapshot) -> list[Fact]:
    """Return a fact if every process that counts it as held waits for it endlessly with its only thread. The one that
    took it cannot release it then. This is not a proof: a process outside the server may still release it.
    """
    if lock.state != "unknown" or lock.value != 0 or lock.maximum != 1 or lock.in_flux or lock.holders:
        return []
    single = {process.id for process in snapshot.processes if process.threads == 1}
    slept = {
        waiter.process: waiter.asleep_s
        for waiter in lock.waiters
        if waiter.process in single and not waiter.timed and waiter.asleep_s and waiter.asleep_s >= ASLEEP_S
    }
    asleep = [slept.get(stray.process) for stray in strays]
    if not all(asleep):
        return []
    return [AllWaitThemselves(min(filter(None, asleep)))]


def _handed_to_children(below: Sequence[Stray], lock: Lock, snapshot: Snapshot) -> bool:
    """Return True if each that released too often is a child of a process that maps the lock, and not a gunicorn
    worker. A parent may take it for the child to release.
    """
    known = {process.id: process for process in snapshot.processes}
    mapping = {process.pid for process in lock.mapped_by}
    children = [known[stray.process] for stray in below if stray.process in known]
    return all(child.role == "process" and child.ppid in mapping for child in children)


def over_release(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """A Lock given back by one who had not taken it: then two may be inside. It is a note where a parent may have
    handed it to its child. Of a Semaphore that is a way to use it.
    """
    for lock in snapshot.semaphores:
        below = [stray for stray in lock.strays if stray.count < 0] if lock.maximum == 1 else []
        above = lock.value is not None and lock.maximum is not None and lock.value > lock.maximum
        if lock.signal or not (below or above):
            continue
        yield Finding(
            code=FindingCode.OVER_RELEASE,
            severity="warning" if above or not _handed_to_children(below, lock, snapshot) else "note",
            locks=(lock_ref(lock),),
            threads=process_refs(stray.process for stray in below),
            facts=(
                *([AboveMaximum(lock.value or 0, lock.maximum or 0)] if above else []),
                *(OverReleased(stray.process, -stray.count) for stray in below),
                *waiting(lock),
            ),
            remedy=Remedy((Advice.RELEASE_ONLY_AFTER_ACQUIRE,)),
        )
