"""Find where a process's C library keeps the kernel's thread id: how far behind the pthread id that Python knows.

The process's own C library has the number in its image in memory, whatever file that came from. Where it has none, and
as a check on it, Python is asked: a PyThreadState has both ids (from 3.11 on).
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from semtrace.cpython.elf import Image, load_image
from semtrace.cpython.frames import thread_states
from semtrace.cpython.page_cache import Pages
from semtrace.cpython.runtime import UnreadableError, locate
from semtrace.linux.machine import MACHINE
from semtrace.linux.maps import Mapping
from semtrace.linux.memory import Memory

# glibc nptl_db/structs.def: what libthread_db reads, exported by libc.so.6 (before 2.34 by libpthread.so.0) for the
# field `tid` of struct pthread: its size in bits, how many there are, its offset.
_GLIBCS = "_thread_db_pthread_tid"
_FIELD = struct.Struct("<III")
# musl ldso/dynlink.c: its C library is the dynamic loader too, and exports the stages of that.
_MUSLS = "__dls3"

_LARGEST = 0x1000
_MOST_IMAGES = 400
_MOST_THREADS = 64
_I32 = struct.Struct("<i")


def tid_offset(memory: Memory, mappings: Sequence[Mapping], living: Collection[int]) -> int | None:
    """Return how many bytes behind its pthread id a thread's kernel id lies, None if that is not known.

    `living` are the ids of its threads as the process itself sees them. A forked child has a copy of its parent's
    thread states, with the parent's ids.
    """
    pages = Pages(memory)
    offset = _by_library(pages, mappings)
    known = [(pthread, tid) for pthread, tid in _pairs(pages, mappings) if tid in living]
    if offset is None:
        return _by_threads(memory, known)
    disagrees = any(memory.u32(pthread + offset) != tid for pthread, tid in known)
    return None if disagrees else offset


def _by_library(pages: Pages, mappings: Sequence[Mapping]) -> int | None:
    """Ask the C library, which its name does not always show: the likely ones first."""
    starts = [m for m in mappings if m.offset == 0 and m.inode and "s" not in m.perms]
    starts.sort(key=lambda m: not any(part in m.path for part in ("/libc", "musl", "/libpthread")))
    for mapping in starts[:_MOST_IMAGES]:
        image = load_image(pages, mapping.start)
        if image is None:
            continue
        offset = _described(pages, image)
        if offset is not None:
            return offset
        if image.find(_MUSLS) is not None:
            return MACHINE.musl_tid
    return None


def _described(pages: Pages, image: Image) -> int | None:
    address = image.find(_GLIBCS)
    raw = pages.read(address, _FIELD.size) if address else None
    if raw is None:
        return None
    bits, count, offset = _FIELD.unpack(raw)
    return offset if (bits, count) == (32, 1) and offset < _LARGEST and offset % 4 == 0 else None


def _pairs(pages: Pages, mappings: Sequence[Mapping]) -> Iterator[tuple[int, int]]:
    """Yield each thread state's pthread id and kernel id (Include/cpython/pystate.h: thread_id, native_thread_id)."""
    try:
        runtime, objects = locate(pages, mappings)
    except UnreadableError:
        return
    layout = runtime.layout
    for interpreter in runtime.interpreters if layout.native_id else ():
        for state in islice(thread_states(objects, [interpreter]), _MOST_THREADS):
            pthread, tid = pages.u64(state + layout.thread_id), pages.u64(state + layout.native_id)
            if pthread and tid:
                yield pthread, tid


def _by_threads(memory: Memory, known: Sequence[tuple[int, int]]) -> int | None:
    """Find the one place behind the pthread ids at which all kernel ids lie."""
    places: set[int] | None = None
    for pthread, tid in known:
        block = memory.read(pthread, _LARGEST) or memory.read(pthread, _LARGEST - pthread % _LARGEST) or b""
        here = {at for at in range(0, len(block) - 3, 4) if _I32.unpack_from(block, at)[0] == tid}
        places = here if places is None else places & here
    return places.pop() if places and len(places) == 1 else None
