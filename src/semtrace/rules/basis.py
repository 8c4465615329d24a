"""Questions about a snapshot that several rules share. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.lazydata import dataclass
from semtrace.model import SEM_VALUE_MAX, Frame, Holder, Lock, Process, ProcessId, Snapshot, Waiter, is_own


@dataclass(frozen=True)
class Limits:
    """Limits above which holds and waits are reported, in seconds. `ignore` are names of locks that each worker may
    have for itself: these are not reported as unshared.
    """

    hold_s: float = 10.0
    wait_s: float = 10.0
    ignore: frozenset[str] = frozenset()


# What consumers of a queue do all day: one holds the read lock and waits for data, the others wait for that lock.
# Lib/multiprocessing/queues.py Queue.get, SimpleQueue.get; pool.py worker; concurrent/futures/process.py.
_READ_LOCK = "_rlock"
# Copies of multiprocessing have files of the same names.
_READERS = ("/queues.py", "/pool.py")
_INNER_FRAMES = 4


def is_reportable(lock: Lock) -> bool:
    """Return True for a lock that is certainly not meant to be held, or waited for, all the time.

    A queue's or a pool's own lock is one that readers keep and wait in all day. One without a name, or with a library's
    name only, may be such a lock: a stack shows whether it is. The user's own lock is reportable also if it is held
    over a get. A Semaphore may be a signal that somebody gives some day.
    """
    if lock.signal or lock.maximum in (None, SEM_VALUE_MAX):
        return False
    threads: tuple[Holder | Waiter, ...] = (*lock.holders, *lock.waiters)
    stacks = [each.stack for each in threads if each.stack]
    reads = any(_reads_a_queue(stack) for stack in stacks)
    if is_read_lock(lock) or (reads and (lock.part_of is not None or not lock.own)):
        return False
    return lock.name is not None or (bool(stacks) and not reads)


def is_read_lock(lock: Lock) -> bool:
    """Return True for the read lock of a queue: its reader keeps it while it waits for data."""
    attribute = lock.attribute or (lock.name or "").rpartition(".")[2]
    return lock.part_of is not None and attribute == _READ_LOCK


def _reads_a_queue(stack: Sequence[Frame]) -> bool:
    inner = (frame for frame in stack[:_INNER_FRAMES] if not is_own(frame.file))
    return any(frame.file.endswith(_READERS) and frame.function != "put" for frame in inner)


def unbroken_s(lock: Lock, holder: Holder) -> float | None:
    """Return for how long the holder has held it without a break; None if that is not known.

    `since_s`, which is the thread's, cannot tell one long hold from many short ones. But a thread that has not run has
    not taken it again. Nor has it if no waiter has run: a release wakes the longest waiter, and the holder itself would
    be woken only after all waiters.
    """
    if holder.since_s is None or holder.evidence == "events":
        return holder.since_s
    waits = [waiter.asleep_s for waiter in lock.waiters if not waiter.timed]
    shortest = min((seconds or 0.0 for seconds in waits), default=0.0)
    known = max(holder.asleep_s or 0.0, shortest)
    return min(known, holder.since_s) if known else None


def unbroken_wait_s(waiter: Waiter) -> float | None:
    return waiter.for_s if waiter.evidence == "events" else waiter.asleep_s


def longest_wait(lock: Lock, least_s: float) -> tuple[Waiter, float] | None:
    """Return the longest waiter and for how long it has waited without a break; None if for less than `least_s`."""
    longest = max(lock.waiters, key=lambda waiter: unbroken_wait_s(waiter) or 0.0, default=None)
    waited_s = unbroken_wait_s(longest) if longest is not None else None
    return None if longest is None or waited_s is None or waited_s < least_s else (longest, waited_s)


def processes(snapshot: Snapshot) -> dict[ProcessId, Process]:
    return {process.id: process for process in snapshot.processes}
