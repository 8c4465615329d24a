"""Paths under /dev/shm, and the control file by which viewers make themselves known."""

from __future__ import annotations

import os
import struct
from enum import IntEnum

from semtrace.model import ProcessId
from semtrace.wire.words import VERSION

SHM = "/dev/shm"
RUN = "/run"
SHM_VARIABLE = "SEMTRACE_SHM"  # another place than /dev/shm, for the tests and for systems without it
SERVER_VARIABLE = "SEMTRACE_SERVER"  # PID-TICKS of the server's first traced process, for its exec'ed children
CONTROL = "control"
STATE_SUFFIX = ".state"
FIFO_SUFFIX = ".fifo"


def shm() -> str:
    return os.environ.get(SHM_VARIABLE) or SHM


def user_directory(uid: int, base: str | None = None) -> str:
    """Everything of one user: 0700, owned by that user, no symbolic link, else nobody uses it."""
    return f"{base or shm()}/semtrace-{uid}"


def user_directories(uid: int) -> tuple[str, ...]:
    """Return the folders of one user's traces, the usual one first.

    Anybody may make the first one, and so keep its user out. Only root can make anything in /run, and only the user in
    /run/user/UID.
    """
    if shm() != SHM:
        return (user_directory(uid),)
    return user_directory(uid), user_directory(uid, RUN if uid == 0 else f"{RUN}/user/{uid}")


def server_directory(uid: int, root: ProcessId, base: str | None = None) -> str:
    """One server's directory.

    `root` is the first process that was traced: usually the master, but a launcher above it or, when only the
    application installs, a worker. A server whose workers change their user (gunicorn --user) has one for each uid. So
    find a server by the state files inside, not by this name alone. A directory belongs to it if any of them, or the
    name itself, is a process of its tree.
    """
    return f"{user_directory(uid, base)}/{process_name(root)}"


def process_name(process: ProcessId) -> str:
    return f"{process.pid}-{process.start_ticks}"


def parse_process_name(name: str) -> ProcessId | None:
    """The reverse of `process_name`; None for another name."""
    pid, _, ticks = name.partition("-")
    digits = pid.isascii() and pid.isdigit() and ticks.isascii() and ticks.isdigit()
    return ProcessId(int(pid), int(ticks)) if digits else None


def state_name(process: ProcessId) -> str:
    return process_name(process) + STATE_SUFFIX


def parse_state_name(name: str) -> ProcessId | None:
    return parse_process_name(name.removesuffix(STATE_SUFFIX)) if name.endswith(STATE_SUFFIX) else None


def fifo_name(viewer: ProcessId, number: int = 0) -> str:
    """A viewer's FIFO: mode 0600, and owned by the server's user or by root, else the server does not write to it.

    A viewer that runs as root must chown it to the directory's owner, for that is who opens it.
    """
    return f"{process_name(viewer)}-{number}{FIFO_SUFFIX}"


def parse_fifo_name(name: str) -> ProcessId | None:
    """The viewer whose FIFO it is."""
    if not name.endswith(FIFO_SUFFIX):
        return None
    process, _, number = name.removesuffix(FIFO_SUFFIX).rpartition("-")
    return parse_process_name(process) if number.isascii() and number.isdigit() else None


CONTROL_MAGIC = int.from_bytes(b"semcontr", "little")
CONTROL_SIZE = 4096


class ControlWord(IntEnum):
    """The control file, by 64-bit word.

    A viewer that made its FIFO and opened it for reading stores `generation()` into GENERATION: traced processes
    compare that word at each event, and look for FIFOs when it changed. Nothing is stored when a viewer leaves.
    """

    MAGIC = 0
    VERSION = 1
    GENERATION = 2
    PID_NAMESPACE = 3  # inode of /proc/PID/ns/pid of who made the directory: only there its pids mean anything


def encode_control(pid_namespace: int) -> bytes:
    return struct.pack("<4Q", CONTROL_MAGIC, VERSION, 0, pid_namespace).ljust(CONTROL_SIZE, b"\0")


def control_is_valid(data: bytes) -> bool:
    return len(data) == CONTROL_SIZE and struct.unpack_from("<2Q", data) == (CONTROL_MAGIC, VERSION)


def generation(monotonic_ns: int, pid: int) -> int:
    """A value that no other viewer stores: the time in steps of about 4 µs, and the pid."""
    return (monotonic_ns >> 12 << 22 | pid & 0x3FFFFF) & 0xFFFFFFFFFFFFFFFF or 1
