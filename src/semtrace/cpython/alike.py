"""Private locks of a process that runs the same program as one that was walked: looked up by their names, without a
walk. Only globals of modules are found so; the process's own walk finds the others, later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from semtrace.cpython import layout as at
from semtrace.cpython.bytecode import item_of
from semtrace.cpython.classes import Classes
from semtrace.cpython.name_walk import Walk
from semtrace.cpython.objects import Objects
from semtrace.cpython.page_cache import Pages, Readable
from semtrace.cpython.runtime import UnreadableError, locate
from semtrace.cpython.threadlock import FoundThreadLock, form_of, queue_slot, resolve
from semtrace.linux.maps import read_mappings

_MOST_LOCKS = 64


def locks_alike(pid: int, memory: Readable, known: Sequence[FoundThreadLock]) -> Walk | None:
    """Return the locks of these names that the process has, None if it has none or cannot be read."""
    pages = Pages(memory)
    try:
        runtime, objects = locate(pages, read_mappings(pid) or ())
    except (UnreadableError, PermissionError):
        return None
    classes = Classes(objects)
    tries = (_find(objects, classes, runtime.modules, lock) for lock in known[:_MOST_LOCKS])
    found = tuple(lock for lock in tries if lock is not None)
    return Walk(thread_locks=found, layout=runtime.layout) if found else None


def _find(
    objects: Objects, classes: Classes, interpreters: Sequence[int], known: FoundThreadLock
) -> FoundThreadLock | None:
    module, _, variable = known.name.rpartition(".")
    for modules in interpreters:
        loaded = item_of(objects, modules, module) if module else 0
        value = item_of(objects, objects.pages.u64(loaded + at.MODULE_DICT), variable) if loaded else 0
        cls = classes.of(value)
        source = resolve(objects, classes, value, cls) if cls is not None else None
        if source is not None and form_of(source[1]) == known.form:
            address, owner, slot = source
            return replace(
                known,
                address=address,
                type_address=owner.address,
                slot=slot,
                value_type=objects.type_of(objects.pages.u64(slot)) if slot else 0,
                queue_slot=queue_slot(classes, address, owner),
            )
    return None
