"""The directories under /dev/shm in which traced servers keep their state files, opened without trusting the names.

Anybody may make any name in /dev/shm: a directory counts only if it belongs to the user in its name, who let nobody
else in, and if that user runs the process that it claims to be of. Everything inside is opened relative to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from semtrace import wire
from semtrace.linux.process import still
from semtrace.linux.program import user_ids
from semtrace.model import ProcessId

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_USER = "semtrace-"


@dataclass(eq=False, slots=True)
class Directory:
    """One server's directory, open. `uid` owns it; `root` is the process that it is named after."""

    fd: int
    parent_fd: int
    uid: int
    root: ProcessId
    key: tuple[int, int]

    def close(self) -> None:
        for fd in (self.fd, self.parent_fd):
            with contextlib.suppress(OSError):
                os.close(fd)
        self.fd = self.parent_fd = -1

    def names(self) -> list[str]:
        """None if it is gone."""
        try:
            return os.listdir(self.fd)  # noqa: PTH208  a descriptor, not a path
        except OSError:
            return []

    @property
    def gone(self) -> bool:
        try:
            return os.fstat(self.fd).st_nlink == 0
        except OSError:
            return True

    def open_file(self, name: str, flags: int, size: int) -> int | None:
        """A regular file of the owner's and no one else's, with this size; None if it is anything else."""
        try:
            fd = os.open(name, flags | _FILE, dir_fd=self.fd)
        except OSError:
            return None
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_uid == self.uid and found.st_nlink == 1 and found.st_size == size:
            return fd
        os.close(fd)
        return None

    def remove_if_left(self) -> None:
        """Removes it if its server is gone and left no evidence in it: its last process could not, for we were inside.

        As `instrument/places.py` does it, under the same lock.
        """
        with contextlib.suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            names = self.names()
            if any(map(wire.parse_state_name, names)) or still(self.root):
                return
            for name in names:
                viewer = wire.parse_fifo_name(name)
                if viewer is None or not still(viewer):
                    os.unlink(name, dir_fd=self.fd)
            os.rmdir(wire.process_name(self.root), dir_fd=self.parent_fd)


def find(members: Collection[ProcessId]) -> Iterator[Directory]:
    """The directories of a server that consists of these processes; the caller closes them."""
    for path in Path(wire.shm()).glob(f"{_USER}*"):
        try:
            uid = int(path.name.removeprefix(_USER))
            user_fd = os.open(path, _DIRECTORY)
        except (ValueError, OSError):  # another user's, or a symbolic link
            continue
        try:
            if _is_private(user_fd, uid):
                yield from _servers(user_fd, uid, members)
        finally:
            os.close(user_fd)


def _servers(user_fd: int, uid: int, members: Collection[ProcessId]) -> Iterator[Directory]:
    for name in os.listdir(user_fd):
        root = wire.parse_process_name(name)
        if root is None:
            continue
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=user_fd)
        except OSError:
            continue
        found = os.fstat(fd)
        directory = Directory(fd, os.dup(user_fd), uid, root, (found.st_dev, found.st_ino))
        if _is_private(fd, uid) and _is_of(directory, members):
            yield directory
        else:
            directory.close()


def _is_of(directory: Directory, members: Collection[ProcessId]) -> bool:
    """Whether one of the server's processes has its name in it, and is its owner's; pids of another namespace are
    other processes.
    """
    named = {directory.root, *filter(None, map(wire.parse_state_name, directory.names()))}
    return any(directory.uid in user_ids(member.pid) for member in named & set(members)) and _same_namespace(directory)


def _same_namespace(directory: Directory) -> bool:
    fd = directory.open_file(wire.CONTROL, os.O_RDONLY, wire.CONTROL_SIZE)
    if fd is None:
        return False
    try:
        word = os.pread(fd, 8, wire.ControlWord.PID_NAMESPACE * 8)
        return int.from_bytes(word, "little") == Path("/proc/self/ns/pid").stat().st_ino
    finally:
        os.close(fd)


def _is_private(fd: int, uid: int) -> bool:
    found = os.fstat(fd)
    return found.st_uid == uid and not stat.S_IMODE(found.st_mode) & 0o077
