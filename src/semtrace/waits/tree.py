"""Draw blocking as a tree: things that are waited for, below each the threads that wait for it, below those the things
that wait for these threads. Pure; it describes, and the findings judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from semtrace.lazydata import dataclass
from semtrace.model import ProcessId, Target, ThreadId, Wait, WaitGraph, WaitKind

MOST_NODES = 5000
MOST_DEPTH = 50
_PIPES = (WaitKind.PIPE_READ, WaitKind.PIPE_WRITE)


@dataclass(frozen=True)
class Node:
    """A thing that somebody waits for, or (`wait`) a thread that waits for the thing above it.

    `blocks` is how many threads wait below it in all, also those that are not shown: a tree has only so many lines and
    is only so deep. `longest_s` is the longest of those waits. `cycle`: who could end these waits waits itself, and the
    way down leads back to this thing; `again`: it is shown elsewhere already, its waiters are not repeated.
    """

    target: Target
    wait: Wait | None
    blocks: int
    longest_s: float | None
    children: tuple[Node, ...] = ()
    cycle: bool = False
    again: bool = False


def forest(graph: WaitGraph) -> tuple[Node, ...]:
    """Return the root blockers, those first that block the most threads, then those that do it for the longest.

    Threads that wait for work, as designed, are left out, and so are those for a unit of a signal that has one.
    """
    return _Forest(graph).grow()


class _Forest:
    def __init__(self, graph: WaitGraph) -> None:
        self._waits: dict[ThreadId, Wait] = {}
        self._waiters: dict[Target, list[Wait]] = {}
        for wait in graph.waits:
            if not wait.idle and wait.target.kind is not WaitKind.UNKNOWN:
                self._waits[wait.thread] = wait
                self._waiters.setdefault(wait.target, []).append(wait)
        self._stuck = graph.stuck
        self._blockers = {target: self._blockers_of(waits) for target, waits in self._waiters.items()}
        self._held_by: dict[ThreadId, list[Target]] = {}
        for target, threads in self._blockers.items():
            for thread in threads:
                self._held_by.setdefault(thread, []).append(target)
        self._done: set[Target] = set()
        self._cyclic: set[Target] = set()
        self._walked: set[Target] = set()
        self._nodes = 0

    def grow(self) -> tuple[Node, ...]:
        roots = [target for target in self._waiters if not self._waits_itself(target)]
        trees = [self._tree(target, (), 0) for target in roots]
        # What no root leads to hangs on a cycle: all of it is shown from its most wanted thing on.
        for target in sorted(self._waiters, key=lambda target: (-len(self._waiters[target]), _order(target))):
            start = self._on_cycle(target) if target not in self._done else None
            if start is not None and start not in self._done:
                trees.append(self._tree(start, (), 0))
        return tuple(sorted(trees, key=lambda node: (-node.blocks, -(node.longest_s or 0.0), _order(node.target))))

    def _tree(self, target: Target, above: tuple[Target, ...], depth: int) -> Node:
        waits = self._waiters[target]
        if target in self._done:
            if target in above:
                self._cyclic.add(target)
            return Node(target, None, 0, None, cycle=target in above, again=True)
        self._done.add(target)
        if depth > MOST_DEPTH:
            return Node(target, None, len(waits), _longest((), waits))
        patient = sorted(waits, key=lambda wait: -(wait.for_s or 0.0))
        path = (*above, target)
        children = tuple(self._waiting(wait, path, depth + 1) for wait in patient if self._room())
        return Node(
            target,
            None,
            len(waits) + sum(child.blocks for child in children),
            _longest(children, waits),
            children,
            target in self._cyclic and self._must_end(target),
        )

    def _waiting(self, wait: Wait, path: tuple[Target, ...], depth: int) -> Node:
        held = self._held_by.get(wait.thread, ())
        below = tuple(self._tree(each, path, depth) for each in held if self._room())
        longest = max((child.longest_s for child in below if child.longest_s is not None), default=None)
        return Node(wait.target, wait, sum(child.blocks for child in below), longest, below)

    def _must_end(self, target: Target) -> bool:
        """Return True if the way down leads through everybody who could end these waits."""
        blockers = self._blockers[target]
        return len(blockers) == 1 or self._stuck.issuperset(blockers)

    def _blockers_of(self, waits: Sequence[Wait]) -> tuple[ThreadId, ...]:
        """Return the threads that have to act before these waits end. Of a pipe they are known only where none of those
        who have its other end can go on.
        """
        pipe = waits[0].target.kind in _PIPES and all(wait.thread in self._stuck for wait in waits)
        return _of_processes(waits[0], self._waits) if pipe else _blockers(waits, self._waits)

    def _waits_itself(self, target: Target) -> bool:
        """Return True if none of those who could end these waits can go on: it then hangs below what they wait for."""
        threads = self._blockers[target]
        return bool(threads) and all(thread in self._waits for thread in threads)

    def _on_cycle(self, target: Target) -> Target | None:
        """Return the first thing that comes again on the way up; None if the way ends, or was walked before."""
        seen: set[Target] = set()
        at: Target | None = target
        while at is not None and at not in seen:
            if at in self._walked:
                at = None
                break
            seen.add(at)
            blockers = (self._waits[thread].target for thread in self._blockers[at] if thread in self._waits)
            at = next(blockers, None)
        self._walked |= seen
        return at

    def _room(self) -> bool:
        self._nodes += 1
        return self._nodes <= MOST_NODES


def _blockers(waits: Sequence[Wait], all_waits: Mapping[ThreadId, Wait]) -> tuple[ThreadId, ...]:
    """Return the holders; for the end of a process or a thread, those that wait in it. A process with a thread that
    runs is not blocked, so it is not shown below another.
    """
    wait = waits[0]
    if wait.target.kind is WaitKind.PROCESS_END:
        return _of_processes(wait, all_waits)
    if wait.target.kind is WaitKind.THREAD_END:
        return wait.wakers.threads
    return wait.holders or ()


def _of_processes(wait: Wait, all_waits: Mapping[ThreadId, Wait]) -> tuple[ThreadId, ...]:
    able: set[ProcessId] = set(wait.wakers.processes)
    return tuple(sorted(thread for thread in all_waits if thread.process in able))


def walk(nodes: Sequence[Node], depth: int = 0) -> Iterator[tuple[Node, int]]:
    """Yield each node with how deep it lies, from the top."""
    for node in nodes:
        yield node, depth
        yield from walk(node.children, depth + 1)


def _longest(children: Sequence[Node], waits: Sequence[Wait]) -> float | None:
    lengths = [wait.for_s for wait in waits] + [child.longest_s for child in children]
    return max((each for each in lengths if each is not None), default=None)


def _order(target: Target) -> tuple[str, str, int, int]:
    return target.kind.value, target.name, target.process.pid if target.process else 0, target.address or 0
