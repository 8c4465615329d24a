"""Search the native stack of a blocked thread for a return address into some code: is the thread inside it?

Without unwinding: every word near the stack pointer is compared. A frame that is there is always found; a word that an
earlier call left behind may be found too. So "no" is certain and "yes" is not.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from semtrace.linux.memory import Memory
from semtrace.linux.process import PAGE_SIZE

# How far above the stack pointer the words are compared. From the futex call of take_gil to SemLock.acquire, which
# waits for the interpreter lock, lie 376 to 424 bytes (measured: CPython 3.8 to 3.13 on x86-64, glibc 2.36, builds of
# pyenv and of Debian). Ten times as much leaves room for builds without optimisation and for a signal's frame.
WINDOW = 4096

# Less than this is no stack of a thread that waits inside Python.
_LEAST = 1024

# Return addresses are compared by the bits of user space: aarch64 signs them in those above (pointer authentication).
_USER_BITS = (1 << 48) - 1

Ranges = Sequence[tuple[int, int]]


def returns_into(memory: Memory, stack: int, code: Ranges) -> bool | None:
    """Return True if a word above the stack pointer points into `code`, None if the stack cannot be read."""
    raw = _read(memory, stack)
    if raw is None:
        return None
    words = struct.unpack_from(f"={len(raw) // 8}Q", raw)
    return any(start < word & _USER_BITS <= end for word in words for start, end in code)


def _read(memory: Memory, stack: int) -> bytes | None:
    """Read the window, or as much of it as lies below the end of the stack."""
    if stack % 8:
        return None
    raw = memory.read(stack, WINDOW)
    if raw is None:
        to_next_page = PAGE_SIZE - stack % PAGE_SIZE
        raw = memory.read(stack, min(to_next_page, WINDOW))
    return raw if raw is not None and len(raw) >= _LEAST else None
