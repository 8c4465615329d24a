"""Find out which of some files a process has open, by device and inode, without ever waiting for a file system.

stat(2) through `/proc/PID/fd` would ask the file's own file system, and one that a hostile user serves (FUSE) or that a
dead server exports (NFS) does not answer. The kernel knows the inode's number, and statx has a flag not to ask.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
from collections.abc import Collection

from semtrace.linux.files import not_for_want_of
from semtrace.model import SemId

# A process that has more open than this is not asked: it decides how long that would take.
MOST_DESCRIPTORS = 1 << 16

# Documentation/filesystems/proc.rst, 3.8: since Linux 5.14.
_INODE = re.compile(rb"^ino:\t(\d+)$", re.MULTILINE)

# include/uapi/linux/stat.h: struct statx, its fields stx_mode, stx_ino, stx_dev_major and stx_dev_minor, and the flags.
_STATX_SIZE = 256
_STX_MODE_AT = 28
_STX_INO_AT = 32
_STX_DEV = struct.Struct("=II")
_STX_DEV_AT = 136
_AT_FDCWD, _AT_STATX_DONT_SYNC, _STATX_TYPE_INO = -100, 0x4000, 0x1 | 0x100

_libc = ctypes.CDLL(None, use_errno=True)
_statx = getattr(_libc, "statx", None)  # glibc 2.28, musl 1.1.24


def opened(tid: int, wanted: Collection[SemId]) -> frozenset[SemId]:
    """Return those of the wanted files that the process has open, whatever their names.

    Raises OSError: PermissionError without the right, FileNotFoundError if it ended, and where it has too many open.
    """
    directory = f"/proc/{tid}/fd"
    names = os.listdir(directory)
    if len(names) > MOST_DESCRIPTORS:
        raise OSError(f"it has {len(names)} files open")
    inodes = {each.inode for each in wanted}
    found = (_which(tid, name) for name in names if _may_be(tid, name, inodes))
    return frozenset(each for each in found if each is not None and each in wanted)


def _may_be(tid: int, name: str, inodes: Collection[int]) -> bool:
    """Return True for a file of this inode number. Raises PermissionError."""
    try:
        if not os.readlink(f"/proc/{tid}/fd/{name}").startswith("/"):
            return False  # a socket, a pipe, an anonymous inode: no path is shown of them (fs/d_path.c d_path)
        with open(f"/proc/{tid}/fdinfo/{name}", "rb", buffering=0) as f:
            number = _INODE.search(f.read(512))
    except (FileNotFoundError, ProcessLookupError):
        return False  # closed meanwhile
    except PermissionError:
        raise
    except OSError as error:
        not_for_want_of(error)
        return True  # such as a path that is too long to be shown
    return number is None or int(number[1]) in inodes


def _which(tid: int, name: str) -> SemId | None:
    """Return the file behind a descriptor, None if it was closed or does not answer. Raises PermissionError."""
    found = identify(f"/proc/{tid}/fd/{name}")
    return None if found is None else found[0]


def identify(path: str) -> tuple[SemId, int] | None:
    """Return the file and its mode, by a link under `/proc/PID/fd`, None if it was closed or does not answer. The file
    is not opened. Raises PermissionError.
    """
    if _statx is None:
        return _by_stat(path)
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    if _statx(_AT_FDCWD, path.encode(), _AT_STATX_DONT_SYNC, _STATX_TYPE_INO, buffer) != 0:
        if ctypes.get_errno() in (errno.EACCES, errno.EPERM):
            raise PermissionError(ctypes.get_errno(), path)
        return None
    inode = int.from_bytes(buffer.raw[_STX_INO_AT : _STX_INO_AT + 8], "little")
    mode = int.from_bytes(buffer.raw[_STX_MODE_AT : _STX_MODE_AT + 2], "little")
    major, minor = _STX_DEV.unpack_from(buffer.raw, _STX_DEV_AT)
    return SemId(major, minor, inode), mode


def _by_stat(path: str) -> tuple[SemId, int] | None:
    try:
        info = os.stat(path)
    except PermissionError:
        raise
    except OSError:
        return None
    return SemId.of_file(info), info.st_mode
