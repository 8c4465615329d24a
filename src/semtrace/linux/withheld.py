"""Processes that are not to be read any more, because a read of their memory did not come back.

A page of a file whose file system does not answer (FUSE, a dead NFS server) stops its reader for good, SIGKILL
included. What needs such a page, or waits for whoever waits for it, is refused.
"""

from __future__ import annotations

import errno
import os
import re

# What the kernel answers from the memory of the process, or under the lock of its mappings.
FILE = re.compile(r"/proc/(\d+)/(?:mem|maps|pagemap|cmdline|environ|auxv|map_files/.*)")

PIDS: set[int] = set()


def check(path: str) -> None:
    """Raise PermissionError for a file of such a process. Costs nothing where there is none."""
    if PIDS and (found := FILE.fullmatch(path)) and int(found[1]) in PIDS:
        raise PermissionError(errno.EACCES, "a read of it does not come back")


def culprit(tid: int) -> int | None:
    """The process whose memory this thread of ours is stuck in, None if it is not stuck.

    Its system call has the descriptor first (`/proc/PID/task/TID/syscall`): read, pread64 or preadv of such a file.
    """
    try:
        with open(f"/proc/{tid}/stat", "rb") as file:
            if file.read(4096).rpartition(b")")[2].split()[0] != b"D":
                return None
        with open(f"/proc/{tid}/syscall", "rb") as file:
            _, descriptor, *_ = file.read(256).split()
        found = FILE.fullmatch(os.readlink(f"/proc/{tid}/fd/{int(descriptor, 16)}"))
    except (OSError, ValueError, IndexError):
        return None
    return int(found[1]) if found else None
