"""Find out whether any process has a file open, by the kernel's own count: in every namespace, seen or not."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from semtrace.linux import safefile

# Until then a write lease was refused for every file of a tmpfs, because its directory keeps a reference to the file.
# fs/locks.c check_conflicting_open counted references to dentry and inode (commit 387e3746d01c).
_COUNTS_READERS = (5, 3)


@contextmanager
def in_use(name: str, directory: int, *, for_reading: bool = False) -> Iterator[bool | None]:
    """Yield True if some process has the file open for writing or mapped so, None if the kernel does not show it.
    `for_reading`: also where it is open or mapped for reading only.

    sem_open opens for writing (nptl/sem_open.c), and what is mapped stays open. A read lease (fcntl(2)) is refused then
    (fs/locks.c check_conflicting_open: i_writecount). While the lease lasts, a process that opens the file waits in
    open(2), so the answer stays true until the end of the block. The file's owner may ask, and a process with
    CAP_LEASE.

    A read lease does not conflict with readers. A write lease does (i_readcount): it is granted on a descriptor that is
    open for reading only, if that is the only one, and a mapping keeps its own. A process that has the file open
    without the right to read it (O_PATH) does not count.
    """
    try:
        fd = safefile.regular(name, os.O_RDONLY, directory)
    except OSError:
        yield None
        return
    try:
        yield _is_used(fd, for_reading)
    finally:
        os.close(fd)  # which gives the lease back


def _is_used(fd: int, for_reading: bool) -> bool | None:
    used = _refused(fd, fcntl.F_RDLCK)
    if used is not False or not for_reading:
        return used
    used = _refused(fd, fcntl.F_WRLCK)
    return None if used and _kernel() < _COUNTS_READERS else used


def _refused(fd: int, kind: int) -> bool | None:
    """Return True if a lease of this kind is not granted because others have the file open."""
    try:
        # By default SIGIO reports a process that waits, and kills; this one is ignored by default.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    return False


def _kernel() -> tuple[int, ...]:
    """Return the first two numbers of the kernel's version; (0, 0) if it has none."""
    numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
