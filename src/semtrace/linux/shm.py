"""Semaphores of sem_open: their files' names, their words, and the names that only the C library's table remembers.

glibc and musl differ in all three. Which of them made a semaphore is written in the semaphore itself.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from semtrace.linux import safefile
from semtrace.linux.memory import Memory
from semtrace.model import SemId, SharedMemory

DIRECTORY = "/dev/shm"

# sem_open of glibc puts `sem.` before the name (nptl/sem_open.c, shm_get_name), that of musl nothing. The maker's
# mapping shows the temporary file that was linked to it: `sem.XXXXXX`, and `tmp-NNN` (musl src/thread/sem_open.c). Who
# opens one by its name under musl shows that name, of which only Python's are known for one.
_PREFIX = "sem."
_MUSL_NAME = r"mp-[a-z0-9_]{8}|loky-\d+-[a-z0-9_]{8}"
_MUSL_FILE = re.compile(rf"(?:{_MUSL_NAME})\Z")
_MUSLS = re.compile(rf"(?:.*/)?shm/(?:tmp-\d{{1,9}}|{_MUSL_NAME})\Z", re.DOTALL)
_VALUE = struct.Struct("<II")

# The third word of a shared semaphore: glibc has FUTEX_SHARED there (sysdeps/nptl/internaltypes.h struct new_sem,
# private), musl 0 (src/thread/sem_init.c: __val[2]).
SHARED_SIZE = 12
_SHARED = struct.Struct("<III")
_MUSL = 0
# musl src/thread/sem_post.c, sem_timedwait.c: the upper bit says that somebody waits; up to 1.2.3 a value of -1 did.
_MUSL_VALUE, _MUSL_NONE = 0x7FFFFFFF, 0xFFFFFFFF

# sizeof(sem_t) on 64-bit, of either (glibc sysdeps/nptl/bits/semaphore.h; musl arch/*/bits/alltypes.h): what sem_open
# writes into its file. The rest of the page stays as it was made.
SIZE = 32

# Two changes within one tick of the kernel's coarse clock (Documentation/filesystems/multigrain-ts.rst) have one time.
_TICK_NS = 50_000_000

# glibc nptl/sem_routines.c (2.35; nptl/sem_open.c before): struct inuse_sem {dev_t dev; ino_t ino; int refcnt; sem_t
# *sem; char name[];}
_ENTRY = struct.Struct("<QQi4xQ")
_NAME_LIMIT = 256

# Python names its semaphores so (Lib/multiprocessing/synchronize.py _make_name).
_PYTHONS = b"/mp-"
_PIECE = 1 << 19


_ROOM_EVERY_S = 1.0


class ShmDirectory:
    """One `/dev/shm` as one process sees it, listed again only when it has changed."""

    def __init__(self, pid: int | None = None) -> None:
        """`pid` None is this process's own; that of another process serves containers with a `/dev/shm` of their
        own.
        """
        self.path = Path(DIRECTORY) if pid is None else Path(f"/proc/{pid}/root/dev/shm")
        self._changed_ns = -1
        self._names: dict[SemId, str] = {}
        self._room: SharedMemory | None = None
        self._room_due_s = 0.0

    def names(self) -> dict[SemId, str]:
        """Return the names there by identity, for semaphores the names that sem_open was given (`/mp-…`); empty if it
        cannot be read.
        """
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
            return {SemId(major, minor, entry.inode()): "/" + entry.name.removeprefix(_PREFIX) for entry in entries}

    def room(self) -> SharedMemory | None:
        """Return its size and the room for ordinary users, asked once a second; None if that is not possible."""
        now_s = time.monotonic()
        if now_s >= self._room_due_s:
            self._room_due_s, self._room = now_s + _ROOM_EVERY_S, self._ask_room()
        return self._room

    def _ask_room(self) -> SharedMemory | None:
        try:
            status = os.statvfs(self.path)
        except OSError:
            return None
        size, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
        return SharedMemory(size=size, free=free, elsewhere=not self._is_own())

    def _is_own(self) -> bool:
        try:
            return self.path.samefile(DIRECTORY)
        except OSError:
            return False

    def read(self, semaphore: SemId) -> tuple[int, int] | None:
        """Value and waiter count of a linked semaphore from its file: needs no right over any process."""
        name = self.names().get(semaphore)
        for file in file_names(name) if name else ():
            found = self._read(file, semaphore)
            if found is not None:
                return found
        return None

    def _read(self, file: str, semaphore: SemId) -> tuple[int, int] | None:
        try:
            fd = safefile.regular(str(self.path / file), os.O_RDONLY)
        except OSError:
            return None
        try:
            if SemId.of_file(os.fstat(fd)) != semaphore:
                return None
            return parse_shared(os.read(fd, SHARED_SIZE))
        except OSError:
            return None
        finally:
            os.close(fd)


def file_names(name: str) -> tuple[str, str]:
    """Return what the file of a semaphore of this name may be called: by glibc, and by musl."""
    bare = name.removeprefix("/")
    return _PREFIX + bare, bare


def is_semaphore_file(path: str) -> bool:
    """Return True for the path of a mapping that a sem_open has made, whatever directory glibc's shows in."""
    return is_glibcs_file(path) or _MUSLS.match(path) is not None


def is_glibcs_file(path: str) -> bool:
    """Return True for a name that nothing else uses. Other programs' files may be called as musl's are."""
    return path.rpartition("/")[2].startswith(_PREFIX)


def may_be_musls_file(name: str) -> bool:
    """Return True for the name of a file in /dev/shm that musl gives a semaphore of Python's."""
    return _MUSL_FILE.match(name) is not None


def has_musls_words(name: str, directory: int) -> bool | None:
    """Return True if a file begins as musl's shared semaphores do; None if it cannot be read."""
    try:
        fd = safefile.regular(name, os.O_RDONLY, directory)
    except OSError:
        return None
    try:
        return is_musls(os.read(fd, SHARED_SIZE))
    except OSError:
        return None
    finally:
        os.close(fd)


def may_be_musls(page: bytes | None) -> bool:
    """Return False for a mapped page that no sem_open of musl has made: something lies behind the semaphore, or its
    third word is another. True if the page cannot be read.
    """
    return page is None or (is_musls(page) and not any(page[SIZE:]))


def is_musls(raw: bytes) -> bool:
    """Return True if musl has made this shared semaphore."""
    return len(raw) >= SHARED_SIZE and _SHARED.unpack_from(raw)[2] == _MUSL


def parse_shared(raw: bytes | None) -> tuple[int, int] | None:
    """Return value and number of waiters of a semaphore of sem_open, by the rules of the C library that made it.

    The waiter count is an upper bound, as in `parse_sem`.
    """
    if raw is None or len(raw) < SHARED_SIZE:
        return None
    value, waiters, _ = _SHARED.unpack_from(raw)
    if is_musls(raw):
        value = 0 if value == _MUSL_NONE else value & _MUSL_VALUE
    return value, waiters


def parse_sem(raw: bytes | None) -> tuple[int, int] | None:
    """Value and number of waiters of a private `sem_t` (64-bit glibc, sysdeps/nptl/internaltypes.h struct new_sem).

    The waiter count is an upper bound: a waiter that is killed never takes itself off. Zero does mean none.
    """
    if raw is None or len(raw) < _VALUE.size:
        return None
    value, waiters = _VALUE.unpack_from(raw)
    return value, waiters


def names_in_table(
    memory: Memory, parts: Iterable[tuple[int, int]], handles: Mapping[int, SemId]
) -> Iterator[tuple[SemId, str] | None]:
    """Yield the names of the semaphores at these addresses by glibc's table, which lies somewhere in these parts of
    memory; None after each piece that was read.
    """
    for start, end in parts:
        for at in range(start, end, _PIECE):
            for hit in memory.search(at, min(at + _PIECE + len(_PYTHONS), end), _PYTHONS):
                semaphore = handles.get(memory.u64(hit - 8) or 0)
                if semaphore is not None and (name := table_name(memory, hit - 8, semaphore)):
                    yield semaphore, name
            yield None


def table_name(memory: Memory, pointer_at: int, semaphore: SemId) -> str | None:
    """Return the name in glibc's table entry whose `sem` field lies at `pointer_at`, if that is such an entry."""
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
    `pointer_at`. 0 for an entry that was given back, None without an entry.
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
