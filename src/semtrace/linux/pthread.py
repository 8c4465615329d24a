"""Find the kernel's thread id by a pthread id: that is an address in the process, where the C library keeps it.

How far behind that address it lies differs between C libraries: `cpython/threadids` asks the target's own. What is read
there is believed only if the kernel lists that thread.
"""

from __future__ import annotations

from semtrace.linux.files import read_whole
from semtrace.linux.memory import Memory
from semtrace.linux.process import thread_ids


def kernel_tid(memory: Memory, pid: int, pthread: int, threads: int, offset: int | None) -> int | None:
    """Return the kernel's id of the thread `pthread` of `pid`, as this pid namespace numbers it; None if it ended or
    is not known. `offset` is that of the id behind `pthread`, None if it is not known.
    """
    if offset is None or not pthread:
        return None
    inner = memory.u32(pthread + offset)
    if not inner:
        return None
    known = [pid] if threads == 1 else thread_ids(pid)
    if innermost_id(pid, pid) == pid:
        return inner if inner in known else None
    return next((tid for tid in known if innermost_id(pid, tid) == inner), None)


def innermost_ids(pid: int) -> frozenset[int]:
    """Return what the threads of a process are called inside its own pid namespace."""
    return frozenset(inner for tid in thread_ids(pid) if (inner := innermost_id(pid, tid)) is not None)


def innermost_id(pid: int, tid: int) -> int | None:
    """Return the thread's id inside its own pid namespace (`NSpid`, proc.rst): the last of its numbers."""
    try:
        _, name, rest = read_whole(f"/proc/{pid}/task/{tid}/status", 16384).partition(b"\nNSpid:")
        return int(rest.partition(b"\n")[0].split()[-1]) if name else None
    except (OSError, ValueError, IndexError):
        return None
