"""Names of semaphores: those still listed in `/dev/shm`, and those that only glibc's table in the process remembers."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from semtrace.linux import safefile
from semtrace.linux.memory import Memory
from semtrace.model import SemId, SharedMemory

# sem_open of glibc puts `sem.` before the name (nptl/sem_open.c, shm_get_name).
_PREFIX = "sem."
_VALUE = struct.Struct("<II")

# Two changes within one tick of the kernel's coarse clock (Documentation/filesystems/multigrain-ts.rst) have one time.
_TICK_NS = 50_000_000

# glibc nptl/sem_routines.c (2.35; nptl/sem_open.c before): struct inuse_sem {dev_t dev; ino_t ino; int refcnt; sem_t
# *sem; char name[];}
_ENTRY = struct.Struct("<QQi4xQ")
_NAME_LIMIT = 256

# Python names its semaphores so (Lib/multiprocessing/synchronize.py _make_name).
_PYTHONS = b"/mp-"
_PIECE = 1 << 19


class ShmDirectory:
    """One `/dev/shm` as one process sees it, listed again only when it has changed."""

    def __init__(self, pid: int | None = None) -> None:
        """`pid` None is this process's own; that of another process serves containers with a `/dev/shm` of their
        own.
        """
        self.path = Path("/dev/shm") if pid is None else Path(f"/proc/{pid}/root/dev/shm")
        self._changed_ns = -1
        self._names: dict[SemId, str] = {}

    def names(self) -> dict[SemId, str]:
        """Linked semaphores by identity, as sem_open was given them (`/mp-…`); none if it cannot be read."""
        try:
            info = self.path.stat()
            if info.st_mtime_ns != self._changed_ns:
                now_ns = time.time_ns()
                self._names = self._list(info.st_dev)
                self._changed_ns = info.st_mtime_ns if abs(now_ns - info.st_mtime_ns) > _TICK_NS else -1
        except OSError:
            self._names, self._changed_ns = {}, -1
        return self._names

    def _list(self, device: int) -> dict[SemId, str]:
        major, minor = os.major(device), os.minor(device)
        with os.scandir(self.path) as entries:
            return {
                SemId(major, minor, entry.inode()): "/" + entry.name.removeprefix(_PREFIX)
                for entry in entries
                if entry.name.startswith(_PREFIX)
            }

    def room(self) -> SharedMemory | None:
        """How large it is and how much of it is left to ordinary users; None if it cannot be asked."""
        try:
            status = os.statvfs(self.path)
        except OSError:
            return None
        return SharedMemory(size=status.f_blocks * status.f_frsize, free=status.f_bavail * status.f_frsize)

    def status(self, name: str) -> os.stat_result | None:
        """Of a linked semaphore's file; None if it is gone or may not be asked."""
        try:
            return os.stat(self.path / (_PREFIX + name.removeprefix("/")), follow_symlinks=False)
        except OSError:
            return None

    def read(self, name: str) -> tuple[int, int] | None:
        """Value and waiter count of a linked semaphore from its file: needs no right over any process."""
        try:
            fd = safefile.regular(str(self.path / (_PREFIX + name.removeprefix("/"))), os.O_RDONLY)
        except OSError:
            return None
        try:
            return parse_sem(os.read(fd, _VALUE.size))
        except OSError:
            return None
        finally:
            os.close(fd)


def parse_sem(raw: bytes | None) -> tuple[int, int] | None:
    """Value and number of waiters of a `sem_t` (64-bit glibc, sysdeps/nptl/internaltypes.h struct new_sem).

    The waiter count is an upper bound: a waiter that is killed never takes itself off. Zero does mean none.
    """
    if raw is None or len(raw) < _VALUE.size:
        return None
    value, waiters = _VALUE.unpack_from(raw)
    return value, waiters


def names_in_table(
    memory: Memory, parts: Iterable[tuple[int, int]], handles: Mapping[int, SemId]
) -> Iterator[tuple[SemId, str] | None]:
    """What glibc's table, somewhere in these parts of memory, says that the semaphores at these addresses are called;
    None after each piece that was read.
    """
    for start, end in parts:
        for at in range(start, end, _PIECE):
            for hit in memory.search(at, min(at + _PIECE + len(_PYTHONS), end), _PYTHONS):
                semaphore = handles.get(memory.u64(hit - 8) or 0)
                if semaphore is not None and (name := table_name(memory, hit - 8, semaphore)):
                    yield semaphore, name
            yield None


def table_name(memory: Memory, pointer_at: int, semaphore: SemId) -> str | None:
    """The name in glibc's table entry whose `sem` field lies at `pointer_at`, if that is such an entry."""
    start = pointer_at - _ENTRY.size + 8
    raw = memory.read(start, _ENTRY.size)
    if raw is None:
        return None
    device, inode, _, _ = _ENTRY.unpack(raw)
    if not _is_file(semaphore, device, inode):
        return None
    name = memory.cstring(start + _ENTRY.size, _NAME_LIMIT)
    return name.decode(errors="backslashreplace") if name else None


def _is_file(semaphore: SemId, device: int, inode: int) -> bool:
    return inode == semaphore.inode and device == os.makedev(semaphore.major, semaphore.minor)


def opened(memory: Memory, pointer_at: int, semaphore: SemId) -> int | None:
    """Return how often the process has opened a semaphore, by the C library's table entry whose pointer to it lies at
    `pointer_at`; 0 for an entry that was given back, None if there is no such entry.
    """
    raw = memory.read(pointer_at - _ENTRY.size + 8, _ENTRY.size + 2)
    if raw is not None:
        device, inode, count, _ = _ENTRY.unpack_from(raw)
        if _is_file(semaphore, device, inode):
            return max(int(count), 0)
        # free() has put its own words over device and inode; sem_close does so when the count has come to 0.
        if count == 0 and raw[_ENTRY.size : _ENTRY.size + 1] == b"/":
            return 0
    # musl src/thread/sem_open.c: {ino_t ino; sem_t *sem; int refcnt;}
    if memory.u64(pointer_at - 8) == semaphore.inode:
        return (memory.u32(pointer_at + 8) or 0) & 0x7FFFFFFF
    return None
