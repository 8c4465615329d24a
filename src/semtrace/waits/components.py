"""Strongly connected components of a directed graph (Tarjan), without recursion. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Generic, TypeVar

from semtrace.lazydata import dataclass

Node = TypeVar("Node", bound=Hashable)


def components(edges: Mapping[Node, Sequence[Node]]) -> Iterator[list[Node]]:
    """Yield each component once, always before those from which an edge leads to it.

    A node that is only the end of an edge is a component of its own.
    """
    walk = _Walk(edges)
    for start in edges:
        if start not in walk.index:
            yield from walk.run(start)


@dataclass(frozen=False)
class _Walk(Generic[Node]):
    """`low` is the smallest index known to be reachable from a node within its component."""

    edges: Mapping[Node, Sequence[Node]]
    index: dict[Node, int] = field(default_factory=dict)
    low: dict[Node, int] = field(default_factory=dict)
    open: list[Node] = field(default_factory=list)
    is_open: set[Node] = field(default_factory=set)

    def run(self, start: Node) -> Iterator[list[Node]]:
        path = [(start, self._enter(start))]
        while path:
            node, following = path[-1]
            child = next(following, None)
            if child is None:
                path.pop()
                if path:
                    above = path[-1][0]
                    self.low[above] = min(self.low[above], self.low[node])
                if self.low[node] == self.index[node]:
                    yield self._leave(node)
            elif child not in self.index:
                path.append((child, self._enter(child)))
            elif child in self.is_open:
                self.low[node] = min(self.low[node], self.index[child])

    def _enter(self, node: Node) -> Iterator[Node]:
        self.index[node] = self.low[node] = len(self.index)
        self.open.append(node)
        self.is_open.add(node)
        return iter(self.edges.get(node, ()))

    def _leave(self, node: Node) -> list[Node]:
        found: list[Node] = []
        while not found or found[-1] != node:
            found.append(self.open.pop())
            self.is_open.discard(found[-1])
        return found
