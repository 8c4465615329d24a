"""References and facts that several rules make from a snapshot's values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from semtrace.model import (
    Elapsed,
    Fact,
    HeldBy,
    Hold,
    Holder,
    Lock,
    LockRef,
    ProcessId,
    ThreadLock,
    ThreadRef,
    WaitedFor,
    Waiter,
    place_of,
)
from semtrace.model import Evidence as Source
from semtrace.rules.basis import unbroken_s, unbroken_wait_s


def lock_ref(lock: Lock) -> LockRef:
    """Name it; a part without its own name by what it is a part of."""
    name = f"{lock.part_of}:{lock.id.inode}" if lock.name is None and lock.part_of is not None else lock.label
    return LockRef(lock.id, name, lock.kind)


def private_ref(lock: ThreadLock, process: ProcessId | None = None) -> LockRef:
    """Name the private lock, or the copy of one process."""
    return LockRef(None, lock.name, lock.kind, process)


def thread_ref(each: Holder | Waiter) -> ThreadRef:
    return ThreadRef(each.process, each.tid, place_of(each))


def process_refs(processes: Iterable[ProcessId]) -> tuple[ThreadRef, ...]:
    return tuple(map(ThreadRef, processes))


def waiting_threads(lock: Lock) -> tuple[ThreadRef, ...]:
    return tuple(map(thread_ref, lock.waiters))


def longest_first(lock: Lock, longest: Waiter) -> tuple[ThreadRef, ...]:
    """Return all that wait, the one first that has waited the longest."""
    others = (waiter for waiter in lock.waiters if waiter is not longest)
    return tuple(map(thread_ref, (longest, *others)))


def known(seconds: float | None, source: Source = "memory") -> Elapsed | None:
    """Return the duration, exact where events report it; None where nothing is known."""
    return None if seconds is None else Elapsed(seconds, "exact" if source == "events" else "at-least")


def waited(waiter: Waiter) -> Elapsed | None:
    """Return for how long the thread is known to have waited without a break."""
    return known(unbroken_wait_s(waiter), waiter.evidence)


def waiting(lock: Lock) -> Iterator[Fact]:
    """Yield who waits and for how long; nothing where nobody does."""
    if lock.waiters:
        longest = max(lock.waiters, key=lambda waiter: (unbroken_wait_s(waiter) or 0.0, waiter.for_s or 0.0))
        since = _elapsed(unbroken_wait_s(longest), longest.for_s, longest.evidence)
        yield WaitedFor(waiting_threads(lock), since)


def holding(lock: Lock) -> Iterator[Fact]:
    """Yield who holds it and for how long; nothing where nobody is known to."""
    if lock.holders:
        yield HeldBy(tuple(_hold(lock, holder) for holder in lock.holders))


def _hold(lock: Lock, holder: Holder) -> Hold:
    since = _elapsed(unbroken_s(lock, holder), holder.since_s, holder.evidence)
    return Hold(thread_ref(holder), since, holder.certain)


def _elapsed(sure_s: float | None, seen_s: float | None, source: Source) -> Elapsed | None:
    """Return the least duration; if samples cannot tell one long from many short ones, how long they saw it so."""
    if sure_s or not seen_s:
        return known(sure_s or None, source)
    return Elapsed(seen_s, "samples")
