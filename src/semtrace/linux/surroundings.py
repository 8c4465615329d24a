"""Read the command and folder that a process was started with: for display, read once when asked for."""

from __future__ import annotations

import os
from pathlib import Path

from semtrace.linux import withheld
from semtrace.linux.process import still
from semtrace.linux.users import name_of
from semtrace.model import ProcessId, Surroundings

_MOST_BYTES = 8192


def read_surroundings(process: ProcessId) -> Surroundings | None:
    """None if it is gone. A command line can take its time where the process is busy with its memory: not for a
    refresh.
    """
    folder = Path(f"/proc/{process.pid}")
    command = _read(folder / "cmdline")
    status = _fields(_read(folder / "status"))
    try:
        directory: str | None = os.fsdecode(os.readlink(folder / "cwd"))
    except OSError:
        directory = None
    if not still(process):
        return None
    return Surroundings(
        tuple(os.fsdecode(each) for each in command.rstrip(b"\0").split(b"\0")) if command else None,
        directory,
        _user(status.get(b"Uid")),
        _inner_pid(status.get(b"NSpid")),
    )


def _read(path: Path) -> bytes | None:
    try:
        withheld.check(str(path))
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return None


def _fields(status: bytes | None) -> dict[bytes, bytes]:
    """Documentation/filesystems/proc.rst, /proc/PID/status."""
    lines = (line.partition(b":") for line in (status or b"").splitlines())
    return {name: value for name, _, value in lines}


def _user(uids: bytes | None) -> str | None:
    return None if uids is None else name_of(int(uids.split()[0]))


def _inner_pid(pids: bytes | None) -> int | None:
    """The last of NSpid is that of the innermost namespace."""
    several = pids.split() if pids else []
    return int(several[-1]) if len(several) > 1 else None
