"""Which process descends from which in one server."""

from __future__ import annotations

from semtrace.linux.process import Stat, read_stat
from semtrace.servers import processes


def lineage(stat: Stat) -> list[Stat]:
    """Return the process and its ancestors as far as they run one program: forked, or spawned by multiprocessing."""
    found = [stat]
    while (parent := parent_of(found[-1])) and related(found[-1], parent):
        found.append(parent)
    return found


def parent_of(child: Stat) -> Stat | None:
    """Return the parent, None if it cannot be seen. A later process that was given the parent's number is younger."""
    parent = read_stat(child.ppid) if child.ppid > 0 else None
    return parent if parent and parent.id.start_ticks <= child.id.start_ticks and not parent.ended else None


def related(child: Stat, parent: Stat) -> bool:
    return processes.same_program(child, parent) if child.forked else processes.spawned_by(child, parent)
