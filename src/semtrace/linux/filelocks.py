"""Say who holds which file lock and who waits for it, from `/proc/locks` and the `lock:` lines of `/proc/PID/fdinfo`.

The kernel names the process that took a lock. An flock passes to forked children and outlives its taker: then only the
descriptors say who has it. A lock that is polled for, as filelock and portalocker do, has no waiter in the kernel.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from semtrace.lazydata import dataclass
from semtrace.linux.files import not_for_want_of
from semtrace.linux.openfiles import MOST_DESCRIPTORS
from semtrace.linux.process import door, read_stat
from semtrace.linux.program import read
from semtrace.model import FileLockType, SemId

# A machine with more locks than fit here is not read: some 60,000.
_MOST_BYTES = 4 << 20


# fs/locks.c lock_get_status. Leases and delegations are no locks.
_TYPES = {b"FLOCK": FileLockType.FLOCK, b"POSIX": FileLockType.POSIX, b"OFDLCK": FileLockType.OFD}


@dataclass(frozen=True)
class FileLock:
    """A lock that is held; in `waiters` one that is asked for.

    `pid` is the process that took it or asks for it: None for OFD locks, and for a process that cannot be seen from
    here. `file` is the device and inode by which the kernel knows the file: on overlayfs and btrfs stat(2) can show
    another. `start` and `end` are bytes, both included; `end` is None up to the end of the file.
    """

    type: FileLockType
    exclusive: bool
    pid: int | None
    file: SemId
    start: int = 0
    end: int | None = None
    waiters: tuple[FileLock, ...] = ()


@dataclass(frozen=True)
class HeldFile:
    """A descriptor of a process that holds a lock. An flock or OFD lock is held by all that share the open file."""

    pid: int
    fd: int
    path: str
    lock: FileLock


def read_file_locks() -> list[FileLock] | None:
    """Return the machine's locks, None if they cannot be read or are too many. In a container, locks whose takers are
    outside or dead are left out (fs/locks.c locks_show).
    """
    raw = read("/proc/locks", _MOST_BYTES)
    return None if raw is None or len(raw) == _MOST_BYTES else list(parse_file_locks(raw))


class LockTable:
    """Read `/proc/locks` again and again. A line that was there before is not parsed again: the machine may have
    thousands that the server has nothing to do with.
    """

    def __init__(self) -> None:
        self._raw: bytes | None = b""
        self._locks: tuple[FileLock, ...] = ()
        self._parsed: dict[bytes, _Line] = {}

    def read(self) -> tuple[FileLock, ...] | None:
        """Return as read_file_locks does."""
        raw = read("/proc/locks", _MOST_BYTES)
        if raw != self._raw:
            self._raw = raw
            readable = raw is not None and len(raw) < _MOST_BYTES
            self._locks = tuple(self._parse(raw or b"")) if readable else ()
        return None if raw is None or len(raw) == _MOST_BYTES else self._locks

    def _parse(self, raw: bytes) -> Iterator[FileLock]:
        before, self._parsed = self._parsed, {}

        def known(text: bytes) -> _Line:
            line = before[text] if text in before else _parse_line(text)
            self._parsed[text] = line
            return line

        return parse_file_locks(raw, known)


_Line = tuple[bool, "FileLock | None"]


def _parse_line(text: bytes) -> _Line:
    """Parse a line without its number; the first value says that it is a waiter's."""
    fields = text.split()
    waits = fields[:1] == [b"->"]
    return waits, _parse(fields[1:] if waits else fields)


def parse_file_locks(raw: bytes, parse: Callable[[bytes], _Line] = _parse_line) -> Iterator[FileLock]:
    """Yield each lock with its waiters, whose lines follow: `1: -> FLOCK ADVISORY WRITE 123 00:1b:399741 0 EOF`.

    Waiters that wait behind other waiters are among them, too.
    """
    held: FileLock | None = None
    waiters: list[FileLock] = []
    for line in raw.splitlines():
        waits, lock = parse(line.partition(b":")[2])
        if waits:
            waiters += [lock] if lock is not None and held is not None else []
            continue
        if held is not None:
            yield replace(held, waiters=tuple(waiters)) if waiters else held
        held, waiters = lock, []
    if held is not None:
        yield replace(held, waiters=tuple(waiters)) if waiters else held


def _parse(fields: list[bytes]) -> FileLock | None:
    """Parse `TYPE KIND MODE PID MAJOR:MINOR:INODE START END`, the device in hexadecimal; None for anything else."""
    if len(fields) != 7 or fields[0] not in _TYPES:
        return None
    try:
        pid = int(fields[3])
        major, minor, inode = fields[4].split(b":")
        file = SemId(int(major, 16), int(minor, 16), int(inode))
        start, end = int(fields[5]), None if fields[6] == b"EOF" else int(fields[6])
    except ValueError:  # `<none>:0`: the file is gone
        return None
    return FileLock(_TYPES[fields[0]], fields[2] == b"WRITE", pid if pid > 0 else None, file, start, end)


_LOCK_LINES = re.compile(rb"^lock:\t(.*)$", re.MULTILINE)
_NUMBERS = re.compile(rb"^mnt_id:\t(\d+)\n(?:ino:\t(\d+)\n)?", re.MULTILINE)


def holders_by_fdinfo(pids: Collection[int], files: Collection[SemId]) -> tuple[list[HeldFile], tuple[int, ...]]:
    """Return which of the processes hold a lock on these files, by their descriptors, and which could not be asked.

    This finds the holder of an flock whose taker died. The path is the descriptor's: `… (deleted)` if it is unlinked,
    empty if it is longer than the kernel shows.
    """
    held: list[HeldFile] = []
    hidden = []
    inodes = {each.inode for each in files}
    for pid in pids:
        try:
            held += [each for each in _held(pid, inodes) if each.lock.file in files]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended
        except OSError as error:
            not_for_want_of(error)
            hidden.append(pid)
    return held, tuple(hidden)


def locked_descriptors(
    pid: int, inodes: Collection[int], paths: Collection[str] | None = None
) -> Iterator[HeldFile | None]:
    """Yield each descriptor with a lock on a file of one of these inode numbers, and None for each other one: so the
    caller can pause. With `paths` only what is open under one of these is asked. Raises OSError.
    """
    for fd, path, info in _files(pid, paths=paths):
        number = _NUMBERS.search(info)
        if number is None or number[2] is None or int(number[2]) in inodes:
            locks = (_parse(line.split()[1:]) for line in _LOCK_LINES.findall(info))
            yield from (HeldFile(pid, fd, path, lock) for lock in locks if lock is not None)
        yield None


def _held(pid: int, inodes: Collection[int]) -> Iterator[HeldFile]:
    """Yield its descriptors with a lock on a file of one of these inode numbers. Raises OSError."""
    for fd, path, info in _files(pid, inodes):
        locks = (_parse(line.split()[1:]) for line in _LOCK_LINES.findall(info))
        yield from (HeldFile(pid, fd, path, lock) for lock in locks if lock is not None)


def _files(
    pid: int, inodes: Collection[int] | None = None, paths: Collection[str] | None = None
) -> Iterator[tuple[int, str, bytes]]:
    """Yield descriptor, path and fdinfo of each open file of one of these inode numbers, or of all. Raises OSError."""
    stat = read_stat(pid)
    if stat is None or stat.dying:
        return
    tid = door(stat)
    names = os.listdir(f"/proc/{tid}/fd")
    if len(names) > MOST_DESCRIPTORS:
        raise OSError(f"it has {len(names)} files open")
    for name in names:
        try:
            path = os.readlink(f"/proc/{tid}/fd/{name}")
        except (FileNotFoundError, ProcessLookupError):
            continue  # closed meanwhile
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            path = ""  # deeper than a path can say; the file may be locked all the same
        if (path and not path.startswith("/")) or (paths is not None and path not in paths):
            continue
        info = read(f"/proc/{tid}/fdinfo/{name}", 65536) or b""
        number = _NUMBERS.search(info)
        if inodes is None or number is None or number[2] is None or int(number[2]) in inodes:
            yield int(name), path, info


def path_of(pid: int, file: SemId) -> str | None:
    """Return the path by which a process, such as one that waits for a lock, has the file open; None if it cannot be
    seen. The device decides between files of one inode number.
    """
    try:
        for fd, path, _ in _files(pid, {file.inode}):
            if file_of(pid, fd) == file:
                return path or None
    except OSError as error:
        not_for_want_of(error)
    return None


def file_open_at(pid: int, path: str) -> SemId | None:
    """Return the file that a process has open under a path, None if it has none or may not be asked."""
    try:
        return next((file_of(pid, fd) for fd, _, _ in _files(pid, None, {path})), None)
    except OSError as error:
        not_for_want_of(error)
        return None


def filesystem_of(pid: int, file: SemId) -> str | None:
    """Return the type of the file system on which a file lies, such as `overlay`, as a process has it mounted."""
    mount = _mount_of(file, read(f"/proc/{pid}/mountinfo") or b"")
    return mount[1].decode(errors="replace") if mount else None


def is_mounted(pid: int, file: SemId) -> bool | None:
    """Return True if a process has the file system of a file mounted, None if it may not be asked."""
    raw = read(f"/proc/{pid}/mountinfo")
    return None if raw is None else _mount_of(file, raw) is not None


def _mount_of(file: SemId, mounts: bytes) -> re.Match[bytes] | None:
    """Return the first mount of the file system of a file; its group is the type.

    Documentation/filesystems/proc.rst, 3.5: `MOUNT PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELDS…] - TYPE …`.
    """
    return re.search(rb"^\d+ \d+ %d:%d .*? - (\S+) " % (file.major, file.minor), mounts, re.MULTILINE)


def count_open(pid: int, file: SemId, path: str) -> int:
    """Return how many descriptors of a process are open on this file, under this path; 0 if it may not be asked."""
    try:
        return sum(file_of(pid, fd) == file for fd, _, _ in _files(pid, {file.inode}, {path}))
    except OSError as error:
        not_for_want_of(error)
        return 0


def file_of(pid: int, fd: int) -> SemId | None:
    """Return the device and inode by which the kernel knows an open file, as `/proc/locks` shows them; None if that
    cannot be seen, as before Linux 5.14. The file is not asked.
    """
    number = _NUMBERS.search(read(f"/proc/{pid}/fdinfo/{fd}", 4096) or b"")
    if number is None or number[2] is None:
        return None
    # Documentation/filesystems/proc.rst, 3.5: `MOUNT PARENT MAJOR:MINOR …`, in decimal.
    device = re.search(rb"^%d \d+ (\d+):(\d+) " % int(number[1]), read(f"/proc/{pid}/mountinfo") or b"", re.MULTILINE)
    return SemId(int(device[1]), int(device[2]), int(number[2])) if device else None
