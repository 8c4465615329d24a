"""Which modules a process has imported: enough to tell whether a worker has loaded what its master has not."""

from __future__ import annotations

from semtrace.cpython.page_cache import Pages, Readable
from semtrace.cpython.runtime import UnreadableError, locate
from semtrace.linux.maps import read_mappings

_MOST_MODULES = 20_000


def module_names(pid: int, memory: Readable) -> frozenset[str] | None:
    """The keys of sys.modules, of all interpreters; None if they cannot be read."""
    pages = Pages(memory)
    try:
        runtime, objects = locate(pages, read_mappings(pid) or ())
    except (UnreadableError, PermissionError):
        return None
    names = (objects.text(key) for modules in runtime.modules for key, _ in objects.dict_items(modules, _MOST_MODULES))
    return frozenset(name for name in names if name)
