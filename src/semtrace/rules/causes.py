"""Explain why threads are stuck, as far as the evidence shows, and how to write it instead. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from semtrace.model import (
    Advice,
    ClientEnded,
    ClientMayHaveEnded,
    Fact,
    FreeElsewhere,
    HeldBy,
    Hold,
    InHandler,
    Inherited,
    Inside,
    LeftInParent,
    LockedInParent,
    LockedSinceFork,
    NobodyElse,
    OnlyOwnProcess,
    PoolTerminated,
    PoolWithoutThreads,
    ProcessId,
    ResultsNotTaken,
    Root,
    RootKind,
    SleeperDied,
    Snapshot,
    Target,
    ThreadId,
    ThreadRef,
    UnfinishedTasks,
    Wait,
    WaiterHolds,
    WaitersHoldUnits,
    WaitKind,
    WaitsInCallback,
)
from semtrace.rules.counts import inherited_counts
from semtrace.rules.deadlocks import cure_of_reentry
from semtrace.rules.greenlets import may_hold
from semtrace.rules.knots import target_ref, thread_ref

# Semaphores inside a Condition (Lib/multiprocessing/synchronize.py Condition.__init__), and of a JoinableQueue
# (queues.py JoinableQueue.__init__).
_WOKEN, _UNFINISHED = "_woken_count", "_unfinished_tasks"

# Where the threads of an executor wait for work: Lib/concurrent/futures, 3.8 to 3.15.
_FUTURE, _EXECUTORS = "concurrent.futures.", ("concurrent/futures/thread.py", "concurrent/futures/process.py")

# Lib/multiprocessing/managers.py AcquirerProxy: the method that a client of a Manager's lock waits in.
_ACQUIRE = "acquire"

# Advice for locks that the program did not make and so cannot make again after a fork.
_AT_FORK: Mapping[Inside, Advice] = {
    Inside.FILE: Advice.NO_WRITE_AT_FORK,
    Inside.LOGGING: Advice.NO_LOG_AT_FORK,
    Inside.IMPORT: Advice.NO_IMPORT_AT_FORK,
}

# Of many processes with copies of one lock the first are evidence enough.
_FEW = 4


def is_private_signal(wait: Wait) -> bool:
    return wait.target.kind is WaitKind.SIGNAL and wait.target.semaphore is None


def waits_for_pool(root: Root) -> bool:
    return all(is_private_signal(wait) for wait in root.waits) and any(wait.pool for wait in root.waits)


def cause(
    roots: Sequence[Root], waits: Sequence[Wait], snapshot: Snapshot
) -> tuple[tuple[Fact, ...], tuple[Advice, ...]]:
    """Return the facts that show why, and how to write it instead."""
    handlers = [wait for wait in waits if wait.in_handler]
    if handlers:
        return tuple(InHandler(thread_ref(each)) for each in handlers[:_FEW]), (Advice.NOT_IN_HANDLER,)
    if waits_for_pool(roots[0]) and (of_pool := _pool_cause(waits)):
        return of_pool
    if all(wait.target.kind is WaitKind.PRIVATE_LOCK for wait in waits):
        return _private_cause(waits, snapshot)
    if all(wait.target.kind is WaitKind.MANAGER_LOCK for wait in waits):
        return _manager_cause(waits), (Advice.WAIT_WITH_TIMEOUT,)
    if any(wait.target.attribute == _WOKEN for wait in waits):
        return (SleeperDied(),), (Advice.WAIT_WITH_TIMEOUT,)
    unfinished = [count for wait in waits for count in _unfinished(wait.target, snapshot)]
    if unfinished:
        return (UnfinishedTasks(unfinished[0]),), (Advice.TASK_DONE_IN_FINALLY,)
    if copied := _copied_counts(waits, snapshot):
        return copied, (Advice.PARENT_FORKS_WITHOUT,)
    holders = {holder for wait in waits for holder in wait.holders or ()}
    if holders and roots[0].kind is RootKind.RING:
        return _ring_cause(holders, waits, snapshot)
    able = tuple(dict.fromkeys(process for wait in waits for process in _able(wait)))
    if all(is_private_signal(wait) and _able(wait) == (wait.thread.process,) for wait in waits):
        alone = tuple(NobodyElse((each,)) for each in able[:_FEW])
        left = _left_in_parent(waits, snapshot)
        return (*alone, *left), (Advice.START_AFTER_FORK if left else Advice.WAIT_FOR_THREADS_WITH_TIMEOUT,)
    return (NobodyElse(able),), (Advice.WAIT_WITH_TIMEOUT,)


def _able(wait: Wait) -> tuple[ProcessId, ...]:
    """Return the processes that could end the wait, each once."""
    return tuple(dict.fromkeys((*(each.process for each in wait.wakers.threads), *wait.wakers.processes)))


def _left_in_parent(waits: Sequence[Wait], snapshot: Snapshot) -> tuple[Fact, ...]:
    """Return which threads of executors the parent has, where a process that waits for a Future was forked from it and
    has one thread. Other waits are left out: nothing shows that threads of the parent would have ended them.
    """
    single = {process.id for process in snapshot.processes if process.threads == 1}
    children: dict[ProcessId, dict[ProcessId, None]] = {}
    for wait in waits:
        future = (wait.target.part_of or "").startswith(_FUTURE)
        if future and wait.forked_from is not None and wait.thread.process in single:
            children.setdefault(wait.forked_from, {})[wait.thread.process] = None
    found = []
    for parent, forked in children.items():
        others = {
            each.thread
            for each in snapshot.waits.waits
            if each.thread.process == parent
            and any(frame.file.endswith(_EXECUTORS) for frame in each.stack or ())
            and each.thread.tid != each.pid
        }
        if others:
            found.append(LeftInParent(tuple(forked), parent, len(others)))
    return tuple(found)


def _pool_cause(waits: Sequence[Wait]) -> tuple[tuple[Fact, ...], tuple[Advice, ...]] | None:
    """Return why no thread brings the result of a Pool's job, None if the threads for that are there."""
    results = [wait for wait in waits if wait.pool and not wait.wakers.processes]
    if within := [wait for wait in results if wait.thread in wait.wakers.threads]:
        return tuple(WaitsInCallback(thread_ref(wait)) for wait in within[:_FEW]), (Advice.NO_WAIT_IN_CALLBACK,)
    lost = [wait for wait in results if not wait.wakers.threads and wait.wakers.doubt is None]
    processes = tuple(dict.fromkeys(wait.thread.process for wait in lost))
    if not lost:
        return None
    if any(wait.pool.terminated for wait in lost if wait.pool):
        return (PoolTerminated(processes),), (Advice.RESULTS_BEFORE_TERMINATE,)
    if not any(wait.pool.handlers for wait in lost if wait.pool):
        return (PoolWithoutThreads(processes),), (Advice.OWN_POOL,)
    return (ResultsNotTaken(processes),), (Advice.SEE_POOLS_EXCEPTION,)


def _ring_cause(
    holders: Collection[ThreadId], waits: Sequence[Wait], snapshot: Snapshot
) -> tuple[tuple[Fact, ...], tuple[Advice, ...]]:
    """Return which of the threads that wait for each other hold the units, or the lock, that the others wait for."""
    if all(wait.target.semaphore and wait.target.kind is WaitKind.SIGNAL for wait in waits):
        members = tuple(thread_ref(wait) for wait in waits if wait.thread in holders)
        return (WaitersHoldUnits(members),), (Advice.TAKE_UNITS_BY_WITH,)
    at = {wait.thread: thread_ref(wait) for wait in waits}
    held = {
        WaiterHolds(at[holder], lock): None
        for wait in waits
        for holder in wait.holders or ()
        if holder in at and (lock := target_ref(wait.target, snapshot)) is not None
    }
    at_import = any(wait.target.inside is Inside.IMPORT for wait in waits)
    return tuple(held), (Advice.NO_WAIT_AT_IMPORT if at_import else Advice.NOT_WHILE_HOLDING,)


def _copied_counts(waits: Sequence[Wait], snapshot: Snapshot) -> tuple[Fact, ...]:
    """Return which processes count a shared lock as held that they did not take."""
    wanted = {wait.target.semaphore for wait in waits}
    for lock in snapshot.semaphores:
        strays = inherited_counts(lock, snapshot) if lock.id in wanted else []
        if strays:
            certain = all(stray.certain for stray in strays)
            return (Inherited(tuple(stray.process for stray in strays), certain, lock.maximum),)
    return ()


def _private_cause(waits: Sequence[Wait], snapshot: Snapshot) -> tuple[tuple[Fact, ...], tuple[Advice, ...]]:
    """Return why a private lock, or its copies in several processes, stay locked: whether the parent holds it too, and
    where it is free.
    """
    again = [wait for wait in waits if wait.thread in (wait.holders or ())]
    if again:
        held = tuple(Hold(ThreadRef(wait.thread.process, wait.thread.tid), None) for wait in again)
        greenlets = may_hold(snapshot.server, [again[0].stack])
        return (HeldBy(held), *greenlets), (cure_of_reentry(False, snapshot.server, again[0].stack),)
    owners = {wait.thread.process for wait in waits}
    threads = {process.id: process.threads for process in snapshot.processes}
    facts: list[Fact] = [OnlyOwnProcess(each, threads.get(each, 1)) for each in sorted(owners)[:_FEW]]
    inside = next((wait.target.inside for wait in waits if wait.target.inside), None)
    at_fork = _AT_FORK.get(inside, Advice.NEW_AFTER_FORK) if inside else Advice.NEW_AFTER_FORK
    parents = [LockedInParent(*wait.parent_copy) for wait in waits if wait.parent_copy and wait.parent_copy[1]]
    if parents:
        return (*facts, parents[0]), (at_fork,)
    names = {wait.target.name for wait in waits if wait.target.named}
    uses = [use for lock in snapshot.thread_locks if lock.name in names for use in lock.processes]
    inherited = tuple(use.process for use in uses if use.inherited and use.process in owners)
    if inherited:
        return (*facts, LockedSinceFork(inherited, workers=False)), (at_fork,)
    free = tuple(use.process for use in uses if not use.locked and use.process not in owners)
    facts += [*([FreeElsewhere(free)] if free else ()), *may_hold(snapshot.server, [wait.stack for wait in waits])]
    return tuple(facts), (at_fork if inside else Advice.RELEASE_IN_FINALLY,)


def _manager_cause(waits: Sequence[Wait]) -> tuple[Fact, ...]:
    """Return what is known of the holder of a Manager's lock: that it ended, or who may release it."""
    able = tuple(dict.fromkeys(process for wait in waits for process in wait.wakers.processes))
    if any(not wait.wakers.threads and not wait.wakers.processes for wait in waits):
        return (ClientEnded(),)
    return (*unrecorded(waits), NobodyElse(able))


def unrecorded(waits: Sequence[Wait]) -> tuple[Fact, ...]:
    """Say of a Manager's lock that has no known holder who may have had it."""
    taken = (
        wait.target.kind is WaitKind.MANAGER_LOCK and wait.target.attribute == _ACQUIRE and not wait.holders
        for wait in waits
    )
    return (ClientMayHaveEnded(),) if all(taken) else ()


def _unfinished(target: Target, snapshot: Snapshot) -> Iterator[int]:
    """Yield the number of unfinished tasks of the JoinableQueue that this is a signal of."""
    if target.kind is not WaitKind.SIGNAL or target.part_of is None:
        return
    for lock in snapshot.semaphores:
        if lock.part_of == target.part_of and lock.attribute == _UNFINISHED and lock.value:
            yield lock.value
