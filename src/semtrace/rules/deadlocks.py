"""deadlock: threads that wait for each other, each for a lock that the next one holds; or one for its own.

The locks are multiprocessing's, and `threading` locks whose holder is proved. It is an error where none can go on, a
warning where that depends on what only the program knows: whether another process means to release a Lock for its
taker, as of a gate or a baton. An RLock forbids that, and who is inside `with` a Lock will release it itself.

- One that waits for the Lock it took: an error if it is inside `with` it, or if every process that could release it is
  stuck as well. By bare acquire() it looks the same as waiting at a gate: a warning.
- Several in a ring: an error, for each of them was given what it holds and asks for what another has, which gates and
  batons do not come to by themselves. Where the program was ever seen to release Locks for others: a warning.
- Where a process has several threads, which of them took a Lock is no more than who asked for it: a thread of a pool
  acquires for another, that releases it (asyncio.to_thread). Without `with` it takes a long wait, and is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from semtrace.model import (
    SEM_VALUE_MAX,
    Advice,
    Asleep,
    Behind,
    Elapsed,
    Fact,
    Finding,
    FindingCode,
    HandsLocksOver,
    Holder,
    Lock,
    LockRef,
    MayBeGate,
    OutsiderMayRelease,
    ProcessId,
    Remedy,
    RingLink,
    SemId,
    Server,
    Snapshot,
    ThreadLock,
    ThreadLockUse,
    ThreadMayRelease,
    ThreadRef,
    Waiter,
)
from semtrace.rules.basis import Limits
from semtrace.rules.evidence import lock_ref, private_ref, thread_ref, waited

# All of them asleep without a break for so long: then the claims that were read meanwhile were true at one time.
ASLEEP_S = 1.0
LOOSE_S = 10.0

Thread = tuple[ProcessId, int]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A lock of either kind. `bound`: its holder alone can release it, or surely means to. `loose`: which thread of
    the holding process means to is not known. `outsiders` are processes outside the server that may release it.
    """

    ref: LockRef
    mapped_by: tuple[ProcessId, ...]
    bound: bool
    loose: bool = False
    outsiders: tuple[int, ...] = ()

    @property
    def semaphore(self) -> SemId | None:
        """Return None of a `threading` lock, which is one process's own."""
        return self.ref.id


@dataclass(frozen=True, slots=True)
class Wait:
    """One thread, what it waits for, and the threads that hold that."""

    thread: Thread
    lock: _Wanted
    waiter: Waiter
    holders: tuple[Thread, ...]


def deadlock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    stuck = stuck_threads(snapshot)
    handed = _handed_over(snapshot)
    for cycle in cycles(stuck):
        waits = [stuck[each] for each in cycle]
        doubt = _doubt_of_one(waits[0], stuck, snapshot) if len(waits) == 1 else _doubt_of_ring(waits, handed)
        yield _finding(waits, stuck, snapshot.server, doubt)


def _doubt_of_one(wait: Wait, stuck: Mapping[Thread, Wait], snapshot: Snapshot) -> list[Fact]:
    """Return why a thread that waits for its own lock may go on; nothing where it cannot."""
    single = {process.id for process in snapshot.processes if process.threads == 1}
    able = [each for each in wait.lock.mapped_by if each not in single or (each, each.pid) not in stuck]
    blind = any(problem.process for problem in snapshot.problems)
    if wait.lock.bound or not (able or blind or wait.lock.outsiders):
        return []
    others = (*(each.pid for each in able if each != wait.thread[0]), *wait.lock.outsiders)
    return [MayBeGate(others, own_thread=wait.lock.loose)]


def _doubt_of_ring(cycle: Sequence[Wait], handed: Sequence[Lock]) -> list[Fact]:
    """The same of several: the program may be one that hands Locks from process to process, or thread to thread."""
    if loose := next((wait.lock for wait in cycle if wait.lock.loose), None):
        return [ThreadMayRelease(loose.ref)]
    if outside := next((wait.lock for wait in cycle if wait.lock.outsiders and not wait.lock.bound), None):
        return [OutsiderMayRelease(outside.outsiders, outside.ref)]
    if not handed or all(wait.lock.bound for wait in cycle):
        return []
    return [HandsLocksOver(tuple(map(lock_ref, handed[:2])))]


def _handed_over(snapshot: Snapshot) -> list[Lock]:
    """The Locks that were seen to be released for another."""
    locks = (lock for lock in snapshot.locks if lock.maximum == 1 and not lock.signal)
    return [lock for lock in locks if any(stray.count < 0 for stray in lock.strays)]


def deadlocked(snapshot: Snapshot) -> set[SemId]:
    """The ids of the locks that such threads wait for."""
    return {wait.lock.semaphore for wait in stuck_threads(snapshot).values() if wait.lock.semaphore is not None}


def stuck_threads(snapshot: Snapshot, semaphores: bool = False) -> dict[Thread, Wait]:
    """The threads that can go on only if another of them does: of all that wait, those are left out, again and again,
    that wait for a lock with a holder who may go on. With `semaphores` a Semaphore without units is taken for a lock.
    """
    single = {process.id for process in snapshot.processes if process.threads == 1}
    waits = {wait.thread: wait for lock in snapshot.locks for wait in _waits(lock, single, semaphores)}
    for private in snapshot.thread_locks:
        waits.update((wait.thread, wait) for use in private.processes for wait in _private_waits(private, use))
    while True:
        left = {thread: wait for thread, wait in waits.items() if all(holder in waits for holder in wait.holders)}
        if len(left) == len(waits):
            return left
        waits = left


def _waits(lock: Lock, single: set[ProcessId], semaphores: bool) -> Iterator[Wait]:
    """The waits for a lock that may be without end; none where its holders are not known to the thread."""
    holders = [_thread_of(holder, single) if holder.certain else None for holder in lock.holders]
    known = [holder for holder in holders if holder is not None]
    if not holders or len(known) < len(holders) or not _accounts_for_all(lock, semaphores):
        return
    bound = lock.kind == "RLock" or all(holder.within for holder in lock.holders)
    loose = not bound and any(holder.process not in single for holder in lock.holders)
    wanted = _Wanted(lock_ref(lock), lock.mapped_by, bound, loose, lock.outsiders or ())
    for waiter in lock.waiters:
        if _is_endless(waiter, LOOSE_S if loose else ASLEEP_S):
            yield Wait((waiter.process, waiter.tid), wanted, waiter, tuple(known))


def _private_waits(lock: ThreadLock, use: ThreadLockUse) -> Iterator[Wait]:
    """Those in one process for its own copy of a `threading` lock."""
    if use.holder is None or use.holder.tid is None:
        return
    wanted = _Wanted(private_ref(lock, use.process), (use.process,), bound=True)
    for waiter in use.waiters or ():
        if _is_endless(waiter):
            yield Wait((waiter.process, waiter.tid), wanted, waiter, ((use.process, use.holder.tid),))


def _is_endless(waiter: Waiter, least_s: float = ASLEEP_S) -> bool:
    return not waiter.timed and (waiter.asleep_s or 0.0) >= least_s


def _thread_of(holder: Holder, single: set[ProcessId]) -> Thread | None:
    if holder.tid is not None:
        return holder.process, holder.tid
    return (holder.process, holder.pid) if holder.process in single else None


def _accounts_for_all(lock: Lock, semaphores: bool) -> bool:
    """True if nobody but the holders can give a unit back, as far as counts show it."""
    if lock.signal or lock.strays or lock.in_flux or lock.maximum is None or lock.value != 0:
        return False
    if lock.maximum == SEM_VALUE_MAX:
        return semaphores and lock.part_of is None
    if lock.maximum == 1:
        return len(lock.holders) == 1  # the count of an RLock is its depth
    return sum(holder.count for holder in lock.holders) == lock.maximum


def cycles(stuck: Mapping[Thread, Wait]) -> Iterator[list[Thread]]:
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


def _finding(cycle: Sequence[Wait], stuck: Mapping[Thread, Wait], server: Server, doubt: list[Fact]) -> Finding:
    locks = [wait.lock for wait in cycle]
    members = {wait.thread for wait in cycle}
    behind = [wait for thread, wait in sorted(stuck.items()) if thread not in members and wait.lock in locks]
    slept = min(wait.waiter.asleep_s or 0.0 for wait in cycle)
    again = len(cycle) == 1
    return Finding(
        code=FindingCode.DEADLOCK,
        severity="warning" if doubt else "error",
        locks=tuple(dict.fromkeys(lock.ref for lock in locks)),
        threads=tuple(map(waiting_thread, (*cycle, *behind))),
        facts=(
            *(link(wait, cycle[at - 1], took=bool(doubt)) for at, wait in enumerate(cycle)),
            Asleep(len(cycle), slept, for_ever=not doubt),
            *doubt,
            *([Behind(len(behind), of_one=again)] if behind else []),
        ),
        remedy=Remedy(tuple(_advice(again, locks, server, bool(doubt)))),
        since=Elapsed(slept),
    )


def waiting_thread(wait: Wait) -> ThreadRef:
    return thread_ref(wait.waiter)


def link(wait: Wait, before: Wait, *, took: bool) -> RingLink:
    """Return one link of a ring: the thread holds what the one `before` it waits for."""
    return RingLink(waiting_thread(wait), before.lock.ref, wait.lock.ref, waited(wait.waiter), took)


def _advice(again: bool, locks: Sequence[_Wanted], server: Server, doubtful: bool) -> Iterator[Advice]:
    shared = any(lock.semaphore is not None for lock in locks)
    if doubtful:
        yield Advice.FINE_IF_RELEASED
    yield _cure_of_reentry(shared, server) if again else Advice.SAME_ORDER
    if not doubtful:
        yield Advice.RESTART_SERVER if shared else Advice.RESTART_PROCESS


def _cure_of_reentry(shared: bool, server: Server) -> Advice:
    """To an RLock all greenlets of a process are one thread: it lets the second in while the first is inside."""
    kind = server.worker_class
    if kind is not None and ("gevent" in kind or "eventlet" in kind):
        return Advice.NO_RLOCK_FOR_GREENLETS
    if kind is None:
        return Advice.USE_SHARED_RLOCK_NO_GREENLETS if shared else Advice.USE_THREADING_RLOCK_NO_GREENLETS
    return Advice.USE_SHARED_RLOCK if shared else Advice.USE_THREADING_RLOCK
