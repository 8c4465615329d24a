"""Make the waits of a snapshot: those for its locks, and of all else that its threads are blocked on. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from semtrace.lazydata import dataclass, replace
from semtrace.model import (
    SEM_VALUE_MAX,
    Doubt,
    Holder,
    Lock,
    ProcessId,
    Snapshot,
    Target,
    ThreadId,
    ThreadLock,
    ThreadLockUse,
    Wait,
    Waiter,
    WaitGraph,
    WaitKind,
    Wakers,
)
from semtrace.waits.graph import graph

# linux.process, after fs/proc/array.c task_state_array.
STOPPED = ("stopped", "tracing-stop")
_ENDED = ("zombie", "dead")

# Lib/multiprocessing/queues.py, pool.py: the reader of a queue keeps this lock while it waits for data.
_READ_LOCK = "_rlock"
_OF_QUEUES = (_READ_LOCK, "_wlock")

# A process outside the server is never stuck, however many of its threads are known to wait.
_ANY_NUMBER = 1 << 30


@dataclass(frozen=True)
class _Server:
    """Facts of the whole server: processes of one thread, PIDs that cannot be read, processes that handle signals,
    those that read a pipe for work, and the stopped ones.
    """

    single: frozenset[ProcessId]
    blind: tuple[int, ...]
    handlers: frozenset[ProcessId]
    reading: frozenset[ProcessId]
    stopped: frozenset[ProcessId]
    assume_asked: bool


def wait_graph(snapshot: Snapshot, *, assume_asked: bool = False) -> WaitGraph:
    """Judge all waits of a snapshot.

    With `assume_asked` a lock counts as mapped by the server alone where nobody asked the other processes yet: what is
    stuck then is worth the question.
    """
    if not _has_waits(snapshot):
        return WaitGraph()
    stopped = stopped_processes(snapshot)
    server = _Server(
        frozenset(process.id for process in snapshot.processes if process.threads == 1),
        tuple(problem.process.pid for problem in snapshot.problems if problem.process),
        snapshot.handlers,
        frozenset(
            each.thread.process for each in snapshot.blocked if each.idle and each.target.kind is WaitKind.PIPE_READ
        )
        - stopped,
        stopped,
        assume_asked,
    )
    waits = [wait for lock in snapshot.semaphores for wait in _lock_waits(lock, server)]
    waits += [wait for lock in snapshot.thread_locks for use in lock.processes for wait in _private_waits(lock, use)]
    others = {wait.thread: wait for wait in snapshot.blocked}
    # A manager's thread waits for its client: that says more than the private lock that it sleeps in.
    waits = [wait for wait in waits if not _is_managed(others.get(wait.thread))]
    known = {wait.thread for wait in waits}
    waits = [_with_sleep(wait, others[wait.thread]) if wait.thread in others else wait for wait in waits]
    waits += [_asked(wait) if assume_asked else wait for wait in snapshot.blocked if wait.thread not in known]
    waits = [_with_alarm(wait) if _may_be_interrupted(wait, snapshot) else wait for wait in waits]
    return graph(waits, _living(snapshot), stopped)


def _has_waits(snapshot: Snapshot) -> bool:
    """Nobody waits in most refreshes."""
    uses = (use for lock in snapshot.thread_locks for use in lock.processes)
    waited = any(lock.waiters for lock in snapshot.semaphores) or any(use.waiters for use in uses)
    return waited or bool(snapshot.blocked)


def _may_be_interrupted(wait: Wait, snapshot: Snapshot) -> bool:
    """Return True for a wait that a timeout by signal.alarm or setitimer may end: its handler, which raises, runs in
    the first thread (Modules/signalmodule.c).
    """
    return wait.thread.process in snapshot.alarms and wait.thread.tid == wait.pid and not wait.timed


def _with_alarm(wait: Wait) -> Wait:
    known = wait.wakers.doubt not in (None, Doubt.UNASKED)
    wakers = wait.wakers if known else replace(wait.wakers, doubt=Doubt.ALARM, pids=(wait.pid,))
    return replace(wait, wakers=wakers, bound=False)


def _is_managed(wait: Wait | None) -> bool:
    return wait is not None and wait.target.kind is WaitKind.MANAGER_LOCK


def _with_sleep(wait: Wait, seen: Wait) -> Wait:
    """Return the wait with what is known of the thread's sleep from before the lock was."""
    asleep_s = max(wait.asleep_s or 0.0, seen.asleep_s or 0.0) or None
    return replace(wait, asleep_s=asleep_s, for_s=max(wait.for_s or 0.0, asleep_s or 0.0))


def _asked(wait: Wait) -> Wait:
    unasked = wait.wakers.doubt is Doubt.UNASKED
    return replace(wait, wakers=replace(wait.wakers, doubt=None)) if unasked else wait


def stopped_processes(snapshot: Snapshot) -> frozenset[ProcessId]:
    """Return the processes that can do nothing until somebody continues them."""
    return frozenset(process.id for process in snapshot.processes if process.state in STOPPED or process.frozen)


def _living(snapshot: Snapshot) -> dict[ProcessId, int]:
    outside = {process: _ANY_NUMBER for lock in snapshot.semaphores for process in lock.mapped_by}
    outside |= {process: _ANY_NUMBER for wait in snapshot.blocked for process in wait.wakers.processes}
    outside |= Counter(wait.thread.process for wait in snapshot.blocked if wait.thread.process in snapshot.programs)
    ended = {process.id for process in snapshot.processes if process.state in _ENDED}
    members = {process.id: process.threads for process in snapshot.processes}
    return {process: count for process, count in (outside | members).items() if process not in ended}


def _lock_waits(lock: Lock, server: _Server) -> Iterator[Wait]:
    if not lock.waiters:
        return
    signal = is_signal(lock)
    holders = None if signal and not _is_semaphore(lock) else _known_holders(lock, server)
    bound = bool(holders) and not signal and _is_bound(lock)
    loose = bool(holders) and not bound and any(holder.process not in server.single for holder in lock.holders)
    target = Target(
        WaitKind.SIGNAL if signal else WaitKind.SHARED_LOCK,
        lock.label,
        lock.id,
        part_of=lock.part_of,
        attribute=lock.attribute,
        named=lock.name is not None,
        units=None if lock.signal or lock.part_of or lock.maximum == SEM_VALUE_MAX else lock.maximum,
    )
    wakers = _wakers(lock, server, signal)
    # To wait for a queue's read lock is to wait for work, as long as there is a reader who has it and can go on.
    lost = lock.state == "orphaned" or lock.proof_needs_rights
    readers = {holder.process for holder in lock.holders} - server.stopped
    reads = not lost and (bool(readers) or not server.reading.isdisjoint(lock.mapped_by))
    for waiter in lock.waiters:
        idle = reads and (waiter.idle or target.attribute == _READ_LOCK)
        yield _wait(replace(waiter, idle=idle), target, wakers, holders, bound, loose)


def is_signal(lock: Lock) -> bool:
    """Return True for a semaphore that others than its takers give units to. Waiting for one excludes nobody."""
    return lock.signal or lock.maximum not in (None, 1)


def _is_semaphore(lock: Lock) -> bool:
    return not lock.signal and lock.part_of is None


def _wakers(lock: Lock, server: _Server, signal: bool) -> Wakers:
    if lock.state == "orphaned":
        return Wakers()
    if server.blind:
        return Wakers((), lock.mapped_by, Doubt.UNREADABLE, server.blind)
    if lock.outsiders:
        return Wakers((), lock.mapped_by, Doubt.OUTSIDER, lock.outsiders)
    if signal and (able := server.handlers.intersection(lock.mapped_by)):
        return Wakers((), lock.mapped_by, Doubt.HANDLER, tuple(sorted(process.pid for process in able)))
    unasked = lock.outsiders is None and not server.assume_asked
    return Wakers((), lock.mapped_by, Doubt.UNASKED if unasked else None)


def _known_holders(lock: Lock, server: _Server) -> tuple[ThreadId, ...] | None:
    """Return the threads that hold all of it, None if they are not all known."""
    found = [_thread_of(holder, server.single) if holder.certain else None for holder in lock.holders]
    known = tuple(dict.fromkeys(holder for holder in found if holder is not None))
    return known if known and None not in found and _accounts_for_all(lock) else None


def _thread_of(holder: Holder, single: Collection[ProcessId]) -> ThreadId | None:
    if holder.tid is not None:
        return ThreadId(holder.process, holder.tid)
    return ThreadId(holder.process, holder.pid) if holder.process in single else None


def _accounts_for_all(lock: Lock) -> bool:
    """Return True if nobody but the holders can give a unit back, as far as counts show it."""
    if lock.strays or lock.in_flux or lock.maximum is None or lock.value != 0:
        return False
    if lock.maximum == SEM_VALUE_MAX:
        return lock.part_of is None
    if lock.maximum == 1:
        return len(lock.holders) == 1  # the count of an RLock is its depth
    return sum(holder.count for holder in lock.holders) == lock.maximum


def _is_bound(lock: Lock) -> bool:
    """Return True if only the holder can release it, or surely means to. The locks of a queue are no gates; those of a
    Condition or Event may be (`Condition.release`), and whether a bare Lock is one of either may be a guess.
    """
    return lock.kind == "RLock" or lock.attribute in _OF_QUEUES or all(holder.within for holder in lock.holders)


def _private_waits(lock: ThreadLock, use: ThreadLockUse) -> Iterator[Wait]:
    """Yield the waits of one process for its own copy of a `threading` lock: a proved holder is its only waker."""
    if not use.waiters:
        return
    target = Target(WaitKind.PRIVATE_LOCK, lock.name, process=use.process, address=use.address)
    holder = use.holder
    known = None if holder is None or holder.tid is None else (ThreadId(use.process, holder.tid),)
    bound = holder is not None and holder.within
    wakers = Wakers(known) if known and bound else Wakers((), (use.process,))
    for waiter in use.waiters:
        yield _wait(waiter, target, wakers, known, bound, loose=False)


def _wait(
    waiter: Waiter, target: Target, wakers: Wakers, holders: tuple[ThreadId, ...] | None, bound: bool, loose: bool
) -> Wait:
    return Wait(
        ThreadId(waiter.process, waiter.tid),
        target,
        waiter.timed,
        wakers,
        waiter.asleep_s,
        waiter.for_s,
        holders,
        bound,
        loose,
        waiter.stack,
        waiter.in_handler,
        waiter.idle,
        waiter.evidence,
        waiter.site,
    )
