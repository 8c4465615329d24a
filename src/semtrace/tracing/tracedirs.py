"""The directories under /dev/shm with the state files of traced servers, opened without trusting the names.

Anybody may make any name in /dev/shm. So a directory counts only if it belongs to the user in its name, and nobody else
may enter it. That user must also run a process that has its name in it. Everything inside is opened relative to it.
`reporters` decides file by file who may report on which process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from semtrace.lazydata import dataclass
from semtrace.linux import safefile
from semtrace.linux.process import still
from semtrace.linux.program import user_ids
from semtrace.model import ProcessId
from semtrace.wire.place import (
    CONTROL,
    CONTROL_SIZE,
    RUN,
    ControlWord,
    parse_fifo_name,
    parse_process_name,
    parse_state_name,
    process_name,
    state_name,
    user_directories,
)

_USER = "semtrace-"

# Its owner decides how many entries a directory has.
MOST_NAMES = 10_000


@dataclass(frozen=False)
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
        """Nothing if it is gone."""
        return names_in(self.fd)

    def has(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    @property
    def gone(self) -> bool:
        try:
            return os.fstat(self.fd).st_nlink == 0
        except OSError:
            return True

    def open_file(self, name: str, flags: int, size: int) -> int | None:
        """A regular file of the owner's and no one else's, with this size; None if it is anything else."""
        try:
            fd = safefile.regular(name, flags, self.fd)
        except OSError:
            return None
        found = os.fstat(fd)
        if found.st_uid == self.uid and found.st_nlink == 1 and found.st_size == size:
            return fd
        os.close(fd)
        return None

    def remove_if_left(self) -> None:
        """Remove it if its server is gone and left no evidence in it: its last process could not, for we were inside.

        As `instrument/places.py` does it, under the same lock.
        """
        with contextlib.suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            names = self.names()
            if any(map(parse_state_name, names)) or still(self.root):
                return
            for name in names:
                viewer = parse_fifo_name(name)
                if viewer is None or not still(viewer):
                    os.unlink(name, dir_fd=self.fd)
            os.rmdir(process_name(self.root), dir_fd=self.parent_fd)


def exist() -> bool:
    """Return False if no user of this machine has a directory. Then no process's user is needed."""
    places = {Path(each).parent for each in user_directories(0)}
    with contextlib.suppress(OSError), os.scandir(f"{RUN}/user") as users:
        places |= {Path(each.path) for each in islice(users, MOST_NAMES)}
    for place in places:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            if any(number >= MOST_NAMES or entry.name.startswith(_USER) for number, entry in enumerate(entries)):
                return True
    return False


def find(members: Collection[ProcessId], users: Collection[int] | None = None) -> Iterator[Directory]:
    """The directories of a server that consists of these processes; the caller closes them.

    `users` are those whose rights its processes have, by default those that they may take up. Of each user there are
    as many as processes: each has its file in one of them.
    """
    wanted = {user for each in members for user in user_ids(each.pid)} if users is None else users
    for user in sorted(wanted):
        for path in user_directories(user):
            try:
                user_fd = safefile.private(path, None, user)
            except OSError:  # none, another user's, or a symbolic link
                continue
            try:
                yield from islice(_servers(user_fd, user, members), len(members))
            finally:
                os.close(user_fd)


def _servers(user_fd: int, uid: int, members: Collection[ProcessId]) -> Iterator[Directory]:
    for name in names_in(user_fd):
        root = parse_process_name(name)
        if root is None:
            continue
        try:
            fd = safefile.private(name, user_fd, uid)
        except OSError:
            continue
        found = os.fstat(fd)
        directory = Directory(fd, os.dup(user_fd), uid, root, (found.st_dev, found.st_ino))
        if _is_of(directory, members):
            yield directory
        else:
            directory.close()


def names_in(fd: int) -> list[str]:
    """Return the names in a directory, at most MOST_NAMES; none if it is gone."""
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in islice(entries, MOST_NAMES)]
    except OSError:
        return []


def _is_of(directory: Directory, members: Collection[ProcessId]) -> bool:
    """Return True if it has the name of one of the server's processes, which belongs to its owner. PIDs of another
    namespace are other processes.
    """
    named = [each for each in members if each == directory.root or directory.has(state_name(each))]
    return any(directory.uid in user_ids(member.pid) for member in named) and _same_namespace(directory)


def _same_namespace(directory: Directory) -> bool:
    fd = directory.open_file(CONTROL, os.O_RDONLY, CONTROL_SIZE)
    if fd is None:
        return False
    try:
        word = os.pread(fd, 8, ControlWord.PID_NAMESPACE * 8)
        return int.from_bytes(word, "little") == Path("/proc/self/ns/pid").stat().st_ino
    finally:
        os.close(fd)
