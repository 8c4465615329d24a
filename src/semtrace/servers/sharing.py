"""Scripts that are servers because their processes share semaphores."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from semtrace.linux.maps import SemaphoreMaps
from semtrace.linux.process import Stat
from semtrace.model import SemId
from semtrace.servers import processes
from semtrace.servers.lineage import related

# Processes of one tree that are asked. Those that share a semaphore are mostly the first.
_MOST_ASKED = 64
_MOST_DEPTH = 64


def roots(table: Mapping[int, Stat], known: Collection[int]) -> Iterator[Stat]:
    """Yield the first Python process of each tree in which two processes map one semaphore. `table` has all processes
    by PID, `known` the roots that are servers anyway.
    """
    for pid, members in _trees(table).items():
        if not any(each.id.pid in known for each in members) and processes.is_python(pid) and _share(members):
            yield table[pid]


def _trees(table: Mapping[int, Stat]) -> dict[int, list[Stat]]:
    """Return the processes of each tree of more than one, by the PID of its root."""
    parents = {}
    for child in table.values():
        parent = table.get(child.ppid)
        if parent is not None and related(child, parent):
            parents[child.id.pid] = parent.id.pid
    found: dict[int, list[Stat]] = {}
    for pid in parents:
        top = _top(pid, parents)
        found.setdefault(top, [table[top]]).append(table[pid])
    return found


def _top(pid: int, parents: Mapping[int, int]) -> int:
    for _ in range(_MOST_DEPTH):
        if pid not in parents:
            break
        pid = parents[pid]
    return pid


def _share(members: Iterable[Stat]) -> bool:
    seen: set[SemId] = set()
    for stat in list(members)[:_MOST_ASKED]:
        mapped = _semaphores(stat.id.pid)
        if not seen.isdisjoint(mapped):
            return True
        seen |= mapped
    return False


def _semaphores(pid: int) -> set[SemId]:
    try:
        maps = SemaphoreMaps(pid)
    except OSError:
        return set()
    try:
        return {each.id for each in maps.semaphores()}
    except OSError:
        return set()
    finally:
        maps.close()
