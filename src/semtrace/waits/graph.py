"""Find the stuck threads of one snapshot by a fixpoint, and the knots that they hang on. Pure.

A thread is stuck if it waits without a timeout and everybody who could wake it is stuck too, or does not exist. That is
the largest such set: begin with all waits, and drop each that somebody free could end, until nothing changes.

Two such sets are made. In the *proven* one everybody who could wake a thread counts, and any doubt drops it. In the
*expected* one the known holders of a lock stand for all who could release it. That is how the program means it, and it
shows the shape of the knot. The roots come from the expected set; a root is proven if all of it is in the proven one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from semtrace.lazydata import dataclass
from semtrace.model import ProcessId, Root, RootKind, Target, ThreadId, Wait, WaitGraph, WaitKind
from semtrace.waits.components import components

# All threads of a knot have slept for so long without a break: then what was read of each meanwhile was true at once.
ASLEEP_S = 1.0
# It takes longer where it is not known which thread of a process means to release.
LOOSE_S = 10.0

# Likely causes first, their effects last.
_CAUSES_FIRST = (
    WaitKind.SHARED_LOCK,
    WaitKind.PRIVATE_LOCK,
    WaitKind.FILE_LOCK,
    WaitKind.MANAGER_LOCK,
    WaitKind.SIGNAL,
    WaitKind.PIPE_WRITE,
    WaitKind.PROCESS_END,
    WaitKind.THREAD_END,
    WaitKind.PIPE_READ,
    WaitKind.UNKNOWN,
)
# These explain each other: a join, and the reason why the joined one does not end.
_ENDS = (WaitKind.PIPE_WRITE, WaitKind.PROCESS_END, WaitKind.THREAD_END, WaitKind.PIPE_READ)

Waits = Mapping[ThreadId, Wait]
_Node = ThreadId | ProcessId | Target


def graph(waits: Iterable[Wait], threads: Mapping[ProcessId, int], stopped: Collection[ProcessId] = ()) -> WaitGraph:
    """Judge all waits of a snapshot.

    `threads` has the number of threads of each process that lives, also of those outside the server. The threads of
    `stopped` processes can do nothing until somebody continues them.
    """
    everything = tuple(waits)
    # A stopped thread waits for nothing but to be continued, whatever call it was in.
    lasting = {wait.thread: wait for wait in everything if _lasts(wait) and wait.thread.process not in stopped}
    if not lasting:
        return WaitGraph(everything)
    proven = _closed(lasting, threads, _all_wakers)
    expected = _closed(lasting, threads, _expected)
    roots = list(_roots(expected, proven))
    if stopped:
        going = {process: count for process, count in threads.items() if process not in stopped}
        frozen = _closed(lasting, going, _expected)
        roots += _stopped_roots({thread: wait for thread, wait in frozen.items() if thread not in expected}, stopped)
    return WaitGraph(everything, frozenset(proven), tuple(sorted(roots, key=_weight)))


def _lasts(wait: Wait) -> bool:
    return not wait.timed and (wait.asleep_s or 0.0) >= (LOOSE_S if wait.loose else ASLEEP_S)


def _weight(root: Root) -> tuple[int, float, list[ThreadId]]:
    return -len(root.waits) - len(root.behind), -root.since_s, [wait.thread for wait in root.waits]


# -- who could wake a thread


@dataclass(frozen=True)
class _Able:
    """Those who could end a wait: single threads, and processes by any thread of theirs."""

    threads: tuple[ThreadId, ...] = ()
    processes: tuple[ProcessId, ...] = ()


def _all_wakers(wait: Wait) -> _Able | None:
    """Return all who could, None if somebody unknown may."""
    if wait.bound and wait.holders:
        return _Able(wait.holders)
    return None if wait.wakers.doubt is not None else _Able(wait.wakers.threads, wait.wakers.processes)


def _expected(wait: Wait) -> _Able | None:
    """Return those who hold what it waits for; where that is not known, all who could wake it."""
    return _Able(wait.holders) if wait.holders else _all_wakers(wait)


def _closed(
    waits: Waits, threads: Mapping[ProcessId, int], able: Callable[[Wait], _Able | None]
) -> dict[ThreadId, Wait]:
    """Return the largest part of the waits that nobody outside of it could end. Linear in waits and wakers."""
    groups: dict[_Able, list[ThreadId]] = {}  # the waiters of one lock have the same wakers
    left = dict(waits)
    ended: list[ThreadId] = []
    for thread, wait in waits.items():
        by = able(wait)
        if by is None:
            ended.append(thread)
        else:
            groups.setdefault(by, []).append(thread)
    of_thread: dict[ThreadId, list[_Able]] = {}
    of_process: dict[ProcessId, list[_Able]] = {}
    for by in groups:
        for waker in by.threads:
            of_thread.setdefault(waker, []).append(by)
        for process in by.processes:
            of_process.setdefault(process, []).append(by)
    asleep = Counter(thread.process for thread in waits)
    free = [process for process in of_process if asleep[process] < threads.get(process, 0)]
    awake = [thread for thread in of_thread if thread not in waits and thread.process in threads]
    over = [by for process in free for by in of_process[process]] + [by for each in awake for by in of_thread[each]]
    while ended or over:
        while over:
            ended += groups.pop(over.pop(), ())
        while ended:
            thread = ended.pop()
            if left.pop(thread, None) is not None:
                over += of_thread.get(thread, ())
                over += of_process.pop(thread.process, ())  # one thread that goes on is enough
    return left


# -- the knots


def _roots(waits: Waits, proven: Collection[ThreadId]) -> Iterator[Root]:
    """Yield the parts of the graph from which no way leads on, with the threads that hang on each."""
    for members, behind in _knots(waits):
        causes = _causes(members)
        shown = {wait.thread for wait in causes}
        rest = [wait for wait in (*members, *behind) if wait.thread not in shown and not wait.idle]
        yield Root(_kind(causes), tuple(causes), tuple(rest), all(wait.thread in proven for wait in members))


def _knots(waits: Waits) -> list[tuple[list[Wait], list[Wait]]]:
    """Return the waits of each knot, and of the threads behind it: those from which a way leads to it, and to no knot
    before it.
    """
    edges = _edges(waits)
    knot_of: dict[_Node, int] = {}
    knots: list[tuple[list[Wait], list[Wait]]] = []
    for component in components(edges):
        members = [waits[node] for node in component if isinstance(node, ThreadId) and node in waits]
        onward = {knot_of[end] for node in component for end in edges.get(node, ()) if end in knot_of}
        if not onward and members:
            onward = {len(knots)}
            knots.append((sorted(members, key=lambda wait: wait.thread), []))
        elif onward:
            knots[min(onward)][1].extend(sorted(members, key=lambda wait: wait.thread))
        if onward:
            knot_of.update(dict.fromkeys(component, min(onward)))
    return knots


def _edges(waits: Waits) -> dict[_Node, list[_Node]]:
    """Return the edges of the graph. They lead from a thread to the holders, or to the thing and on to all who could
    wake it, and from a process to its stuck threads.
    """
    edges: dict[_Node, dict[_Node, None]] = {}
    for thread, wait in waits.items():
        able = _expected(wait) or _Able()
        wakers: dict[_Node, None] = dict.fromkeys(each for each in able.threads if each in waits)
        if wait.holders:
            edges[thread] = wakers
            continue
        edges[thread] = {wait.target: None}
        edges.setdefault(wait.target, {}).update(wakers)
        for process in able.processes:
            edges[wait.target][process] = None
            edges.setdefault(process, {})
    for thread in waits:
        if thread.process in edges:
            edges[thread.process][thread] = None
    return {node: list(ends) for node, ends in edges.items()}


def _causes(members: Sequence[Wait]) -> list[Wait]:
    """Return the waits of a knot that show the cause, without those that only follow from them.

    These are the waits for the kind of thing that is the likeliest cause, and the waits of its holders. If nobody is
    known to hold one such lock, any thread could hold it: then only the waits for that lock count. An idle thread, or
    one in a library of C, counts only if there are no others.
    """
    awake = [wait for wait in members if not wait.idle and wait.target.kind is not WaitKind.UNKNOWN] or list(members)
    best = min(map(_rank, awake))
    first = [wait for wait in awake if _rank(wait) == best]
    if best[0] <= _CAUSES_FIRST.index(WaitKind.SIGNAL) and (ownerless := [wait for wait in first if not wait.holders]):
        return ownerless
    chosen = {wait.thread for wait in first}
    by_thread = {wait.thread: wait for wait in awake}
    more = list(chosen)
    while more:
        held_by = by_thread[more.pop()].holders or ()
        new = [each for each in held_by if each in by_thread and each not in chosen]
        chosen.update(new)
        more.extend(new)
    return [wait for wait in awake if wait.thread in chosen]


def _rank(wait: Wait) -> tuple[int, bool]:
    """Return the rank of a wait as a cause, the likeliest first; among signals, those that processes share."""
    if wait.target.kind in _ENDS:
        return _CAUSES_FIRST.index(_ENDS[0]), False
    return _CAUSES_FIRST.index(wait.target.kind), wait.target.kind is WaitKind.SIGNAL and wait.target.semaphore is None


def _kind(waits: Sequence[Wait]) -> RootKind:
    if len(waits) == 1 and waits[0].holders == (waits[0].thread,):
        return RootKind.ITSELF
    ring = len(waits) > 1 and (all(wait.holders for wait in waits) or len({wait.target for wait in waits}) > 1)
    return RootKind.RING if ring else RootKind.NOBODY


def _stopped_roots(waits: Waits, stopped: Collection[ProcessId]) -> Iterator[Root]:
    """Yield a root for each stopped process that threads wait for, directly or behind others that do."""
    groups = _by_wakers(waits)
    direct: dict[ProcessId, list[Wait]] = {}
    for able, found in groups.items():
        for process in {*(each.process for each in able.threads), *able.processes} & set(stopped):
            direct.setdefault(process, []).extend(found)
    for process, found in sorted(direct.items()):
        near = [wait for wait in found if not wait.idle] or found
        shown = {wait.thread for wait in near}
        after = (wait for wait in _hanging_on(found, groups) if not wait.idle and wait.thread not in shown)
        yield Root(RootKind.STOPPED, tuple(near), tuple(after), stopped=(process,))


def _by_wakers(waits: Waits) -> dict[_Able, list[Wait]]:
    """Return the waits of those who have the same wakers together."""
    groups: dict[_Able, list[Wait]] = {}
    for wait in waits.values():
        if (able := _expected(wait)) is not None:
            groups.setdefault(able, []).append(wait)
    return groups


def _hanging_on(first: Sequence[Wait], groups: Mapping[_Able, Sequence[Wait]]) -> list[Wait]:
    """Return these waits and those of all threads behind them. Linear in waits and wakers."""
    of_waker: dict[ThreadId | ProcessId, list[_Able]] = {}
    for able in groups:
        wakers: tuple[ThreadId | ProcessId, ...] = (*able.threads, *able.processes)
        for waker in wakers:
            of_waker.setdefault(waker, []).append(able)
    found: dict[ThreadId, Wait] = {}
    more = list(first)
    while more:
        wait = more.pop()
        found[wait.thread] = wait
        for able in (*of_waker.pop(wait.thread, ()), *of_waker.pop(wait.thread.process, ())):
            more += [each for each in groups[able] if each.thread not in found]
    return sorted(found.values(), key=lambda wait: wait.thread)
