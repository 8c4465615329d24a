"""The directories under /dev/shm, opened so that nobody else can lead us elsewhere; and who and what we are.

No directory descriptor is kept: an application may close all descriptors, and the number would then be another file's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator

from semtrace.errors import NotPermitted, SemtraceError
from semtrace.model import ProcessId, SemId
from semtrace.wire.place import (
    CONTROL,
    ControlWord,
    parse_process_name,
    parse_state_name,
    process_name,
    user_directories,
)

_ATTEMPTS = 20
_PAUSE_S = 0.0005
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def this_process() -> ProcessId:
    pid = os.getpid()
    ticks = start_ticks(pid)
    if ticks is None:
        raise SemtraceError("this process cannot read /proc/self/stat", "mount /proc")
    return ProcessId(pid, ticks)


def start_ticks(pid: int) -> int | None:
    """Return field 22 of `/proc/PID/stat`; None without such a process, or if it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def is_alive(process: ProcessId) -> bool:
    return start_ticks(process.pid) == process.start_ticks


def pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def semaphore_at(address: int) -> SemId | None:
    """Return the file that is mapped at this address of ours, None without one. It takes 0.1 ms."""
    with open("/proc/self/maps", "rb") as file:
        for line in file:
            span, _, _, device, inode, *_ = line.split(maxsplit=5)
            low, _, high = span.partition(b"-")
            if int(low, 16) <= address < int(high, 16):
                major, _, minor = device.partition(b":")
                return SemId(int(major, 16), int(minor, 16), int(inode)) if inode != b"0" else None
    return None


@contextlib.contextmanager
def server_directory(root: ProcessId, create: bool = False) -> Iterator[int]:
    """The server's directory of the effective user as a descriptor, for as long as the block lasts.

    Raises NotPermitted if it, or the one above it, is not a directory of ours alone; OSError if it is not there.
    """
    user = _open_user(create)
    try:
        server = _open(process_name(root), user, create)
    finally:
        os.close(user)
    try:
        yield server
    finally:
        os.close(server)


def _open_user(create: bool) -> int:
    """The first of the places of the effective user that is that user's alone: anybody may make the first."""
    refusal: Exception | None = None
    for path in user_directories(os.geteuid()):
        try:
            return _open(path, None, create)
        except (OSError, NotPermitted) as error:
            refusal = refusal or error
    raise refusal or FileNotFoundError


def _open(path: str, inside: int | None, create: bool) -> int:
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700, dir_fd=inside)
    descriptor = os.open(path, _DIRECTORY, dir_fd=inside)
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(descriptor)
        raise NotPermitted(f"{path} is not a directory of this user alone", f"look who made {path}, and remove it")
    return descriptor


def sweep(spared: ProcessId) -> None:
    """Remove what dead servers of this user left behind: a server's next start is when its evidence goes."""
    user = _open_user(create=False)
    try:
        for name in os.listdir(user):
            server = parse_process_name(name)
            if server is not None and server != spared:
                with contextlib.suppress(OSError, SemtraceError):
                    _sweep_server(name, server, user)
    finally:
        os.close(user)


def remove_ended(server: ProcessId) -> None:
    """Remove the directory of this one server of ours, evidence and all, if it and all its processes have ended."""
    with contextlib.suppress(OSError, SemtraceError):
        user = _open_user(create=False)
        try:
            _sweep_server(process_name(server), server, user)
        finally:
            os.close(user)


def _sweep_server(name: str, server: ProcessId, user: int) -> None:
    directory = _open(name, user, create=False)
    try:
        names = os.listdir(directory)
        members = filter(None, map(parse_state_name, names))
        if same_namespace(directory) and not any(map(is_alive, [server, *members])):
            for inside in names:
                os.unlink(inside, dir_fd=directory)
            os.rmdir(name, dir_fd=user)
    finally:
        os.close(directory)


def same_namespace(directory: int) -> bool:
    """Return True if its PIDs are ours: containers can share a /dev/shm."""
    try:
        control = os.open(CONTROL, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return True
    try:
        word = os.pread(control, 8, ControlWord.PID_NAMESPACE * 8)
    finally:
        os.close(control)
    return int.from_bytes(word, "little") == pid_namespace()


def remove_if_last(root: ProcessId) -> None:
    """Remove the server's directory with its last process, unless a state file is left: a living one's, or evidence.

    The lock keeps a process that just joins (`joining`) from losing the control file between its steps.
    """
    if root != this_process() and is_alive(root):
        return  # others may join yet
    with server_directory(root) as directory:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        names = os.listdir(directory)
        if not any(map(parse_state_name, names)):
            for name in names:
                os.unlink(name, dir_fd=directory)
            user = _open_user(create=False)
            try:
                os.rmdir(process_name(root), dir_fd=user)
            finally:
                os.close(user)


def locked(directory: int, kind: int) -> bool:
    """Lock the directory, LOCK_SH or LOCK_EX; False if others keep it locked. Nobody keeps it for long, and a stranger
    is not waited for.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(directory, kind | fcntl.LOCK_NB)
            return True
        time.sleep(_PAUSE_S)
    return False


@contextlib.contextmanager
def joining(root: ProcessId) -> Iterator[int]:
    """The server's directory, made if need be, and not removed by a leaving process until the block ends."""
    with server_directory(root, create=True) as directory:
        locked(directory, fcntl.LOCK_SH)
        if os.fstat(directory).st_nlink == 0:
            raise SemtraceError("the server's directory was removed while joining it", "")
        yield directory
