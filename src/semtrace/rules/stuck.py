"""stuck, stopped, worker-died: threads that nothing which lives can wake, and why. The wait graph finds them.

A deadlock and an orphaned lock are reported as such. What is left hangs on a signal that nobody can give any more, on a
private lock that nobody can release, or on a stopped process.

- A thread that is parked in a private signal (`threading.Event().wait()` at the end of a main program) is no harm by
  itself: it is reported only if it is a worker's first thread, or if others wait for it to end or to release.
- A cause is named only if the evidence excludes the others: "locked since the fork" takes a parent that was seen to
  hold the same lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from semtrace.lazydata import replace
from semtrace.model import (
    Advice,
    Behind,
    ChildEnded,
    ClientEnded,
    ClientMayHaveEnded,
    Doubt,
    Elapsed,
    Fact,
    Finding,
    FindingCode,
    FreeElsewhere,
    HeldBy,
    Hold,
    InHandler,
    Inherited,
    LockedInParent,
    LockedSinceFork,
    MayStillWake,
    NobodyElse,
    OnlyOwnProcess,
    PoolWithoutThreads,
    ProcessId,
    Remedy,
    Root,
    RootKind,
    SleeperDied,
    Snapshot,
    Stopped,
    Target,
    ThreadId,
    ThreadRef,
    UnfinishedTasks,
    Wait,
    WaiterHolds,
    WaitersHoldUnits,
    WaitKind,
    WorkersBlocked,
    YoungerWorker,
)
from semtrace.rules.basis import Limits
from semtrace.rules.counts import inherited_counts
from semtrace.rules.deadlocks import cure_of_reentry
from semtrace.rules.knots import blocked, is_deadlock, target_ref, target_refs, thread_ref
from semtrace.waits.build import stopped_processes
from semtrace.waits.workers import serving_waits_by_worker, worker_states, workers

# Semaphores inside a Condition (Lib/multiprocessing/synchronize.py Condition.__init__), and of a JoinableQueue
# (queues.py JoinableQueue.__init__).
_WOKEN, _UNFINISHED = "_woken_count", "_unfinished_tasks"

# Where a thread waits for the result of a job that it gave to a Pool: Lib/multiprocessing/pool.py ApplyResult.wait,
# IMapIterator.next, 3.8 to 3.15; billiard and multiprocess have copies.
_POOL, _RESULTS = "/pool.py", ("wait", "get", "next")

# A pool starts its workers together. One that is so much younger took the place of another.
_LATER_S = 0.5
# A result may be on its way for a moment.
_LOST_S = 1.0

# In these a main thread is parked while others work (Lib/threading.py).
_PARKING = (None, "threading.Event", "threading.Condition")

_COPIED = (WaitKind.PRIVATE_LOCK, WaitKind.MANAGER_LOCK)

# Lib/multiprocessing/managers.py AcquirerProxy: the method that a client of a Manager's lock waits in.
_ACQUIRE = "acquire"

# Of many stopped workers the first are evidence enough.
_FEW = 4

_ENDS = (WaitKind.PROCESS_END, WaitKind.THREAD_END)


def stuck(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield a finding for each cause, the copies of one private lock together."""
    together: dict[object, list[Root]] = {}
    for root in snapshot.waits.roots:
        if root.proven and not is_deadlock(root) and not _is_orphan(root, snapshot) and _matters(root, snapshot):
            together.setdefault(_cause_key(root), []).append(root)
    for roots in together.values():
        lost = _waits_for_pool(roots[0]) and not _pools_without_threads(roots[0].waits, snapshot)
        yield _worker_died(roots, snapshot) if lost else _stuck(roots, snapshot)
    if not together:
        yield from _all_workers(snapshot, limits)
    yield from _lost_results(snapshot, [root for roots in together.values() for root in roots])


def stopped(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield each stopped process that threads wait for, then the stopped workers that none waits for."""
    told: set[ProcessId] = set()
    for root in snapshot.waits.roots:
        awake = [wait for wait in root.waits if not wait.idle]
        near = awake or list(root.behind)
        if root.kind is RootKind.STOPPED and near:
            told.update(root.stopped)
            yield Finding(
                code=FindingCode.STOPPED,
                severity="warning",
                locks=target_refs((wait.target for wait in root.waits), snapshot),
                threads=(*map(ThreadRef, root.stopped), *map(thread_ref, near)),
                facts=(*map(Stopped, root.stopped), *blocked(near), *(_behind(root) if awake else ())),
                remedy=Remedy((Advice.CONTINUE_STOPPED,), ("kill", "-CONT", *(str(each.pid) for each in root.stopped))),
                since=Elapsed(root.since_s),
            )
    yield from _stopped_workers(snapshot, told)


def _stopped_workers(snapshot: Snapshot, told: Collection[ProcessId]) -> Iterator[Finding]:
    """Yield the stopped workers of a known server: their requests wait for them, and no thread shows that.

    A worker in a debugger is left out: that is somebody's work.
    """
    known = [each for each in workers(snapshot) if each.role != "process" and each.state != "tracing-stop"]
    idle = tuple(each.id for each in known if each.id in stopped_processes(snapshot).difference(told))
    if idle:
        yield Finding(
            code=FindingCode.STOPPED,
            severity="warning",
            locks=(),
            threads=tuple(map(ThreadRef, idle)),
            facts=tuple(map(Stopped, idle[:_FEW])),
            remedy=Remedy((Advice.CONTINUE_STOPPED,), ("kill", "-CONT", *(str(each.pid) for each in idle))),
        )


# -- which roots matter


def _is_orphan(root: Root, snapshot: Snapshot) -> bool:
    """Return True for threads that wait for an orphaned lock: that is a finding of its own."""
    orphans = {lock.id for lock in snapshot.locks if lock.state == "orphaned" or lock.barred}
    return all(wait.target.semaphore in orphans for wait in root.waits)


def _matters(root: Root, snapshot: Snapshot) -> bool:
    """Return False for threads that wait for work, and for those that are parked without harm."""
    threads = {process.id: process.threads for process in snapshot.processes}
    told = [wait for wait in root.waits if not wait.idle]
    # The only thread of a process is stuck in its private memory, whatever it is that it sleeps in.
    told = [wait for wait in told if wait.target.kind is not WaitKind.UNKNOWN or threads.get(wait.thread.process) == 1]
    if any(not _is_parked(wait, snapshot) for wait in told):
        return True
    serving = {process.pid for process in workers(snapshot) if process.role != "process"}
    first = any(wait.thread.tid == wait.pid and wait.pid in serving for wait in told)
    awaited = any(wait.target.kind in (*_ENDS, WaitKind.SHARED_LOCK, WaitKind.PRIVATE_LOCK) for wait in root.behind)
    return first or (bool(told) and awaited)


def _is_parked(wait: Wait, snapshot: Snapshot) -> bool:
    """Return True for a thread that may only keep its program alive: in an Event or Condition of its process that is
    not alone, as others do the work.
    """
    if not _is_private_signal(wait) or _is_result(wait) or wait.target.part_of not in _PARKING:
        return False
    alone = len(snapshot.processes) == 1 and snapshot.processes[0].threads == 1
    return not alone


def _is_private_signal(wait: Wait) -> bool:
    return wait.target.kind is WaitKind.SIGNAL and wait.target.semaphore is None


def _waits_for_pool(root: Root) -> bool:
    return all(_is_private_signal(wait) for wait in root.waits) and any(map(_is_result, root.waits))


def _pools_without_threads(waits: Sequence[Wait], snapshot: Snapshot) -> tuple[ProcessId, ...]:
    """Return the processes that wait for a Pool's result in their only thread: results come through threads of the pool
    (Lib/multiprocessing/pool.py Pool._handle_results), which a fork does not copy, and which terminate() ends.
    """
    single = {process.id for process in snapshot.processes if process.threads == 1}
    return tuple(dict.fromkeys(wait.thread.process for wait in waits if wait.thread.process in single))


def _is_result(wait: Wait) -> bool:
    return any(frame.file.endswith(_POOL) and frame.function in _RESULTS for frame in wait.stack or ())


def _cause_key(root: Root) -> object:
    """Return what makes roots one finding: the copies that a fork made of a private lock, and one lock of a Manager;
    else each is one for itself.
    """
    (target, *more) = root.targets
    return (target.kind, target.address) if target.kind in _COPIED and not more else root


# -- the findings


def _stuck(roots: Sequence[Root], snapshot: Snapshot) -> Finding:
    waits = [wait for root in roots for wait in root.waits if not wait.idle] or list(roots[0].waits)
    waits.sort(key=_is_consequence)
    behind = [wait for root in roots for wait in root.behind]
    why, advice = _cause(roots, waits, snapshot)
    since_s = min(root.since_s for root in roots)
    shared = any(wait.target.semaphore or wait.target.kind is WaitKind.MANAGER_LOCK for wait in waits)
    return Finding(
        code=FindingCode.STUCK,
        severity="error",
        locks=target_refs((wait.target for wait in waits), snapshot),
        threads=tuple(map(thread_ref, (*waits, *behind))),
        facts=(*_workers(snapshot), *blocked(waits), *why, *_ended(snapshot), *_behind(*roots)),
        remedy=Remedy((*advice, Advice.RESTART_SERVER if shared else Advice.RESTART_PROCESS)),
        since=Elapsed(since_s),
    )


def _is_consequence(wait: Wait) -> tuple[bool, bool]:
    """Sort the waits for an end last, and before them those for a signal of their own process."""
    return wait.target.kind in _ENDS, _is_private_signal(wait)


def _worker_died(roots: Sequence[Root], snapshot: Snapshot) -> Finding:
    """No worker of the pool is at work, so the result that a thread waits for was lost with the worker that had it."""
    waits = [wait for root in roots for wait in root.waits]
    pool = {wait.thread.process for wait in waits}
    return Finding(
        code=FindingCode.WORKER_DIED,
        severity="error",
        locks=(),
        threads=tuple(map(thread_ref, waits)),
        facts=(*blocked(waits), *_younger(pool, snapshot), *_ended(snapshot)),
        remedy=Remedy((Advice.CHECK_RESULTS, Advice.RESTART_PROCESS)),
        since=Elapsed(min(root.since_s for root in roots)),
    )


def _lost_results(snapshot: Snapshot, told: Sequence[Root]) -> Iterator[Finding]:
    """Yield the threads that wait for a job's result while every worker of their process waits for work: not proven,
    for the program may go on otherwise.
    """
    known = {wait.thread for root in told for wait in root.waits}
    idle = {wait.thread for wait in snapshot.waits.waits if wait.idle}
    lost = []
    for wait in snapshot.waits.waits:
        if wait.thread in known or wait.timed or (wait.asleep_s or 0.0) < _LOST_S or not _is_result(wait):
            continue
        children = [process for process in snapshot.processes if process.ppid == wait.pid]
        if children and all(ThreadId(child.id, child.pid) in idle for child in children):
            lost.append(wait)
    if lost:
        found = _worker_died([Root(RootKind.NOBODY, tuple(lost))], snapshot)
        yield replace(found, severity="warning")


def _younger(parents: set[ProcessId], snapshot: Snapshot) -> Iterator[Fact]:
    pids = {parent.pid for parent in parents}
    children = sorted((each for each in snapshot.processes if each.ppid in pids), key=lambda each: each.started_at)
    for child in children[1:]:
        later_s = child.started_at - children[0].started_at
        if later_s >= _LATER_S:
            yield YoungerWorker(child.id, later_s)


def _cause(
    roots: Sequence[Root], waits: Sequence[Wait], snapshot: Snapshot
) -> tuple[tuple[Fact, ...], tuple[Advice, ...]]:
    """Return the facts that show why, and how to write it instead."""
    handler = next((wait for wait in waits if wait.in_handler), None)
    if handler is not None:
        return (InHandler(thread_ref(handler)),), (Advice.NOT_IN_HANDLER,)
    if _waits_for_pool(roots[0]) and (forked := _pools_without_threads(waits, snapshot)):
        return (PoolWithoutThreads(forked),), (Advice.OWN_POOL,)
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
    able = tuple(dict.fromkeys(process for wait in waits for process in wait.wakers.processes))
    alone = all(_is_private_signal(wait) and able == (wait.thread.process,) for wait in waits)
    return (NobodyElse(able),), (Advice.WAIT_FOR_THREADS_WITH_TIMEOUT if alone else Advice.WAIT_WITH_TIMEOUT,)


def _ring_cause(
    holders: Collection[ThreadId], waits: Sequence[Wait], snapshot: Snapshot
) -> tuple[tuple[Fact, ...], tuple[Advice, ...]]:
    """Of threads that wait for each other: who of them holds the units, or the lock, that the others wait for."""
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
    return tuple(held), (Advice.NOT_WHILE_HOLDING,)


def _copied_counts(waits: Sequence[Wait], snapshot: Snapshot) -> tuple[Fact, ...]:
    """Return which processes count a shared lock as held that they did not take."""
    wanted = {wait.target.semaphore for wait in waits}
    for lock in snapshot.locks:
        strays = inherited_counts(lock, snapshot) if lock.id in wanted else []
        if strays:
            certain = all(stray.certain for stray in strays)
            return (Inherited(tuple(stray.process for stray in strays), certain, lock.maximum),)
    return ()


def _private_cause(waits: Sequence[Wait], snapshot: Snapshot) -> tuple[tuple[Fact, ...], tuple[Advice, ...]]:
    """Of a private lock: whether the parent holds it too, and where it is free."""
    owners = {wait.thread.process for wait in waits}
    again = next((wait for wait in waits if wait.thread in (wait.holders or ())), None)
    if again is not None:
        held = HeldBy((Hold(ThreadRef(again.thread.process, again.thread.tid), None),))
        return (held,), (cure_of_reentry(False, snapshot.server),)
    threads = {process.id: process.threads for process in snapshot.processes}
    facts: list[Fact] = [OnlyOwnProcess(each, threads.get(each, 1)) for each in sorted(owners)[:1]]
    parents = [LockedInParent(*wait.parent_copy) for wait in waits if wait.parent_copy and wait.parent_copy[1]]
    if parents:
        return (*facts, parents[0]), (Advice.NEW_AFTER_FORK,)
    names = {wait.target.name for wait in waits if wait.target.named}
    uses = [use for lock in snapshot.thread_locks if lock.name in names for use in lock.processes]
    inherited = tuple(use.process for use in uses if use.inherited and use.process in owners)
    if inherited:
        return (*facts, LockedSinceFork(inherited, workers=False)), (Advice.NEW_AFTER_FORK,)
    free = tuple(use.process for use in uses if not use.locked and use.process not in owners)
    return (*facts, *([FreeElsewhere(free)] if free else ())), (Advice.RELEASE_IN_FINALLY,)


def _manager_cause(waits: Sequence[Wait]) -> tuple[Fact, ...]:
    """Of a Manager's lock: whether its holder is known to have ended."""
    able = tuple(dict.fromkeys(process for wait in waits for process in wait.wakers.processes))
    if any(not wait.wakers.threads and not wait.wakers.processes for wait in waits):
        return (ClientEnded(),)
    return (*_unrecorded(waits), NobodyElse(able))


def _unrecorded(waits: Sequence[Wait]) -> tuple[Fact, ...]:
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
    for lock in snapshot.locks:
        if lock.part_of == target.part_of and lock.attribute == _UNFINISHED and lock.value:
            yield lock.value


def _ended(snapshot: Snapshot) -> Iterator[Fact]:
    for child in snapshot.ended[:3]:
        yield ChildEnded(child.id, child.parent, child.exit_code, child.ended_s)


def _behind(*roots: Root) -> Iterator[Fact]:
    count = sum(len(root.behind) for root in roots)
    if count:
        yield Behind(count, of_one=sum(len(root.waits) for root in roots) == 1)


def _workers(snapshot: Snapshot) -> Iterator[Fact]:
    states = worker_states(snapshot)
    if len(states) > 1 and states.count("stuck"):
        yield WorkersBlocked(states.count("stuck"), len(states), proven=True)


def _may_be_rest(wait: Wait) -> bool:
    """Return True for a wait for a Semaphore: its units may be the work to do, and rings have a rule of their own."""
    return wait.target.kind is WaitKind.SIGNAL and wait.target.part_of is None


def _all_workers(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Every worker waits for something else than work, longer than the limit, and that is not proven to be for ever."""
    serving = workers(snapshot)
    kept = serving_waits_by_worker(snapshot).values()
    found = [[wait for wait in waits if wait.target.kind not in _ENDS] for waits in kept]
    orphaned = {lock.id for lock in snapshot.locks if lock.state == "orphaned" or lock.barred}
    waits = [min(each, key=lambda wait: wait.asleep_s or 0.0) for each in found if each]
    if len(waits) < len(serving) or len(serving) < 2:
        return
    if any(wait.timed or (wait.asleep_s or 0.0) < limits.wait_s for wait in waits):
        return
    if all(wait.target.semaphore in orphaned for wait in waits) or any(
        root.proven and is_deadlock(root) for root in snapshot.waits.roots
    ):
        return
    script = all(process.role == "process" for process in serving)
    if script and all(map(_may_be_rest, waits)):
        return
    gate = script and all(wait.target.kind is WaitKind.SIGNAL for wait in waits)
    doubt = next((wait.wakers for wait in waits if wait.wakers.doubt not in (None, Doubt.UNASKED)), waits[0].wakers)
    able = tuple(process.pid for process in doubt.processes if process not in {each.id for each in serving})
    yield Finding(
        code=FindingCode.STUCK,
        severity="warning" if gate else "error",  # a script's processes wait for each other's signals as designed
        locks=target_refs((wait.target for wait in waits), snapshot),
        threads=tuple(map(thread_ref, waits)),
        facts=(
            WorkersBlocked(len(waits), len(serving), proven=False),
            *blocked(waits),
            *_unrecorded(waits),
            MayStillWake(doubt.doubt, doubt.pids or able),
        ),
        remedy=Remedy((Advice.SEE_STACKS,), ("semtrace", "dump", "--stacks", str(snapshot.server.pid))),
        since=Elapsed(min(wait.asleep_s or 0.0 for wait in waits)),
    )
