"""Open files whose paths others can influence: no link of theirs is followed, nothing is waited for, nothing is run.

A root process that writes where another user may rename things writes wherever that user wants. So a path is walked
name by name, each relative to the directory before it, and every file is looked at before it is opened.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # include/linux/namei.h MAXSYMLINKS
_WORLD = stat.S_IWGRP | stat.S_IWOTH

# Groups below are the system's (login.defs(5) SYS_GID_MAX).
_FIRST_GROUP = 1000

# A line that was cut short is looked for this far back from the end.
_LONGEST_LINE = 1 << 20


class Unsafe(OSError):
    """Somebody else decides what lies at this path; `strerror` says who and how."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


def regular(path: str, flags: int, directory: int | None = None, *, follow: bool = False) -> int:
    """Open a file that is there, if it is a regular one. Raises OSError."""
    return _checked(path, flags, directory, follow, stat.S_ISREG, "it is not a regular file")


def fifo(name: str, flags: int, directory: int) -> int:
    """Open a FIFO that is there, without waiting for its other end. Raises OSError."""
    return _checked(name, flags, directory, False, stat.S_ISFIFO, "it is not a FIFO")


def _checked(
    path: str, flags: int, directory: int | None, follow: bool, is_kind: Callable[[int], bool], no: str
) -> int:
    """Check it before it is opened: to open a FIFO waits, and to open a device may do anything."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW), dir_fd=directory)
    try:
        if not is_kind(os.fstat(place).st_mode):
            raise Unsafe(no)
        return os.open(f"/proc/self/fd/{place}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(place)


def read(path: Path, limit: int) -> bytes:
    """The first bytes of a file of this user's or root's. Raises OSError; Unsafe for another user's."""
    fd = regular(str(path), os.O_RDONLY, follow=True)
    try:
        owner = os.fstat(fd).st_uid
        if owner not in (0, os.geteuid()):
            raise Unsafe(f"user {owner} owns it")
        pieces = []
        while limit > 0 and (piece := os.read(fd, limit)):
            pieces.append(piece)
            limit -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def append(path: Path) -> int:
    """Open a file of this user's alone to append to, made if need be (0600); a line that was cut short is cut off.

    Raises OSError; Unsafe where others can exchange it.
    """
    with directory(path.parent) as fd:
        try:
            file = regular(path.name, os.O_RDWR | os.O_APPEND, fd)
        except FileNotFoundError:
            return create(path.name, fd, os.O_RDWR | os.O_APPEND)
    try:
        found = os.fstat(file)
        if found.st_uid != os.geteuid():
            raise Unsafe(f"user {found.st_uid} owns it")
        if found.st_nlink != 1:
            raise Unsafe("it has another name somewhere else")
        _cut_partial_line(file, found.st_size)
    except BaseException:
        os.close(file)
        raise
    return file


def create(name: str, directory: int, flags: int = os.O_WRONLY) -> int:
    """Make a new file for this user alone. Raises FileExistsError rather than open anything that is there."""
    return os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)


def replace(path: Path, data: bytes) -> None:
    """Put a file of this user's in place in one step, its directories made if need be. Raises OSError."""
    with directory(path.parent, make=True) as fd:
        new = f".{path.name}.{os.urandom(8).hex()}"
        file = create(new, fd)
        try:
            with open(file, "wb") as stream:
                stream.write(data)
            os.replace(new, path.name, src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(new, dir_fd=fd)
            raise


def private(name: str, directory: int | None, owner: int) -> int:
    """Open a directory that is this user's, who lets nobody else in. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    found = os.fstat(fd)
    if found.st_uid == owner and not stat.S_IMODE(found.st_mode) & 0o077:
        return fd
    os.close(fd)
    raise Unsafe(f"it is not a directory of user {owner} alone")


@contextmanager
def directory(path: Path, *, make: bool = False, private: bool = True) -> Iterator[int]:
    """Open a directory without following a link that another user has made. Raises OSError, Unsafe.

    `private` wants that no other user can rename what is in it, unless it is sticky as /tmp is. Without that only new
    files may be made in it (`create`).
    """
    fd = _walk(path, make, private)
    try:
        yield fd
    finally:
        os.close(fd)


def _walk(path: Path, make: bool, private: bool) -> int:
    here = os.open("/", _PLACE | os.O_DIRECTORY) if path.is_absolute() else os.open(".", _PLACE | os.O_DIRECTORY)
    names = [part for part in path.parts if part != "/"]
    links = 0
    try:
        while names:
            if private:
                _check(here)
            there = _step(here, names.pop(0), make)
            if not stat.S_ISLNK(os.fstat(there).st_mode):
                os.close(here)
                here = there
                continue
            links += 1
            target = _target(here, there, links)
            os.close(there)
            names = [part for part in target.parts if part != "/"] + names
            if target.is_absolute():
                os.close(here)
                here = os.open("/", _PLACE | os.O_DIRECTORY)
        if private:
            _check(here)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)


def _step(here: int, name: str, make: bool) -> int:
    try:
        return os.open(name, _PLACE, dir_fd=here)
    except FileNotFoundError:
        if not make:
            raise
    _check(here)
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=here)
    return os.open(name, _PLACE, dir_fd=here)


def _target(here: int, link: int, links: int) -> Path:
    """Return the target of a link, if neither its owner nor that of its directory is another user."""
    if links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    for fd in (link, here):
        owner = os.fstat(fd).st_uid
        if owner not in (0, os.geteuid()):
            raise Unsafe(f"user {owner} can make the path lead elsewhere")
    return Path(os.readlink("", dir_fd=link))


def _check(here: int) -> None:
    found = os.fstat(here)
    if found.st_uid not in (0, os.geteuid()):
        raise Unsafe(f"user {found.st_uid} owns a directory on the way and can exchange what is in it")
    if found.st_mode & stat.S_ISVTX:
        return
    if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_trusted(found.st_gid)):
        raise Unsafe("other users can write in a directory on the way and exchange what is in it")


def _is_trusted(group: int) -> bool:
    """Return True for a group of the system's, as that of /var/log, and for one that this user alone is in."""
    if group < _FIRST_GROUP:
        return True
    try:
        user, members = pwd.getpwuid(os.geteuid()), grp.getgrgid(group).gr_mem
    except KeyError:
        return False
    return user.pw_gid == group and set(members) <= {user.pw_name}


def _cut_partial_line(file: int, size: int) -> None:
    """A write that the end of the disk or of the machine cut short would swallow the line that comes next."""
    begin = max(size - _LONGEST_LINE, 0)
    tail = os.pread(file, size - begin, begin)
    if tail and not tail.endswith(b"\n"):
        whole = tail.rfind(b"\n") + 1
        if whole or not begin:
            os.ftruncate(file, begin + whole)
