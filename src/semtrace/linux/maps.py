"""Read a process's mappings: the semaphores it shares, and the memory that may hold interpreter objects.

Semaphores are asked for by the PROCMAP_QUERY ioctl where the kernel has it (Linux 6.11). It visits shared file mappings
only, so its cost does not grow with the thousands of other lines. Older kernels give the text of `/proc/PID/maps`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from array import array
from collections.abc import Collection, Iterator
from itertools import islice
from typing import NamedTuple

from semtrace.linux import withheld
from semtrace.linux.process import PAGE_SIZE
from semtrace.linux.shm import is_semaphore_file
from semtrace.model import SemId

# A bound on the text of one maps file: 65,530 mappings (vm.max_map_count) of at most 4,200 bytes never come near it.
_MAPS_LIMIT = 64 << 20

_DELETED = " (deleted)"

# A line that may be one of a semaphore (fs/proc/task_mmu.c show_map_vma): `is_semaphore` decides. Of a path the kernel
# escapes line breaks.
_SEMAPHORE_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) rw-s 0+ ([0-9a-f]+):([0-9a-f]+) (\d+) +([^\n]*(?:/sem\.|shm/)[^/\n]*)$", re.MULTILINE
)

# From so many semaphores on the whole text of the mappings costs less than a query for each.
MANY = 256


class Mapping(NamedTuple):
    """One line of `/proc/PID/maps` (fs/proc/task_mmu.c show_map_vma): [start, end) with rights such as `rw-s`."""

    start: int
    end: int
    perms: str
    offset: int
    device: tuple[int, int]
    inode: int
    path: str

    @property
    def is_usual(self) -> bool:
        """Return True if it is as sem_open maps a semaphore (nptl/sem_open.c): one page, shared, read-write."""
        return self.perms == "rw-s" and self.end - self.start == PAGE_SIZE and not self.offset

    @property
    def holds_objects(self) -> bool:
        """Return True for memory of allocators: private, writable, without a file, not the main thread's stack."""
        return self.perms.startswith("rw-p") and not self.path.startswith(("/", "[stack", "[v"))


class SemMapping(NamedTuple):
    """A semaphore where one process has mapped it. `path` is glibc's temporary name for the process that created it."""

    id: SemId
    address: int
    path: str


def read_mappings(pid: int) -> list[Mapping] | None:
    """All mappings in the order of their addresses. None if the process ended; raises PermissionError."""
    path = f"/proc/{pid}/maps"
    withheld.check(path)
    try:
        with open(path, "rb") as f:
            return list(parse_mappings(f.read(_MAPS_LIMIT)))
    except PermissionError:
        raise
    except OSError:
        return None


def parse_mappings(text: bytes) -> Iterator[Mapping]:
    """Lines that are not of the kernel's form are left out."""
    for line in text.split(b"\n"):  # the kernel escapes no other line break
        mapping = _parse_line(line)
        if mapping is not None:
            yield mapping


def _parse_line(line: bytes) -> Mapping | None:
    f = line.split(None, 5)
    try:
        start, _, end = f[0].partition(b"-")
        major, _, minor = f[3].partition(b":")
        return Mapping(
            start=int(start, 16),
            end=int(end, 16),
            perms=f[1].decode("ascii"),
            offset=int(f[2], 16),
            device=(int(major, 16), int(minor, 16)),
            inode=int(f[4]),
            path=os.fsdecode(f[5]) if len(f) > 5 else "",
        )
    except (ValueError, IndexError):
        return None


# To find so many files one by one costs less than to parse the lines of all files of their file system.
_FEW = 16


def mappings_of(pid: int, wanted: Collection[SemId]) -> Iterator[tuple[SemId, Mapping]]:
    """Yield every mapping of the wanted files, whatever its name, size and rights; nothing if the process has ended.

    Raises OSError where the kernel does not answer. The text costs less than a query for each file that is mapped.
    """
    path = f"/proc/{pid}/maps"
    withheld.check(path)
    try:
        with open(path, "rb", buffering=0) as f:
            text = b"".join(iter(lambda: f.read(1 << 16), b""))
    except (FileNotFoundError, ProcessLookupError):
        return
    needles = {b" %02x:%02x %d " % (each.major, each.minor, each.inode) for each in wanted}
    if len(needles) > _FEW:
        needles = {b" %02x:%02x " % (each.major, each.minor) for each in wanted}
    for needle in needles:
        for line in _lines_with(text, needle):
            mapping = _parse_line(line)
            if mapping is not None and (semaphore := SemId(*mapping.device, mapping.inode)) in wanted:
                yield semaphore, mapping


def _lines_with(text: bytes, needle: bytes) -> Iterator[bytes]:
    """Yield the lines that have the needle somewhere: a path may hold it too, so parse them."""
    at = text.find(needle)
    while at >= 0:
        end = text.find(b"\n", at)
        end = len(text) if end < 0 else end
        yield text[text.rfind(b"\n", 0, at) + 1 : end]
        at = text.find(needle, end)


def is_semaphore(path: str, size: int, offset: int) -> bool:
    """sem_open maps one page, from the file's start (nptl/sem_open.c; musl src/thread/sem_open.c)."""
    return size == PAGE_SIZE and offset == 0 and is_semaphore_file(path.removesuffix(_DELETED))


def semaphores_in(mappings: Iterator[Mapping] | list[Mapping]) -> list[SemMapping]:
    return [
        SemMapping(SemId(*m.device, m.inode), m.start, m.path.removesuffix(_DELETED))
        for m in mappings
        if m.perms == "rw-s" and is_semaphore(m.path, m.end - m.start, m.offset)
    ]


# include/uapi/linux/fs.h: struct procmap_query and its flags.
_QUERY = struct.Struct("=9Q4I2Q")
_ADDRESS, _ADDRESS_AT = struct.Struct("=Q"), 16
_PROCMAP_QUERY = (3 << 30) | (_QUERY.size << 16) | (ord("f") << 8) | 17
_READABLE, _WRITABLE, _EXECUTABLE, _SHARED, _COVERING_OR_NEXT, _FILE_BACKED = (1 << bit for bit in range(6))
_WANTED = _READABLE | _WRITABLE | _SHARED | _COVERING_OR_NEXT | _FILE_BACKED
_NAME_SIZE = 4096


class SemaphoreMaps:
    """The semaphores that one process has mapped, asked again and again over one open `/proc/PID/maps`.

    The open file stays bound to the program image: after an exec or the end of the process there are none.
    """

    __slots__ = ("_by_links", "_fd", "_last", "_many", "_name", "_pid", "_query", "_replies", "_template", "by_ioctl")

    def __init__(self, pid: int, *, by_ioctl: bool = True) -> None:
        """Raises OSError as `Memory` does, but needs fewer rights: Yama does not forbid it."""
        self.by_ioctl = by_ioctl
        self._by_links = True
        self._many = False
        self._last: tuple[bytes, list[SemMapping]] | None = None
        self._pid = pid
        path = f"/proc/{pid}/maps"
        withheld.check(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._name = array("B", bytes(_NAME_SIZE))
        self._query = bytearray(_QUERY.size)
        name_address, _ = self._name.buffer_info()
        self._template = _QUERY.pack(_QUERY.size, _WANTED, *(0,) * 9, _NAME_SIZE, 0, name_address, 0)
        # What each reply of the last time says: as most are the same again, that need not be taken apart.
        self._replies: dict[bytes, tuple[int, SemMapping | None]] = {}

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def semaphores(self) -> list[SemMapping]:
        """Return its semaphores, an empty list once it has ended. Raises OSError if the kernel cannot answer: it may
        still have some.
        """
        try:
            return self._ask() if self.by_ioctl else self._by_text()
        except OSError as error:
            if error.errno == errno.ESRCH:
                return []
            raise

    def at(self, address: int) -> SemId | None:
        """Return the file whose first byte is mapped at this address now, whatever its name, size and rights.

        None if something else or nothing is mapped there, or the process ended. Raises OSError where the kernel
        does not answer.
        """
        try:
            if self.by_ioctl:
                return self._at_by_ioctl(address)
            return (self._at_by_link(address) if self._by_links else None) or self._at_by_text(address)
        except OSError as error:
            if error.errno == errno.ESRCH:
                return None
            raise

    def _at_by_ioctl(self, address: int) -> SemId | None:
        """Ask for the one mapping that covers the address; it needs no name, so no path is too long."""
        _QUERY.pack_into(self._query, 0, _QUERY.size, 0, address, *(0,) * 12)
        try:
            fcntl.ioctl(self._fd, _PROCMAP_QUERY, self._query)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                raise
            self.by_ioctl = False
            return self.at(address)
        _, _, _, start, _, _, _, offset, inode, major, minor, *_ = _QUERY.unpack(self._query)
        return SemId(major, minor, inode) if inode and start == address and not offset else None

    def _at_by_link(self, address: int) -> SemId | None:
        """Follow the link of a one-page mapping; None where that does not answer, so that the text must.

        The link is looked up by pid, and the open file is bound to one program image: while that has text, the pid is
        still the same process's.
        """
        try:
            info = os.stat(f"/proc/{self._pid}/map_files/{address:x}-{address + PAGE_SIZE:x}")
        except PermissionError:
            self._by_links = False  # needs CAP_CHECKPOINT_RESTORE (fs/proc/base.c proc_map_files_get_link)
            return None
        except OSError:
            return None
        if not os.pread(self._fd, 1, 0):
            return None
        return SemId.of_file(info)

    def made_s(self, address: int) -> float | None:
        """Return when the semaphore at this address was made, in seconds since the epoch. None if that is not shown.

        sem_open writes to a new file once (nptl/sem_open.c), and a use through its mapping leaves its time alone.
        """
        try:
            info = os.stat(f"/proc/{self._pid}/map_files/{address:x}-{address + PAGE_SIZE:x}")
            return info.st_mtime if os.pread(self._fd, 1, 0) else None
        except OSError:
            return None

    def _at_by_text(self, address: int) -> SemId | None:
        beginning = b"%08x-" % address  # fs/proc/task_mmu.c show_vma_header_prefix
        line = next((line for line in self._text().split(b"\n") if line.startswith(beginning)), b"")
        mapping = _parse_line(line)
        if mapping is None or not mapping.inode or mapping.offset:
            return None
        return SemId(*mapping.device, mapping.inode)

    def _ask(self) -> list[SemMapping]:
        """Read by queries, one for each shared file; for a process with many the text costs a fraction."""
        try:
            found = [] if self._many else list(islice(self._by_ioctl(), MANY + 1))
            self._many = self._many or len(found) > MANY
            return self._by_text() if self._many else found
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise
            self.by_ioctl = error.errno not in (errno.ENOTTY, errno.EINVAL)
        return self._by_text()

    def _by_ioctl(self) -> Iterator[SemMapping]:
        """Raises OSError: ENOTTY before Linux 6.11, ESRCH when the process has no memory any more, ENAMETOOLONG for any
        shared file's path of more than 4096 bytes."""
        known, self._replies = self._replies, {}
        query, address = self._query, 0
        while True:
            query[:] = self._template
            _ADDRESS.pack_into(query, _ADDRESS_AT, address)
            try:
                fcntl.ioctl(self._fd, _PROCMAP_QUERY, query)
            except OSError as error:
                if error.errno == errno.ENOENT:  # no further mapping of this sort
                    return
                raise
            reply = bytes(query)
            end, mapping = self._replies[reply] = known.get(reply) or self._parse(reply)
            if mapping is not None:
                yield mapping
            if end <= address:
                return
            address = end

    def _parse(self, reply: bytes) -> tuple[int, SemMapping | None]:
        """Return where the mapping ends that the kernel has named last, and what it is if it is a semaphore."""
        _, _, _, start, end, _, _, offset, inode, major, minor, name_size, *_ = _QUERY.unpack(reply)
        if end - start == PAGE_SIZE:
            path = os.fsdecode(self._name[: max(name_size - 1, 0)].tobytes())
            if is_semaphore(path, end - start, offset):
                return end, SemMapping(SemId(major, minor, inode), start, path.removesuffix(_DELETED))
        return end, None

    def _by_text(self) -> list[SemMapping]:
        """Read from the text. It is not parsed again while it stays the same."""
        from hashlib import blake2b  # loads OpenSSL, which no kernel from 6.11 on needs here

        text = self._text()
        digest = blake2b(text, digest_size=16).digest()
        if self._last is None or self._last[0] != digest:
            self._last = digest, list(_semaphores_in_text(text))
        return self._last[1]

    def _text(self) -> bytes:
        os.lseek(self._fd, 0, os.SEEK_SET)
        return b"".join(iter(lambda: os.read(self._fd, 1 << 16), b""))


def _semaphores_in_text(text: bytes) -> Iterator[SemMapping]:
    """Only the lines that can be one: parsing all of a large file costs ten times as much."""
    for start, end, major, minor, inode, path in _SEMAPHORE_LINE.findall(text):
        address, name = int(start, 16), os.fsdecode(path)
        if is_semaphore(name, int(end, 16) - address, 0):
            semaphore = SemId(int(major, 16), int(minor, 16), int(inode))
            yield SemMapping(semaphore, address, name.removesuffix(_DELETED))
