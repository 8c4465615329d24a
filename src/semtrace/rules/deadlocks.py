"""deadlock: threads that wait for each other, each for something that the next one holds or does; or one for its own.

The wait graph finds them. It is an error where none can go on. It is a warning where only the program knows whether
another process means to release a Lock for its taker, as with a gate or a baton. An RLock forbids that, and who is
inside `with` a Lock will release it itself.

- One that waits for the Lock it took: an error if it is inside `with` it, or if every process that could release it is
  stuck as well. By bare acquire() it looks the same as waiting at a gate: a warning.
- Several in a ring: an error. Each of them holds one and waits for one that another has, which gates and batons do not
  come to by themselves. Where the program was ever seen to release Locks for others: a warning.
- Where a process has several threads, the taker of a Lock need not be its user: a thread of a pool acquires for
  another, that releases it (asyncio.to_thread). Without `with` it takes a long wait, and is a warning.
- A join counts as well: the parent that joins a child holds what the child waits for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from semtrace.model import (
    Advice,
    Asleep,
    Behind,
    BlockedOn,
    Doubt,
    Elapsed,
    Fact,
    Finding,
    FindingCode,
    Frame,
    HandsLocksOver,
    Inside,
    Lock,
    MayBeGate,
    MayStillWake,
    OutsiderMayRelease,
    Remedy,
    RingLink,
    Root,
    Server,
    Snapshot,
    ThreadMayRelease,
    Wait,
    WaitKind,
)
from semtrace.rules.basis import Limits
from semtrace.rules.evidence import lock_ref
from semtrace.rules.greenlets import has_greenlets, may_hold
from semtrace.rules.knots import blocked, is_deadlock, restart, target_ref, target_refs, thread_ref, waited

_LOOP = "/asyncio/base_events.py"  # BaseEventLoop.run_forever, 3.8 to 3.15; uvloop has no frames of its own


def deadlock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    handed = _handed_over(snapshot)
    for root in snapshot.waits.roots:
        if is_deadlock(root):
            cycle = ring_of(root)
            doubt = (
                _doubt_of_one(cycle[0], root, snapshot) if len(cycle) == 1 else _doubt_of_ring(cycle, handed, snapshot)
            )
            yield _finding(cycle, root, snapshot, doubt)


def ring_of(root: Root) -> list[Wait]:
    """Return one ring of the root, each thread after the one that it holds something from; all of its waits where the
    way leads over more than holders.
    """
    waits = {wait.thread: wait for wait in root.waits}
    if not all(wait.holders for wait in root.waits):
        return list(root.waits)
    path: list[Wait] = []
    at = root.waits[0]
    while at not in path:
        path.append(at)
        at = next(waits[holder] for holder in at.holders or () if holder in waits)
    return path[path.index(at) :]


def _doubt_of_one(wait: Wait, root: Root, snapshot: Snapshot) -> list[Fact]:
    """Return why a thread that waits for its own lock may go on; nothing where it cannot."""
    if root.proven:
        return []
    if alarm := _alarm([wait]):
        return alarm
    stuck = snapshot.waits.stuck
    single = {process.id for process in snapshot.processes if process.threads == 1}
    slept = {each.thread for each in (*root.waits, *root.behind)} | stuck
    able = [
        process
        for process in wait.wakers.processes
        if process not in single or not any(thread.process == process for thread in slept)
    ]
    outside = wait.wakers.pids if wait.wakers.doubt is Doubt.OUTSIDER else ()
    others = (*(process.pid for process in able if process != wait.thread.process), *outside)
    return [MayBeGate(others, own_thread=wait.loose)]


def _doubt_of_ring(cycle: Sequence[Wait], handed: Sequence[Lock], snapshot: Snapshot) -> list[Fact]:
    """The same of several: the program may be one that hands Locks from process to process, or thread to thread."""
    if alarm := _alarm(cycle):
        return alarm
    loose = next((ref for wait in cycle if wait.loose and (ref := target_ref(wait.target, snapshot))), None)
    if loose is not None:
        return [ThreadMayRelease(loose)]
    for wait in cycle:
        ref = target_ref(wait.target, snapshot)
        if ref is not None and wait.wakers.doubt is Doubt.OUTSIDER and not wait.bound:
            return [OutsiderMayRelease(wait.wakers.pids, ref)]
    if not handed or all(wait.bound for wait in cycle):
        return []
    return [HandsLocksOver(tuple(map(lock_ref, handed[:2])))]


def _alarm(cycle: Sequence[Wait]) -> list[Fact]:
    pids = tuple(sorted({wait.pid for wait in cycle if wait.wakers.doubt is Doubt.ALARM}))
    return [MayStillWake(Doubt.ALARM, pids)] if pids else []


def _handed_over(snapshot: Snapshot) -> list[Lock]:
    """The Locks that were seen to be released for another."""
    locks = (lock for lock in snapshot.semaphores if lock.maximum == 1 and not lock.signal)
    return [lock for lock in locks if any(stray.count < 0 for stray in lock.strays)]


def _finding(cycle: Sequence[Wait], root: Root, snapshot: Snapshot, doubt: list[Fact]) -> Finding:
    members = {wait.thread for wait in cycle}
    behind = [wait for wait in (*root.waits, *root.behind) if wait.thread not in members]
    again = len(cycle) == 1
    return Finding(
        code=FindingCode.DEADLOCK,
        severity="warning" if doubt else "error",
        locks=target_refs((wait.target for wait in cycle), snapshot),
        threads=tuple(map(thread_ref, (*cycle, *behind))),
        facts=(
            *_links(cycle, snapshot, took=bool(doubt)),
            Asleep(len(cycle), root.since_s, for_ever=not doubt),
            *doubt,
            *(may_hold(snapshot.server, [cycle[0].stack]) if again else ()),
            *([Behind(len(behind), of_one=again)] if behind else []),
        ),
        remedy=Remedy(tuple(_advice(cycle, snapshot.server, bool(doubt)))),
        since=Elapsed(root.since_s),
    )


def _links(cycle: Sequence[Wait], snapshot: Snapshot, *, took: bool) -> Sequence[RingLink | BlockedOn]:
    """Return the links of a ring of locks; where ends and pipes are part of it, what each thread waits for."""
    links = [link(wait, cycle[at - 1], snapshot, took=took) for at, wait in enumerate(cycle)]
    whole = [each for each in links if each is not None]
    return whole if len(whole) == len(cycle) and all(wait.holders for wait in cycle) else blocked(cycle)


def link(wait: Wait, before: Wait, snapshot: Snapshot, *, took: bool) -> RingLink | None:
    """Return one link of a ring: the thread holds what the one `before` it waits for. None if that is not a lock."""
    holds, wants = target_ref(before.target, snapshot), target_ref(wait.target, snapshot)
    return None if holds is None or wants is None else RingLink(thread_ref(wait), holds, wants, waited(wait), took)


def _advice(cycle: Sequence[Wait], server: Server, doubtful: bool) -> Iterator[Advice]:
    kinds = {wait.target.kind for wait in cycle}
    if doubtful:
        yield Advice.FINE_IF_RELEASED
    if len(cycle) == 1:
        yield cure_of_reentry(WaitKind.SHARED_LOCK in kinds, server, cycle[0].stack)
    elif any(wait.target.inside is Inside.IMPORT for wait in cycle):
        yield Advice.NO_WAIT_AT_IMPORT
    elif WaitKind.PIPE_WRITE in kinds:
        joins = kinds & {WaitKind.PROCESS_END, WaitKind.THREAD_END}
        locks = kinds - {WaitKind.PIPE_WRITE, WaitKind.PIPE_READ}
        yield Advice.READ_BEFORE_JOIN if joins else Advice.NOT_WHILE_HOLDING if locks else Advice.READ_WHILE_WRITING
    elif kinds <= {WaitKind.PROCESS_END, WaitKind.THREAD_END}:
        yield Advice.JOIN_ONE_WAY
    elif WaitKind.PROCESS_END in kinds or WaitKind.THREAD_END in kinds:
        yield Advice.RELEASE_BEFORE_JOIN
    else:
        yield Advice.SAME_ORDER
    if not doubtful:
        shared = WaitKind.MANAGER_LOCK in kinds or any(wait.target.semaphore is not None for wait in cycle)
        yield restart(cycle, shared)


def cure_of_reentry(shared: bool, server: Server, stack: Sequence[Frame] | None) -> Advice:
    """Return the lock to use instead. An RLock lets in what is not meant to come in: all greenlets and all tasks of a
    thread, and a `__del__` that the collector calls within.
    """
    if has_greenlets(server):
        return Advice.NO_RLOCK_FOR_GREENLETS
    frames = stack or ()
    if any(frame.function.rpartition(".")[2] == "__del__" for frame in frames):
        return Advice.NO_LOCK_IN_DEL
    if any(frame.file.endswith(_LOOP) for frame in frames):
        return Advice.NO_RLOCK_FOR_TASKS
    if server.worker_class is None:
        return Advice.USE_SHARED_RLOCK_NO_GREENLETS if shared else Advice.USE_THREADING_RLOCK_NO_GREENLETS
    return Advice.USE_SHARED_RLOCK if shared else Advice.USE_THREADING_RLOCK
