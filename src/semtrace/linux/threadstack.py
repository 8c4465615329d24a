"""Find stacks of threads among a process's mappings. Their content is mostly left over from calls that have returned.

glibc keeps the stacks of ended threads for new ones, and the kernel joins a stack to adjoining memory. So a stack is
recognised by the guard page below it and by the thread's control block above.

The guard is a mapping of its own without rights. From glibc 2.42 and Linux 6.13 on it is a part of the stack's mapping
that cannot be read (nptl/allocatestack.c: madvise MADV_GUARD_INSTALL).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence

from semtrace.linux.machine import MACHINE
from semtrace.linux.maps import Mapping
from semtrace.linux.memory import Memory

# nptl/allocatestack.c: a guard of one page unless the program asked for more; its control block at the upper end.
_LARGEST_GUARD = 1 << 20
_MOST_SEARCHED = 16 << 20
_PIECE = 1 << 16
_PAGE = 4096  # the smallest there is

# sysdeps/x86_64/nptl/tls.h tcbhead_t: tcb and self, the first and the third word, point to the block itself, which is
# aligned to 64 bytes. Other processors have no such words.
_BLOCK = struct.Struct("<QQQ")
_ALIGNED = 64

Touched = Callable[[int, int], Iterator[tuple[int, int]]]


def on_stack(memory: Memory, mappings: Sequence[Mapping], touched: Touched, address: int) -> bool:
    """Return True if the address lies on the stack of a thread, also of one that has ended; `touched` gives the parts
    of a range that have ever been used.
    """
    for below, mapping in itertools.pairwise(mappings):
        if mapping.start <= address < mapping.end:
            if below.end == mapping.start and below.perms.startswith("---"):
                guarded = below.end - below.start <= _LARGEST_GUARD
                return guarded and (
                    not MACHINE.block_has_self or _has_block_above(memory, touched(address, mapping.end), address)
                )
            # Another guard in between would be that of another stack.
            light = mapping.perms.startswith("rw") and memory.read(mapping.start, 8) is None
            parts = touched(address, mapping.end)
            return light and MACHINE.block_has_self and _has_block_above(memory, parts, address, up_to_guard=True)
    return False


def _has_block_above(
    memory: Memory, parts: Iterator[tuple[int, int]], address: int, *, up_to_guard: bool = False
) -> bool:
    searched = 0
    for start, end in parts:
        for at in range(max(start, address) & ~(_ALIGNED - 1), end, _PIECE):
            size = min(_PIECE, end - at)
            data = memory.read(at, size)
            whole = data is not None
            if data is None:
                data = _up_to_guard(memory, at, size) if up_to_guard else b""
            for offset in range(0, len(data) - _BLOCK.size + 1, _ALIGNED):
                tcb, _, itself = _BLOCK.unpack_from(data, offset)
                if tcb == itself == at + offset:
                    return True
            searched += _PIECE
            if searched > _MOST_SEARCHED or (up_to_guard and not whole):
                return False
    return False


def _up_to_guard(memory: Memory, start: int, size: int) -> bytes:
    """Return what lies below the first page that cannot be read."""
    found, end = b"", start + size
    at = start
    while at < end:
        following = min((at | (_PAGE - 1)) + 1, end)
        data = memory.read(at, following - at)
        if data is None:
            break
        found, at = found + data, following
    return found
