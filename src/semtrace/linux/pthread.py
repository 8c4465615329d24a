"""From a pthread id, which is an address in the process, to the kernel's thread id, which glibc keeps behind it.

The field's offset (struct pthread, tid: nptl/descr.h) differs between glibc releases and processors: 0x2d0 on x86-64
with 2.36. It is found in our own thread block rather than known, and what it leads to in another process is believed
only if the kernel lists that thread there.
"""

from __future__ import annotations

import struct
import threading
from functools import cache

from semtrace.linux.memory import Memory
from semtrace.linux.process import thread_ids

_BLOCK = 0x800
_I32 = struct.Struct("<i")


@cache
def tid_offset() -> int | None:
    """Where `tid` lies behind a pthread id in this C library, None if our own threads do not agree on one place."""
    seen: list[set[int]] = []
    look = threading.Thread(target=lambda: seen.append(_offsets_of_own_tid()))
    look.start()
    look.join()
    both = seen[0] & _offsets_of_own_tid() if seen else set()
    return min(both) if both else None


def _offsets_of_own_tid() -> set[int]:
    tid = threading.get_native_id()
    try:
        # /proc/self is the process; the block lies in memory that all of its threads share.
        with Memory.own() as memory:
            block = memory.read(threading.get_ident(), _BLOCK)
    except OSError:
        return set()
    if block is None:
        return set()
    return {at for at in range(0, _BLOCK, 4) if _I32.unpack_from(block, at)[0] == tid}


def kernel_tid(memory: Memory, pid: int, pthread: int, threads: int) -> int | None:
    """The kernel's id of the thread `pthread` of `pid`, as this pid namespace numbers it; None if it ended or cannot
    be told.
    """
    offset = tid_offset()
    if offset is None or not pthread:
        return None
    inner = memory.u32(pthread + offset)
    if not inner:
        return None
    known = [pid] if threads == 1 else thread_ids(pid)
    if innermost_id(pid, pid) == pid:
        return inner if inner in known else None
    return next((tid for tid in known if innermost_id(pid, tid) == inner), None)


def innermost_id(pid: int, tid: int) -> int | None:
    """What the thread is called inside its own pid namespace (`NSpid`, proc.rst): the last of its numbers."""
    try:
        with open(f"/proc/{pid}/task/{tid}/status", "rb") as f:
            for line in f:
                if line.startswith(b"NSpid:"):
                    return int(line.split()[-1])
    except (OSError, ValueError):
        pass
    return None
