"""Who blocks whom, as a tree: locks with those who hold them, below each the threads that wait for it, below those the
locks that they hold in their turn. Pure; it describes, and leaves it to the findings to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from semtrace.model import Holder, Lock, ProcessId, SemId, Snapshot, Waiter

MOST_NODES = 5000
MOST_DEPTH = 50

Thread = tuple[ProcessId, int]


@dataclass(frozen=True, slots=True)
class Node:
    """A lock that somebody waits for, or (`waiter`) a thread that waits for the lock above it.

    `blocks` is how many threads wait below it in all, also those that are not shown, for a tree has so many lines and
    is so deep and no more; `longest_s` is the longest of those waits. `cycle`: the only holder waits, and the way down
    leads back to this lock; `again`: it is shown elsewhere already, its waiters are not repeated.
    """

    lock: Lock
    waiter: Waiter | None
    blocks: int
    longest_s: float | None
    children: tuple[Node, ...] = ()
    cycle: bool = False
    again: bool = False


def forest(snapshot: Snapshot) -> tuple[Node, ...]:
    """The root blockers, those first that block the most threads, then those that do it for the longest."""
    return _Forest(snapshot).grow()


class _Forest:
    def __init__(self, snapshot: Snapshot) -> None:
        self._single = {process.id for process in snapshot.processes if process.threads == 1}
        # Whoever waits for a signal or for a free unit is blocked by nobody.
        self._locks = {lock.id: lock for lock in snapshot.locks if lock.waiters and not (lock.signal or lock.value)}
        self._waits = {(waiter.process, waiter.tid): lock for lock in self._locks.values() for waiter in lock.waiters}
        self._held_by: dict[Thread, list[Lock]] = {}
        for lock in self._locks.values():
            for holder in lock.holders:
                thread = self._thread(holder)
                if thread is not None:
                    self._held_by.setdefault(thread, []).append(lock)
        self._done: set[SemId] = set()
        self._cyclic: set[SemId] = set()
        self._walked: set[SemId] = set()
        self._nodes = 0

    def grow(self) -> tuple[Node, ...]:
        roots = [lock for lock in self._locks.values() if not self._waits_itself(lock)]
        trees = [self._tree(lock, (), 0) for lock in roots]
        # What no root leads to hangs on a cycle: the whole of it is shown from its most wanted lock on.
        rest = sorted(self._locks.values(), key=lambda lock: (-len(lock.waiters), lock.id))
        for lock in rest:
            start = self._on_cycle(lock) if lock.id not in self._done else None
            if start is not None and start.id not in self._done:
                trees.append(self._tree(start, (), 0))
        return tuple(sorted(trees, key=lambda node: (-node.blocks, -(node.longest_s or 0.0), node.lock.id)))

    def _tree(self, lock: Lock, above: tuple[SemId, ...], depth: int) -> Node:
        if lock.id in self._done:
            if lock.id in above:
                self._cyclic.add(lock.id)
            return Node(lock, None, 0, None, cycle=lock.id in above, again=True)
        self._done.add(lock.id)
        if depth > MOST_DEPTH:
            return Node(lock, None, len(lock.waiters), _longest((), lock))
        patient = sorted(lock.waiters, key=lambda waiter: -(waiter.for_s or 0.0))
        path = (*above, lock.id)
        children = tuple(self._waiting(lock, waiter, path, depth + 1) for waiter in patient if self._room())
        return Node(
            lock,
            None,
            len(lock.waiters) + sum(child.blocks for child in children),
            _longest(children, lock),
            children,
            lock.id in self._cyclic and len(lock.holders) == 1,
        )

    def _waiting(self, lock: Lock, waiter: Waiter, path: tuple[SemId, ...], depth: int) -> Node:
        held = self._held_by.get((waiter.process, waiter.tid), ())
        below = tuple(self._tree(each, path, depth) for each in held if self._room())
        longest = max((child.longest_s for child in below if child.longest_s is not None), default=None)
        return Node(lock, waiter, sum(child.blocks for child in below), longest, below)

    def _waits_itself(self, lock: Lock) -> bool:
        """True if none of its holders can go on by itself; then it hangs below what they wait for."""
        threads = [self._thread(holder) for holder in lock.holders]
        return bool(threads) and all(thread in self._waits for thread in threads)

    def _on_cycle(self, lock: Lock) -> Lock | None:
        """The first lock that comes again on the way up from this one; None if the way ends, or was walked before."""
        seen: set[SemId] = set()
        at: Lock | None = lock
        while at is not None and at.id not in seen:
            if at.id in self._walked:
                at = None
                break
            seen.add(at.id)
            threads = [self._thread(holder) for holder in at.holders]
            at = next((self._waits[thread] for thread in threads if thread in self._waits), None)
        self._walked |= seen
        return at

    def _thread(self, holder: Holder) -> Thread | None:
        if holder.tid is not None:
            return holder.process, holder.tid
        return (holder.process, holder.pid) if holder.process in self._single else None

    def _room(self) -> bool:
        self._nodes += 1
        return self._nodes <= MOST_NODES


def walk(nodes: Sequence[Node], depth: int = 0) -> Iterator[tuple[Node, int]]:
    """Each with how deep it lies, from the top."""
    for node in nodes:
        yield node, depth
        yield from walk(node.children, depth + 1)


def _longest(children: Sequence[Node], lock: Lock) -> float | None:
    waits = [waiter.for_s for waiter in lock.waiters] + [child.longest_s for child in children]
    return max((each for each in waits if each is not None), default=None)
