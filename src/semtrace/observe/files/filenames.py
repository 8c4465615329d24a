"""Find the names of locked files in the source, and lock objects that believe in a POSIX lock which the kernel has
dropped. Closing any descriptor of the file drops it (fcntl(2), "Advisory record locking").
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from semtrace.cpython.layout import Layout
from semtrace.cpython.lockfiles import NamedFile
from semtrace.cpython.name_walk import Walk
from semtrace.cpython.threadlock import FoundThreadLock, read_thread_lock
from semtrace.lazydata import dataclass
from semtrace.linux.filelocks import FileLock, file_of, file_open_at
from semtrace.linux.openfiles import identify
from semtrace.model import FileLockType, ProcessId, SemId
from semtrace.observe.history.history import Since
from semtrace.observe.watch.watched import Watched

_EVERY_S = 0.3
_LOST_S = 1.0
# A lock that is taken and released all the time may be free when the list is read and acquired right after: not in each
# of so many samples.
_SAMPLES = 3

ListLocks = Callable[[], Sequence[FileLock]]


@dataclass(frozen=True)
class LostLock:
    """An object of the process says that it has the lock of this file; the kernel has no such lock."""

    file: SemId
    path: str
    process: ProcessId


@dataclass(frozen=True)
class _Known:
    """A name of a walk: of the file at `path`, or of what a descriptor leads to."""

    name: str
    path: str | None
    file: SemId | None
    flag: FoundThreadLock | None
    layout: Layout | None


class FileNames:
    """Keep what each walk has found, and for how long an object has called a lock acquired that the kernel has not."""

    def __init__(self) -> None:
        self._walks: dict[ProcessId, tuple[Walk, tuple[_Known, ...]]] = {}
        self._known: tuple[_Known, ...] = ()
        self._flags: tuple[_Known, ...] = ()
        self._wrong: Since[LostLock] = Since()
        self._proper: set[tuple[ProcessId, int]] = set()
        self._lost: tuple[LostLock, ...] = ()
        self._due_s = 0.0

    def update(self, walks: Mapping[ProcessId, Walk]) -> None:
        """Take in new walks. The file of a descriptor is that of now."""
        before = self._walks
        if before.keys() == walks.keys() and all(before[process][0] is walk for process, walk in walks.items()):
            return
        self._walks = {
            process: before[process]
            if process in before and before[process][0] is walk
            else (walk, tuple(_known(process.pid, each, walk.layout) for each in walk.files))
            for process, walk in walks.items()
        }
        self._known = tuple(each for _, found in self._walks.values() for each in found)
        self._flags = tuple({each.flag.address: each for each in self._known if each.flag}.values())

    def name_of(self, file: SemId, path: str | None) -> str | None:
        """Return the name of a lock object before that of an open file."""
        fitting = [each for each in self._known if each.file == file or (path is not None and each.path == path)]
        return min(fitting, key=lambda each: (each.path is None, len(each.name)), default=_NOBODY).name or None

    def lost(
        self, now_s: float, watched: Sequence[Watched], locks: Sequence[FileLock], read: ListLocks
    ) -> tuple[LostLock, ...]:
        """Return the locks that an object calls acquired and the kernel has not had for a second. What a fork may have
        copied does not count.
        """
        if not self._flags or now_s < self._due_s:
            return self._lost if self._flags else ()
        self._due_s = now_s + _EVERY_S
        samples = (self._sample(member, each, locks, read) for member in watched for each in self._flags)
        wrong = [each for each in samples if each is not None]
        self._wrong.update(now_s, wrong)
        self._lost = tuple(each for each in wrong if (self._wrong.seconds(now_s, each) or 0.0) >= _LOST_S)
        return self._lost

    def _sample(self, member: Watched, known: _Known, locks: Sequence[FileLock], read: ListLocks) -> LostLock | None:
        """A forked child has a copy of the flag, which says nothing until it was seen to be false, or to be right."""
        flag = known.flag
        if flag is None or known.path is None or member.memory is None or known.layout is None:
            return None
        key, pid = (member.id, flag.address), member.id.pid
        taken = read_thread_lock(member.memory, flag, known.layout)
        if taken is False or any(_is_own(lock, pid, known.file) for lock in locks):
            self._proper.add(key)
            return None
        # The kernel's identity of the file, which stat(2) does not always show.
        file = file_open_at(pid, known.path) if taken and (key in self._proper or not member.stat.forked) else None
        if file is None:
            return None
        for _ in range(_SAMPLES):
            if any(lock.file == file and lock.type is FileLockType.POSIX for lock in read()):
                return None
            if not read_thread_lock(member.memory, flag, known.layout):
                return None
        return LostLock(file, known.path, member.id)


_NOBODY = _Known("", None, None, None, None)


def _is_own(lock: FileLock, pid: int, file: SemId | None) -> bool:
    return lock.type is FileLockType.POSIX and lock.pid == pid and file is not None and lock.file.inode == file.inode


def _known(pid: int, named: NamedFile, layout: Layout | None) -> _Known:
    if named.fd is not None:
        return _Known(named.name, None, file_of(pid, named.fd), None, None)
    path = absolute(pid, named.path or "")
    return _Known(named.name, path, file_at(pid, path), named.flag, layout)


def absolute(pid: int, path: str) -> str:
    """Return a path as the process has it, from its working directory now."""
    if path.startswith("/"):
        return path
    try:
        return os.path.normpath(Path(f"/proc/{pid}/cwd").readlink() / path)
    except OSError:
        return path


def file_at(pid: int, path: str) -> SemId | None:
    """Return the file at a path as the process sees it; the file system is not asked where the kernel knows it."""
    try:
        found = identify(f"/proc/{pid}/root{path}") if path.startswith("/") else None
    except PermissionError:
        return None
    return None if found is None else found[0]
