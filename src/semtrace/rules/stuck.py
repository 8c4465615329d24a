"""stuck, stopped, worker-died: threads that nothing which lives can wake, and why. The wait graph finds them.

A deadlock and an orphaned lock are reported as such. What is left hangs on a signal that nobody can give any more, on a
private lock that nobody can release, or on a stopped process.

- A thread that is parked in a private signal (`threading.Event().wait()` at the end of a main program) does no harm by
  itself. It is reported only if it is a worker's first thread, or if others wait for it to end or to release.
- A cause is named only if the evidence excludes the others: "locked since the fork" takes a parent that was seen to
  hold the same lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from semtrace.lazydata import replace
from semtrace.model import (
    Advice,
    Behind,
    ChildEnded,
    Doubt,
    Elapsed,
    Fact,
    Finding,
    FindingCode,
    Frame,
    HeldBy,
    InHandler,
    LeftInParent,
    MasterStopped,
    MayStillWake,
    PoolTerminated,
    PoolWithoutThreads,
    ProcessId,
    Remedy,
    ResultsNotTaken,
    Root,
    RootKind,
    Snapshot,
    Stopped,
    ThreadId,
    ThreadRef,
    Wait,
    WaitKind,
    WorkersBlocked,
    YoungerWorker,
    place_of,
)
from semtrace.rules.basis import Limits
from semtrace.rules.causes import cause, is_private_signal, unrecorded, waits_for_pool
from semtrace.rules.knots import blocked, is_deadlock, restart, target_refs, thread_ref
from semtrace.waits.build import stopped_processes
from semtrace.waits.workers import SERVING_ROLES, pool_workers, serving_waits_by_worker, worker_states, workers

# Lib/multiprocessing/pool.py and its copies: a wait is known to be for such a Pool before its file is compared.
_POOL = "/pool.py"

# A pool starts its workers together. One that is so much younger took the place of another.
_LATER_S = 0.5
# A result may be on its way for a moment.
_LOST_S = 1.0

# In these a main thread is parked while others work (Lib/threading.py).
_PARKING = (None, "threading.Event", "threading.Condition")

_COPIED = (WaitKind.PRIVATE_LOCK, WaitKind.SIGNAL, WaitKind.MANAGER_LOCK)

# What else is seen of copies may differ from one to the other.
_APART = (InHandler, HeldBy, LeftInParent, PoolTerminated, PoolWithoutThreads, ResultsNotTaken)

# Of many stopped workers the first are evidence enough.
_FEW = 4

_ENDS = (WaitKind.PROCESS_END, WaitKind.THREAD_END)


def stuck(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield a finding for each cause, the copies of one private lock together."""
    together: dict[object, list[Root]] = {}
    for root in snapshot.waits.roots:
        if root.proven and not is_deadlock(root) and not _is_orphan(root, snapshot) and _matters(root, snapshot):
            together.setdefault(_cause_key(root, snapshot), []).append(root)
    for roots in together.values():
        yield _worker_died(roots, snapshot) if _is_lost(roots[0], snapshot) else _stuck(roots, snapshot)
    if not together:
        yield from _all_workers(snapshot, limits)
    yield from _lost_results(snapshot, [root for roots in together.values() for root in roots])


def stopped(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield each stopped process that threads wait for, then the stopped workers that none waits for."""
    reported: set[ProcessId] = set()
    for root in snapshot.waits.roots:
        awake = [wait for wait in root.waits if not wait.idle]
        near = awake or list(root.behind)
        if root.kind is RootKind.STOPPED and near:
            reported.update(root.stopped)
            yield Finding(
                code=FindingCode.STOPPED,
                severity="warning",
                locks=target_refs((wait.target for wait in root.waits), snapshot),
                threads=(*map(ThreadRef, root.stopped), *map(thread_ref, near)),
                facts=(*map(Stopped, root.stopped), *blocked(near), *(_behind(root) if awake else ())),
                remedy=Remedy((Advice.CONTINUE_STOPPED,), ("kill", "-CONT", *(str(each.pid) for each in root.stopped))),
                since=Elapsed(root.since_s),
            )
    yield from _stopped_masters(snapshot, reported)
    yield from _stopped_workers(snapshot, reported)


def _stopped_masters(snapshot: Snapshot, reported: Collection[ProcessId]) -> Iterator[Finding]:
    """Yield the stopped master of a known server: its workers go on, and nobody looks after them."""
    halted = stopped_processes(snapshot).difference(reported)
    for process in snapshot.processes:
        if process.role == "master" and process.id in halted and process.state != "tracing-stop":
            yield Finding(
                code=FindingCode.STOPPED,
                severity="warning",
                locks=(),
                threads=(ThreadRef(process.id),),
                facts=(MasterStopped(process.id),),
                remedy=Remedy((Advice.CONTINUE_STOPPED,), ("kill", "-CONT", str(process.pid))),
            )


def _stopped_workers(snapshot: Snapshot, reported: Collection[ProcessId]) -> Iterator[Finding]:
    """Yield the stopped workers of a known server: their requests wait for them, and no thread shows that.

    A worker in a debugger is left out: that is somebody's work.
    """
    known = [each for each in workers(snapshot) if each.role in SERVING_ROLES and each.state != "tracing-stop"]
    idle = tuple(each.id for each in known if each.id in stopped_processes(snapshot).difference(reported))
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
    orphans = {lock.id for lock in snapshot.semaphores if lock.state == "orphaned" or lock.proof_needs_rights}
    return all(wait.target.semaphore in orphans for wait in root.waits)


def _matters(root: Root, snapshot: Snapshot) -> bool:
    """Return False for threads that wait for work, and for those that are parked without harm."""
    threads = {process.id: process.threads for process in snapshot.processes}
    awake = [wait for wait in root.waits if not wait.idle]
    # The only thread of a process is stuck in its private memory, whatever it is that it sleeps in.
    awake = [
        wait for wait in awake if wait.target.kind is not WaitKind.UNKNOWN or threads.get(wait.thread.process) == 1
    ]
    if any(not _is_parked(wait, snapshot) for wait in awake):
        return True
    serving = {process.pid for process in workers(snapshot) if process.role in SERVING_ROLES}
    first = any(wait.thread.tid == wait.pid and wait.pid in serving for wait in awake)
    awaited = any(wait.target.kind in (*_ENDS, WaitKind.SHARED_LOCK, WaitKind.PRIVATE_LOCK) for wait in root.behind)
    return first or (bool(awake) and awaited)


def _is_parked(wait: Wait, snapshot: Snapshot) -> bool:
    """Return True for a thread that may only keep its program alive: in an Event or Condition of its process that is
    not alone, as others do the work.
    """
    if not is_private_signal(wait) or wait.pool or wait.target.part_of not in _PARKING:
        return False
    alone = len(snapshot.processes) == 1 and snapshot.processes[0].threads == 1
    return not alone


def _cause_key(root: Root, snapshot: Snapshot) -> object:
    """Return the key of roots that make one finding: the copies of a private lock or signal that are stuck for the same
    cause, and one lock of a Manager. Other roots have their own.
    """
    (target, *more) = root.targets
    if more or _is_lost(root, snapshot) or target.kind not in _COPIED or target.semaphore is not None:
        return root
    if target.kind is WaitKind.MANAGER_LOCK:
        return target
    waits = [wait for wait in root.waits if not wait.idle] or list(root.waits)
    facts, _ = cause([root], waits, snapshot)
    # A fork copies the address, and a new program has another lock of the same name. What each process has made for one
    # job, as a Future, has neither in common, but the line that waits for it.
    thing: object = target.name if target.named else target.address
    if is_private_signal(waits[0]) and not target.named:
        thing = target.part_of, place_of(waits[0])
    return target.kind, thing, frozenset(map(type, facts)).intersection(_APART)


# -- the findings


def _stuck(roots: Sequence[Root], snapshot: Snapshot) -> Finding:
    waits = [wait for root in roots for wait in root.waits if not wait.idle] or list(roots[0].waits)
    waits.sort(key=_is_consequence)
    behind = [wait for root in roots for wait in root.behind]
    why, advice = cause(roots, waits, snapshot)
    since_s = min(root.since_s for root in roots)
    shared = any(wait.target.semaphore or wait.target.kind is WaitKind.MANAGER_LOCK for wait in waits)
    return Finding(
        code=FindingCode.STUCK,
        severity="error",
        locks=target_refs((wait.target for wait in waits), snapshot),
        threads=tuple(map(thread_ref, (*waits, *behind))),
        facts=(*_workers(snapshot), *blocked(waits), *why, *_ended(snapshot), *_behind(*roots)),
        remedy=Remedy((*advice, restart(waits, shared))),
        since=Elapsed(since_s),
    )


def _is_consequence(wait: Wait) -> tuple[bool, bool]:
    """Sort the waits for an end last, and before them those for a signal of their own process."""
    return wait.target.kind in _ENDS, is_private_signal(wait)


def _is_lost(root: Root, snapshot: Snapshot) -> bool:
    """Return True for threads that wait for a result which nobody works at and which is not on its way."""
    if not waits_for_pool(root):
        return False
    idle = _idle(snapshot)
    return all(_was_lost(wait, idle, snapshot) for wait in root.waits if wait.pool)


def _idle(snapshot: Snapshot) -> dict[ThreadId, Wait]:
    return {wait.thread: wait for wait in snapshot.waits.waits if wait.idle}


def _was_lost(wait: Wait, idle: Mapping[ThreadId, Wait], snapshot: Snapshot) -> bool:
    """Return True if all workers of its Pool wait for work, and the Pool has handed out all jobs and taken in all
    results. A ThreadPool has no processes that could die with a job.
    """
    if wait.pool is None or not wait.pool.processes:
        return False
    children = pool_workers({wait.pid}, snapshot)
    rested = bool(children) and all(ThreadId(child.id, child.pid) in idle for child in children)
    return rested and _has_rested(wait.thread.process, idle.values())


def _has_rested(process: ProcessId, idle: Iterable[Wait]) -> bool:
    """Return True if a Pool's own threads wait for what there is to do (Lib/multiprocessing/pool.py, 3.8 to 3.15). One
    that waits in a source of jobs, or to pickle one, has a job left: then the function is not the innermost.
    """
    stacks = [wait.stack or () for wait in idle if wait.thread.process == process]
    handed_out = any(_is_in(stack[:1], "_handle_tasks") for stack in stacks)
    return handed_out and any(_is_in(stack, "_handle_results") for stack in stacks)


def _is_in(stack: Sequence[Frame], function: str) -> bool:
    return any(frame.function == function and frame.file.endswith(_POOL) for frame in stack)


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


def _lost_results(snapshot: Snapshot, reported: Sequence[Root]) -> Iterator[Finding]:
    """Yield the threads that wait for a job's result while every worker of their process waits for work: not proven,
    for the program may go on otherwise.
    """
    known, idle = {wait.thread for root in reported for wait in root.waits}, _idle(snapshot)
    lasting = (
        wait
        for wait in snapshot.waits.waits
        if wait.pool and wait.thread not in known and not wait.timed and (wait.asleep_s or 0.0) >= _LOST_S
    )
    lost = tuple(wait for wait in lasting if _was_lost(wait, idle, snapshot))
    if lost:
        found = _worker_died([Root(RootKind.NOBODY, lost)], snapshot)
        yield replace(found, severity="warning")


def _younger(parents: set[ProcessId], snapshot: Snapshot) -> Iterator[Fact]:
    children = sorted(pool_workers({each.pid for each in parents}, snapshot), key=lambda each: each.started_at)
    for child in children[1:]:
        later_s = child.started_at - children[0].started_at
        if later_s >= _LATER_S:
            yield YoungerWorker(child.id, later_s)


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


def _is_full(waits: Sequence[Wait], snapshot: Snapshot) -> bool:
    """Return True if no thread of a gthread worker is left for a request."""
    return snapshot.server.threads is not None and any(wait.thread.tid != wait.pid for wait in waits)


def _all_workers(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield a finding if every worker has waited for something else than work longer than the limit, without proof that
    the wait is endless.
    """
    serving = workers(snapshot)
    kept = serving_waits_by_worker(snapshot).values()
    found = [[wait for wait in waits if wait.target.kind not in _ENDS] for waits in kept]
    orphaned = {lock.id for lock in snapshot.semaphores if lock.state == "orphaned" or lock.proof_needs_rights}
    waits = [min(each, key=lambda wait: wait.asleep_s or 0.0) for each in found if each]
    if len(waits) < len(serving) or (len(serving) < 2 and not _is_full(waits, snapshot)):
        return
    if any(wait.timed or (wait.asleep_s or 0.0) < limits.wait_s for wait in waits):
        return
    if all(wait.target.semaphore in orphaned for wait in waits) or any(
        root.proven and is_deadlock(root) for root in snapshot.waits.roots
    ):
        return
    script = not any(process.role in SERVING_ROLES for process in serving)
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
            *unrecorded(waits),
            MayStillWake(doubt.doubt, doubt.pids or able),
        ),
        remedy=Remedy((Advice.SEE_STACKS,), ("semtrace", "dump", "--stacks", str(snapshot.server.pid))),
        since=Elapsed(min(wait.asleep_s or 0.0 for wait in waits)),
    )
