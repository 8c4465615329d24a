"""long-wait for a Semaphore. It does not keep its initial number, so it may be a lock that somebody has to release, or
a signal that may still come. It is reported only on more evidence than the wait itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from semtrace.model import (
    SEM_VALUE_MAX,
    Advice,
    Elapsed,
    Fact,
    Finding,
    FindingCode,
    Lock,
    Remedy,
    RootKind,
    SemaphoreMayBeLock,
    SemaphoresInRing,
    SemId,
    Snapshot,
    TakerDied,
    TakerGone,
    ThreadRef,
    Wait,
)
from semtrace.rules.basis import Limits, longest_wait
from semtrace.rules.deadlocks import link, ring_of
from semtrace.rules.evidence import known, lock_ref, longest_first, waiting
from semtrace.rules.knots import is_deadlock, target_refs, thread_ref


def semaphore_wait(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield warnings, never errors. A signal has no taker that ended, and its waiters are in no ring of takers.

    A consumer counts what it took of a signal, too; but its producer then counts below 0, and nobody is a holder.
    """
    semaphores = {lock.id for lock in snapshot.semaphores if _is_plain_semaphore(lock)}
    if not semaphores:
        return
    for lock in snapshot.semaphores:
        given = any(stray.count < 0 for stray in lock.strays)
        if lock.id in semaphores and lock.state == "exhausted" and not lock.holders and not given:
            yield from _holder_ended(lock, limits)
    for root in snapshot.waits.roots:
        if root.kind is RootKind.RING and not root.proven and not is_deadlock(root):
            yield from _ring(ring_of(root), semaphores, snapshot, limits)


def _is_plain_semaphore(lock: Lock) -> bool:
    return lock.maximum == SEM_VALUE_MAX and not lock.signal and lock.part_of is None


def _holder_ended(lock: Lock, limits: Limits) -> Iterator[Finding]:
    """All units are gone, and the last who was seen to have one ended with it."""
    found = longest_wait(lock, limits.wait_s)
    if found is None or found[0].timed:
        return
    longest, waited_s = found
    end: Fact
    last, dead = lock.last_holder, lock.dead_holder
    if dead is not None:
        end = TakerDied(dead.process, dead.acquired_s)
    elif last is not None and last.ended_s is not None:
        end = TakerGone(ThreadRef(last.process, last.tid), last.seen_s, last.ended_s)
    else:
        return
    yield Finding(
        code=FindingCode.LONG_WAIT,
        severity="warning",
        locks=(lock_ref(lock),),
        threads=longest_first(lock, longest),
        facts=(end, SemaphoreMayBeLock(), *waiting(lock)),
        remedy=Remedy((Advice.LOCK_INSTEAD_OF_SEMAPHORE,)),
        since=known(waited_s, longest.evidence),
    )


def _ring(cycle: Sequence[Wait], semaphores: set[SemId], snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Several who took a unit each and wait for the next one's. Who waits for what it took itself is a consumer."""
    found = [wait.target for wait in cycle if wait.target.semaphore in semaphores]
    waited_s = min(wait.asleep_s or 0.0 for wait in cycle)
    if not found or len(cycle) < 2 or waited_s < limits.wait_s:
        return
    links = (link(wait, cycle[at - 1], snapshot, took=True) for at, wait in enumerate(cycle))
    yield Finding(
        code=FindingCode.LONG_WAIT,
        severity="warning",
        locks=target_refs((found[0], *(wait.target for wait in cycle)), snapshot),
        threads=tuple(map(thread_ref, cycle)),
        facts=(*(each for each in links if each is not None), SemaphoresInRing(len(found))),
        remedy=Remedy((Advice.SAME_ORDER, Advice.LOCKS_INSTEAD_OF_SEMAPHORES)),
        since=Elapsed(waited_s),
    )
