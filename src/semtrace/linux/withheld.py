"""Processes that are not to be read any more, because a read of their memory did not come back.

A page of a file whose file system does not answer (FUSE, a dead NFS server) stops its reader for good, SIGKILL
included. Reads that need such a page, or wait for a process that waits for it, are refused.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from typing import NamedTuple

from semtrace.linux.syscalls import NAMES, SystemCall, parse_call, read_line

# What the kernel answers from the memory of the process, or under the lock of its mappings.
FILE = re.compile(r"/proc/(\d+)/(?:mem|maps|pagemap|cmdline|environ|auxv|map_files/.*)")

# A file that a process has open, or that lies below its root or working directory; also as the address of a socket.
_PATH = re.compile(rb"(?:\x01\0)?/proc/(\d{1,10})/")

_READS = ("read", "readv", "pread64", "preadv")

PIDS: set[int] = set()


class Call(NamedTuple):
    """A system call of ours that asks a process. `line` is the same for as long as it is the same call."""

    pid: int
    line: bytes


def check(path: str) -> None:
    """Raise PermissionError for a file of such a process. Costs nothing without one."""
    if PIDS and (found := FILE.fullmatch(path)) and int(found[1]) in PIDS:
        raise PermissionError(errno.EACCES, "a read of it does not come back")


def culprit(tid: int) -> Call | None:
    """Return the call that this thread of ours is blocked in and the process that it asks, None if it asks none."""
    try:
        line = read_line(tid, tid) or b""
        call = parse_call(line)
        if call is None or not call.arguments:
            return None
        pid = _by_descriptor(tid, call) or _by_path(tid, call)
    except OSError:
        return None
    return None if pid is None else Call(pid, line)


def _by_descriptor(tid: int, call: SystemCall) -> int | None:
    """Find the process by the first argument. A file system's answer is waited for in state S (fs/fuse/dev.c
    request_wait_answer), and there the first argument of other calls may be any number.
    """
    if NAMES.get(call.number or 0) not in _READS and not _is_uninterruptible(tid):
        return None
    with suppress(FileNotFoundError):
        found = FILE.fullmatch(os.readlink(f"/proc/{tid}/fd/{call.arguments[0]}"))
        return int(found[1]) if found else None
    return None


def _is_uninterruptible(tid: int) -> bool:
    with open(f"/proc/{tid}/stat", "rb") as file:
        return file.read(4096).rpartition(b")")[2].split()[0] == b"D"


def _by_path(tid: int, call: SystemCall) -> int | None:
    """Find the process by the first or second argument, where open, stat and connect have the path."""
    fd = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for address in call.arguments[:2]:
            with suppress(OSError, OverflowError):
                if found := _PATH.match(os.pread(fd, 64, address)):
                    return int(found[1])
    finally:
        os.close(fd)
    return None
