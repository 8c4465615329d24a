"""deadlock: threads that wait for each other, each for a lock that the next one holds; or one for its own.

The locks are multiprocessing's, and `threading` locks whose holder is proved. What this cannot know: whether another
thread or process means to release such a Lock for its holder, which only an RLock forbids. Where one was ever seen to
do that the holders are unknown, and nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from semtrace.model import (
    SEM_VALUE_MAX,
    Finding,
    Holder,
    Lock,
    ProcessId,
    SemId,
    Snapshot,
    ThreadLock,
    ThreadLockUse,
    Waiter,
)
from semtrace.rules.basis import Limits
from semtrace.rules.wording import at_least, label, place_of, thread
from semtrace.text import age, clean

# All of them asleep without a break for so long: then the claims that were read meanwhile were true at one time.
ASLEEP_S = 1.0

Thread = tuple[ProcessId, int]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A lock of either kind: `semaphore` is None of a `threading` lock, which is one process's own."""

    name: str
    semaphore: SemId | None
    process: ProcessId | None = None


@dataclass(frozen=True, slots=True)
class _Wait:
    """One thread, what it waits for, and the threads that hold that."""

    thread: Thread
    lock: _Wanted
    waiter: Waiter
    holders: tuple[Thread, ...]


def deadlock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    stuck = _stuck(snapshot)
    for cycle in _cycles(stuck):
        yield _finding([stuck[each] for each in cycle], stuck)


def deadlocked(snapshot: Snapshot) -> set[SemId]:
    """The ids of the locks that such threads wait for."""
    return {wait.lock.semaphore for wait in _stuck(snapshot).values() if wait.lock.semaphore is not None}


def _stuck(snapshot: Snapshot) -> dict[Thread, _Wait]:
    """The threads that can go on only if another of them does: of all that wait, those are left out, again and again,
    that wait for a lock with a holder who may go on.
    """
    single = {process.id for process in snapshot.processes if process.threads == 1}
    waits = {wait.thread: wait for lock in snapshot.locks for wait in _waits(lock, single)}
    for private in snapshot.thread_locks:
        waits.update((wait.thread, wait) for use in private.processes for wait in _private_waits(private, use))
    while True:
        left = {thread: wait for thread, wait in waits.items() if all(holder in waits for holder in wait.holders)}
        if len(left) == len(waits):
            return left
        waits = left


def _waits(lock: Lock, single: set[ProcessId]) -> Iterator[_Wait]:
    """The waits for a lock that may be without end; none where its holders are not known to the thread."""
    holders = [_thread_of(holder, single) for holder in lock.holders]
    known = [holder for holder in holders if holder is not None]
    if not holders or len(known) < len(holders) or not _accounts_for_all(lock):
        return
    wanted = _Wanted(label(lock), lock.id)
    for waiter in lock.waiters:
        if _is_endless(waiter):
            yield _Wait((waiter.process, waiter.tid), wanted, waiter, tuple(known))


def _private_waits(lock: ThreadLock, use: ThreadLockUse) -> Iterator[_Wait]:
    """Those in one process for its own copy of a `threading` lock."""
    if use.holder is None or use.holder.tid is None:
        return
    wanted = _Wanted(clean(lock.name), None, use.process)
    for waiter in use.waiters:
        if _is_endless(waiter):
            yield _Wait((waiter.process, waiter.tid), wanted, waiter, ((use.process, use.holder.tid),))


def _is_endless(waiter: Waiter) -> bool:
    return not waiter.timed and (waiter.asleep_s or 0.0) >= ASLEEP_S


def _thread_of(holder: Holder, single: set[ProcessId]) -> Thread | None:
    if holder.tid is not None:
        return holder.process, holder.tid
    return (holder.process, holder.pid) if holder.process in single else None


def _accounts_for_all(lock: Lock) -> bool:
    """True if nobody but the holders can give a unit back, as far as counts show it."""
    if lock.signal or lock.strays or lock.in_flux or lock.maximum in (None, SEM_VALUE_MAX) or lock.value != 0:
        return False
    if lock.maximum == 1:
        return len(lock.holders) == 1  # the count of an RLock is its depth
    return sum(holder.count for holder in lock.holders) == lock.maximum


def _cycles(stuck: Mapping[Thread, _Wait]) -> Iterator[list[Thread]]:
    """Each cycle once. Every stuck thread leads into one; most of them only wait behind it."""
    done: set[Thread] = set()
    for start in sorted(stuck):
        path: list[Thread] = []
        at = start
        while at not in done and at not in path:
            path.append(at)
            at = stuck[at].holders[0]
        if at in path:
            yield path[path.index(at) :]
        done.update(path)


def _finding(cycle: Sequence[_Wait], stuck: Mapping[Thread, _Wait]) -> Finding:
    locks = [wait.lock for wait in cycle]
    members = {wait.thread for wait in cycle}
    behind = [wait for thread_, wait in sorted(stuck.items()) if thread_ not in members and wait.lock in locks]
    slept = min(wait.waiter.asleep_s or 0.0 for wait in cycle)
    again = len(cycle) == 1
    return Finding(
        code="deadlock",
        severity="error",
        lock=next((lock.semaphore for lock in locks if lock.semaphore is not None), None),
        name=next((lock.name for lock in locks if lock.semaphore is not None), locks[0].name),
        pids=tuple(dict.fromkeys(wait.thread[0].pid for wait in (*cycle, *behind))),
        title=_title(cycle),
        evidence=(
            *_chain(cycle),
            f"{'it has not' if again else 'none of them has'} run for {age(slept)}: none can go on before another does",
            *([f"{len(behind)} more wait behind them"] if behind else []),
        ),
        remedy=_remedy(again, locks),
    )


def _title(cycle: Sequence[_Wait]) -> str:
    if len(cycle) == 1:
        (wait,) = cycle
        return f"{thread(*wait.thread)} waits for {wait.lock.name}, which it holds itself"
    names = ", ".join(wait.lock.name for wait in cycle)
    return f"{len(cycle)} threads wait for each other: {names}"


def _chain(cycle: Sequence[_Wait]) -> Iterator[str]:
    for at, wait in enumerate(cycle):
        before = cycle[at - 1].lock
        held = _called(before)
        what = "it" if wait.lock == before else _called(wait.lock)
        since = at_least(wait.waiter.for_s, wait.waiter.evidence)
        place = place_of(wait.waiter)
        yield f"{thread(*wait.thread)} holds {held} and waits for {what}{since}{f', at {place}' if place else ''}"


def _called(lock: _Wanted) -> str:
    return lock.name if lock.semaphore is not None else f"{lock.name} (a threading lock)"


def _remedy(again: bool, locks: Sequence[_Wanted]) -> str:
    shared = any(lock.semaphore is not None for lock in locks)
    cure = (
        f"Use {'a multiprocessing.RLock' if shared else 'a threading.RLock'}, or take it only once on the way"
        if again
        else "Take the locks in the same order everywhere"
    )
    if not shared:
        return f"{cure}. Now: restart that process; it takes no other's lock with it."
    return f"{cure}. Now: restart the server, for a worker that is killed leaves its lock locked behind."
