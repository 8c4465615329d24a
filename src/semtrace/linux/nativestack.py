"""Search the native stack of a blocked thread for a return address into some code: is the thread inside it?

Without unwinding: every word near the stack pointer is compared. A frame that is there is always found; a word that an
earlier call left behind may be found too. So "no" is certain and "yes" is not.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from semtrace.linux.machine import MACHINE
from semtrace.linux.memory import Memory
from semtrace.linux.process import PAGE_SIZE

# How far above the stack pointer the words are compared. 376 to 424 bytes lie between the futex call of take_gil and
# SemLock.acquire, which waits for the interpreter lock. (Measured: CPython 3.8 to 3.13 on x86-64, glibc 2.36, builds of
# pyenv and of Debian.) Ten times as much leaves room for builds without optimisation and for a signal's frame.
WINDOW = 4096

# A thread that waits inside Python has a larger stack than this.
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


# How far above the stack pointer the frame of a signal handler may lie, and how many words are tried as its beginning.
_HANDLER_WINDOW, _MOST_TRIED = 1 << 15, 256

# The address of the code that a handler returns to begins struct rt_sigframe (arch/x86/include/asm/sigframe.h). Behind
# it struct ucontext has the interrupted registers: rsp and rip as words 20 and 21 (uapi/asm/ucontext.h, sigcontext.h).
_RSP_AT, _RIP_AT = 8 + 160, 8 + 168
HANDLERS_KNOWN = bool(MACHINE.restorers)


def interrupted(memory: Memory, stack: int, code: Ranges) -> list[tuple[int, int]]:
    """Return (stack pointer, address) of the code that each signal handler near this stack pointer has interrupted.

    `code` is all executable memory of files. The interrupted code may run on another stack (sigaltstack).
    """
    raw = memory.read(stack, _HANDLER_WINDOW) or _read(memory, stack) or b""
    found: list[tuple[int, int]] = []
    restores: dict[int, bool] = {}
    for at, (word,) in enumerate(struct.iter_unpack("=Q", raw[: len(raw) // 8 * 8])):
        if word not in restores:
            if len(restores) >= _MOST_TRIED or not any(start <= word < end for start, end in code):
                continue
            restores[word] = (memory.read(word, 9) or b"").startswith(MACHINE.restorers)
        if restores[word]:
            frame = stack + 8 * at
            saved = memory.u64(frame + _RSP_AT), memory.u64(frame + _RIP_AT)
            if saved[0] and saved[1]:
                found.append((saved[0], saved[1]))
    return found


def _read(memory: Memory, stack: int) -> bytes | None:
    """Read the window, or as much of it as lies below the end of the stack."""
    if stack % 8:
        return None
    raw = memory.read(stack, WINDOW)
    if raw is None:
        to_next_page = PAGE_SIZE - stack % PAGE_SIZE
        raw = memory.read(stack, min(to_next_page, WINDOW))
    return raw if raw is not None and len(raw) >= _LEAST else None
