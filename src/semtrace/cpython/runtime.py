"""Find a process's interpreters: which CPython it runs, and where its sys.modules dicts lie."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from semtrace.cpython.elf import load_image
from semtrace.cpython.layout import (
    DEBUG_COOKIE,
    DEBUG_FREE_THREADED,
    DEBUG_VERSION,
    DEBUG_WORDS,
    LAYOUTS,
    Layout,
    with_debug_offsets,
)
from semtrace.cpython.objects import Objects
from semtrace.cpython.page_cache import CHUNK, Pages
from semtrace.lazydata import dataclass
from semtrace.linux.maps import Mapping
from semtrace.linux.memory import Memory

_MOST_INTERPRETERS = 16
_MOST_FILES = 400
_NAMED_VERSION = re.compile(r"python(3)\.(\d{1,2})")
_PYPY = re.compile(r"(?:lib)?pypy3?(?:[.\d-]|\Z)")
_EXTENSION_VERSION = re.compile(r"\.cpython-(3)(\d{1,2})-")
# How far into the interpreter state to look for sys.modules where the table's offset is not right (other architectures
# and builds have mutexes of other sizes before it).
_STATE_WORDS = 1024
_MOST_SEARCHED = 32 << 20


class UnreadableError(Exception):
    """No interpreter was found that can be walked; the text is the reason. It stays within `cpython`."""


@dataclass(frozen=True)
class Runtime:
    """The start of a walk: for each interpreter the addresses of its state and of its sys.modules."""

    layout: Layout
    interpreters: tuple[int, ...]
    modules: tuple[int, ...]


def locate(pages: Pages, mappings: Sequence[Mapping]) -> tuple[Runtime, Objects]:
    """Raises UnreadableError."""
    runtime, version = _find_runtime(pages, mappings)
    described = pages.words(runtime, DEBUG_WORDS)
    if described and described[0] == int.from_bytes(DEBUG_COOKIE, "little"):
        version = _version(described[DEBUG_VERSION])
        if described[DEBUG_FREE_THREADED]:
            raise UnreadableError("free-threaded build of CPython, whose objects are laid out differently")
    if version is None:
        version = _version_by_name(mappings)
    layout = LAYOUTS.get(version or (0, 0))
    if layout is None:
        raise UnreadableError(
            f"no layout for CPython {version[0]}.{version[1]}" if version else "version of CPython not found"
        )
    exact = with_debug_offsets(layout, described) if described and layout.version >= (3, 13) else layout
    objects = Objects(pages, exact or layout)
    found = list(_interpreters(objects, runtime)) if described and exact else []  # nothing: it ended meanwhile
    if not found:
        raise UnreadableError("sys.modules not found")
    return Runtime(objects.layout, tuple(state for state, _ in found), tuple(modules for _, modules in found)), objects


@dataclass(frozen=True)
class LockPlace:
    """The place of the interpreter lock: in the static `_PyRuntime`, at `runtime`, while `is_there` says so."""

    runtime: int
    layout: Layout

    def is_there(self, memory: Memory) -> bool:
        """Return False if there are several interpreters now: from 3.12 each can have its own lock elsewhere
        (Include/internal/pycore_interp.h, PyInterpreterState.ceval.gil).
        """
        if self.layout.version < (3, 12):
            return True
        state = memory.u64(self.runtime + self.layout.interpreters_head)
        return bool(state) and memory.u64((state or 0) + self.layout.interpreter_next) == 0


def lock_place(memory: Memory, mappings: Sequence[Mapping]) -> LockPlace | None:
    """Find the interpreter lock; None where `_PyRuntime` or its layout is not known."""
    pages = Pages(memory)
    try:
        return LockPlace(_find_runtime(pages, mappings)[0], locate(pages, mappings)[0].layout)
    except UnreadableError:
        return None


def _find_runtime(pages: Pages, mappings: Sequence[Mapping]) -> tuple[int, tuple[int, int] | None]:
    """Return the address of _PyRuntime, and the version if Py_Version has it (3.11, Python/getversion.c)."""
    for base in _images(mappings):
        image = load_image(pages, base)
        runtime = image.find("_PyRuntime") if image else None
        if image and runtime:
            number = image.find("Py_Version")
            return runtime, _version(pages.u64(number)) if number else None
    if runtime := _search_cookie(pages, mappings):
        return runtime, None
    if any(_PYPY.match(mapping.path.rpartition("/")[2]) for mapping in mappings):
        raise UnreadableError("it runs on PyPy, and only CPython's objects can be read")
    raise UnreadableError("no CPython in this process exports _PyRuntime")


def _search_cookie(pages: Pages, mappings: Sequence[Mapping]) -> int:
    """Find a `_PyRuntime` that is not exported: from 3.13 on it begins with a cookie (pycore_debug_offsets.h), in the
    data of the executable or of libpython. 0 if it is not found.
    """
    likely = {mapping.path for mapping in mappings[:1]} | {m.path for m in mappings if _is_libpython(m)}
    searched = 0
    for mapping in mappings:
        if mapping.path not in likely or not mapping.inode or not mapping.perms.startswith("rw-p"):
            continue
        for start in range(mapping.start, mapping.end, CHUNK):
            data = pages.read(start, min(CHUNK, mapping.end - start)) or b""
            at = data.find(DEBUG_COOKIE)
            while at >= 0:
                if at % 8 == 0:
                    return start + at
                at = data.find(DEBUG_COOKIE, at + 1)
            searched += CHUNK
            if searched > _MOST_SEARCHED:
                return 0
    return 0


def _is_libpython(mapping: Mapping) -> bool:
    return mapping.path.rpartition("/")[2].startswith("libpython")


def _images(mappings: Sequence[Mapping]) -> list[int]:
    """Return where ELF headers may lie, the likeliest first: libpython, the executable (usually the first mapping),
    others.
    """
    bases = [m for m in mappings if m.offset == 0 and m.inode and "s" not in m.perms]
    first = min((m.start for m in bases), default=0)

    def unlikely(m: Mapping) -> int:
        name = m.path.rpartition("/")[2]
        return 0 if _is_libpython(m) else 1 if m.start == first or "python" in name else 2

    return [m.start for m in sorted(bases, key=unlikely) if unlikely(m) < 2 or ".so" in m.path][:_MOST_FILES]


def _version(number: int) -> tuple[int, int] | None:
    """Return the version from PY_VERSION_HEX, Include/patchlevel.h."""
    found = (number >> 24 & 0xFF, number >> 16 & 0xFF)
    return found if found[0] == 3 else None


def _version_by_name(mappings: Sequence[Mapping]) -> tuple[int, int] | None:
    """Return the version from the name of libpython, of the executable, or of an extension module."""
    for pattern in (_NAMED_VERSION, _EXTENSION_VERSION):
        for mapping in mappings:
            match = pattern.search(mapping.path.rpartition("/")[2])
            if match:
                return int(match[1]), int(match[2])
    return None


def _interpreters(objects: Objects, runtime: int) -> Iterator[tuple[int, int]]:
    layout, pages = objects.layout, objects.pages
    state = pages.u64(runtime + layout.interpreters_head)
    for _ in range(_MOST_INTERPRETERS):
        if not state:
            return
        modules = pages.u64(state + layout.modules)
        if not _is_sys_modules(objects, modules):
            modules = _search_modules(objects, state)
        if modules:
            yield state, modules
        state = pages.u64(state + layout.interpreter_next)


def _search_modules(objects: Objects, state: int) -> int:
    pages = objects.pages
    for at in range(state, state + 8 * _STATE_WORDS, 8):
        candidate = pages.u64(at)
        if candidate > 1 << 16 and _is_sys_modules(objects, candidate):
            return candidate
    return 0


def _is_sys_modules(objects: Objects, address: int) -> bool:
    if not objects.is_dict(address):
        return False
    wanted = {"sys", "builtins", "_frozen_importlib"}
    for key, _ in objects.dict_items(address, 64):
        wanted.discard(objects.text(key) or "")
        if not wanted:
            return True
    return False
