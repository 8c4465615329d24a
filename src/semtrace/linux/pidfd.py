"""Descriptors of processes: whether one has ended, and how, also where it is nobody's child that we know."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
from contextlib import suppress

from semtrace.linux.process import still
from semtrace.model import ProcessId

# include/uapi/linux/pidfd.h: struct pidfd_info, PIDFD_GET_INFO = _IOWR(0xFF, 11, struct pidfd_info), since Linux 6.13;
# PIDFD_INFO_EXIT, since 6.15, is there once the process was reaped. mask, cgroupid, eleven ids, exit_code.
_INFO = struct.Struct("=QQ11Ii")
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
_EXIT = 1 << 3


class Pidfd:
    """One process, for as long as somebody is interested in it; `close` gives the descriptor back."""

    def __init__(self, process: ProcessId) -> None:
        """Raises OSError if it has ended, or if this kernel has no such descriptors."""
        self.process = process
        self.fd = open_pidfd(process.pid)
        if not still(process):
            self.close()
            raise ProcessLookupError(f"process {process.pid} has ended")

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    @property
    def ended(self) -> bool:
        """Return True if all of its threads have ended; it may still wait for its parent to notice."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))

    def exit_code(self) -> int | None:
        """Return how it ended, as in subprocess: negative for a signal; None if that is not known, or not yet."""
        return exit_code_of(self.fd)


def open_pidfd(pid: int) -> int:
    """Return a descriptor of the process. Raises OSError, also where kernel or Python have none."""
    if not hasattr(os, "pidfd_open"):
        raise OSError(errno.ENOSYS, "this Python was built without pidfd_open")
    return os.pidfd_open(pid)


def exit_code_of(pidfd: int) -> int | None:
    """Return how a process ended that its parent has reaped, as in subprocess; None before Linux 6.15, or not yet."""
    data = bytearray(_INFO.pack(_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, data)
    except OSError:
        return None
    mask, *_, status = _INFO.unpack(data)
    return os.waitstatus_to_exitcode(status) if mask & _EXIT else None


def out_of_memory_kills(pid: int) -> tuple[str, int] | None:
    """Return the memory cgroup of a process and how many processes were killed in it for memory (cgroup v2
    memory.events, oom_kill). None if that cannot be seen, or without cgroup v2.
    """
    with suppress(OSError, ValueError, IndexError, StopIteration):
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as stream:
            group = next(line for line in stream.read(1 << 16).splitlines() if line.startswith("0::"))[3:]
        kills = kills_in(group)
        return None if kills is None else (group, kills)
    return None


def kills_in(group: str) -> int | None:
    """Return how many were killed in it for memory; None for a group above the root that this process sees."""
    if ".." in group.split("/"):
        return None
    with suppress(OSError, ValueError, StopIteration):
        with open(f"/sys/fs/cgroup{group}/memory.events", encoding="ascii") as stream:
            line = next(line for line in stream.read(4096).splitlines() if line.startswith("oom_kill "))
        return int(line.split()[1])
    return None
