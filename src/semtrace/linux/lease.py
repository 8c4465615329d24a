"""Whether anybody at all has a file open for writing, by the kernel's own count: in every namespace, seen or not."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from semtrace.linux import safefile


@contextmanager
def in_use(name: str, directory: int) -> Iterator[bool | None]:
    """True if somebody has the file open for writing or mapped so, None if the kernel does not tell.

    sem_open opens for writing (nptl/sem_open.c), and what is mapped stays open. A read lease (fcntl(2)) is refused then
    (fs/locks.c check_conflicting_open: i_writecount). While it is had, whoever opens the file waits in open(2), so what
    was said stays true until the end of the block. The file's owner may ask, and who has CAP_LEASE.
    """
    try:
        fd = safefile.regular(name, os.O_RDONLY, directory)
    except OSError:
        yield None
        return
    try:
        yield _refused(fd)
    finally:
        os.close(fd)  # which gives the lease back


def _refused(fd: int) -> bool | None:
    try:
        # By default SIGIO tells of somebody who waits, and kills; this one is ignored by default.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    return False
