"""One semaphore opened from outside, and its units given back: the only place of semtrace that writes into a server.

It is opened by its name where it still has one, else through `/proc/PID/map_files`. No process is stopped or attached
to, and nothing is touched but the 32-bit value of this very semaphore.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import NamedTuple

from semtrace.linux import futex, safefile, shm
from semtrace.linux.maps import SemaphoreMaps
from semtrace.linux.process import PAGE_SIZE
from semtrace.linux.shm import SIZE
from semtrace.model import SemId

# include/uapi/linux/futex.h. The operand is 12 bits with a sign, and so is the value to compare with. -2 is never met,
# for SEM_VALUE_MAX is 2147483647, and musl has -1 (up to 1.2.3) or also a bit of its own.
_FUTEX_WAKE_OP = 5
_OP_SET, _CMP_EQ, _MINUS_TWO = 0 << 28, 0 << 24, 0xFFE
MOST_UNITS = 0x7FF

# Made beforehand: the act is to follow the last look at once.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Word(NamedTuple):
    """The state in a semaphore's memory. `waiters` is the C library's count, an upper bound."""

    value: int
    waiters: int


class OpenSemaphore:
    """A semaphore that is open here. `way` is the path that led to it.

    It is mapped for the act alone. Who maps it or has it open is one of those that may hold it, for every other
    semtrace that looks meanwhile.
    """

    def __init__(self, fd: int, way: str) -> None:
        """Own the descriptor from now on."""
        self.way = way
        self._fd = fd

    def __enter__(self) -> OpenSemaphore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def reserve(self) -> bool:
        """Return True if no other semtrace has reserved it; the reservation goes with the descriptor.

        An flock on the semaphore's own file: it holds in every namespace from which the file can be reached, and
        neither glibc nor Python ever asks for one.
        """
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def read(self) -> Word:
        """Raises OSError, also where the file's owner has cut it short meanwhile."""
        found = shm.parse_shared(os.pread(self._fd, shm.SHARED_SIZE, 0))
        if found is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return Word(*found)

    def give_back(self, units: int) -> int:
        """Set the value to `units`, whatever it is, and wake as many waiters, in one step. Return how many it woke.

        sem_post would add (nptl/sem_post.c: compare-and-exchange of d and d + 1, then FUTEX_WAKE if d has waiters). So
        a unit that another process gave back in the same instant would be doubled. With FUTEX_WAKE_OP the kernel
        exchanges the value atomically and wakes under the same lock (kernel/futex/waitwake.c futex_wake_op). So there
        are never more units than `units`, and nobody can be killed between the two. Raises OSError.

        It is right for musl's semaphores too. Setting the value removes musl's mark of a waiter. But its sem_post also
        wakes where its count of waiters is not 0 (src/thread/sem_post.c, 1.2.3 and 1.2.6), so no waiter is forgotten.
        """
        if not 0 < units <= MOST_UNITS or futex.NUMBER is None or os.fstat(self._fd).st_size < SIZE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        with mmap.mmap(self._fd, SIZE) as mapping:
            value = ctypes.c_uint32.from_buffer(mapping)
            try:
                return _set_and_wake(ctypes.addressof(value), units, futex.NUMBER)
            finally:
                del value  # the mapping cannot be closed while something points into it


def _set_and_wake(address: int, units: int, number: int) -> int:
    woken = _libc.syscall(
        ctypes.c_long(number),
        ctypes.c_void_p(address),
        ctypes.c_int(_FUTEX_WAKE_OP),
        ctypes.c_int(units),
        ctypes.c_void_p(0),
        ctypes.c_void_p(address),
        ctypes.c_uint(_OP_SET | _CMP_EQ | units << 12 | _MINUS_TWO),
    )
    if woken < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(woken)


def open_semaphore(semaphore: SemId, shm_name: str | None, pids: Iterable[int]) -> OpenSemaphore:
    """Open it by the first path that leads to this device and inode.

    Raises PermissionError if this user may not use such a path, FileNotFoundError without one.
    """
    refused: PermissionError | None = None
    for path, follow in _ways(semaphore, shm_name, list(pids)):
        try:
            fd = safefile.regular(path, os.O_RDWR, follow=follow)
        except PermissionError as error:
            refused = error
            continue
        except OSError:
            continue
        if identity(os.fstat(fd)) == semaphore:
            return OpenSemaphore(fd, path)
        os.close(fd)
    raise refused or FileNotFoundError(errno.ENOENT, "no process maps it any more")


def identity(status: os.stat_result) -> SemId | None:
    """Which semaphore a file is; None if it cannot be one."""
    if not stat.S_ISREG(status.st_mode) or status.st_size != SIZE:
        return None
    return SemId.of_file(status)


def _ways(semaphore: SemId, shm_name: str | None, pids: list[int]) -> Iterator[tuple[str, bool]]:
    if shm_name is not None:
        for root in (*(f"/proc/{pid}/root/" for pid in pids), "/"):
            for file in shm.file_names(shm_name):
                yield f"{root}dev/shm/{file}", False
    for pid in pids:
        for address in _addresses(semaphore, pid):
            yield f"/proc/{pid}/map_files/{address:x}-{address + PAGE_SIZE:x}", True


def _addresses(semaphore: SemId, pid: int) -> list[int]:
    try:
        maps = SemaphoreMaps(pid)
    except OSError:
        return []
    try:
        return [mapped.address for mapped in maps.semaphores() if mapped.id == semaphore]
    except OSError:
        return []
    finally:
        maps.close()
