"""Helpers of the traced locks' tests: the least that a viewer has to do, and a look at the state files."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from semtrace import wire
from semtrace.model import ProcessId

from .processes import start_ticks


class Viewer:
    """A FIFO in a server's directory and what came through it. `process` is under whose name it lies there."""

    def __init__(self, directory: Path, number: int = 0, process: ProcessId | None = None) -> None:
        pid = os.getpid()
        self.path = directory / wire.fifo_name(process or ProcessId(pid, start_ticks(pid) or 0), number)
        self.records: list[wire.Record] = []
        self.malformed = 0
        self._rest = b""
        self._directory = directory
        os.mkfifo(self.path, 0o600)
        self.descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self.descriptor, fcntl.F_SETPIPE_SZ, 1 << 20)
        self.announce()

    def announce(self) -> None:
        bump(self._directory)

    def read(self) -> list[wire.Record]:
        """All records so far."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.descriptor, 1 << 20):
                records, malformed, self._rest = wire.decode_events(self._rest + data)
                self.records += records
                self.malformed += malformed
        return self.records

    def of(self, type_: wire.EventType) -> list[wire.Record]:
        return [record for record in self.read() if record.type == type_]

    def leave(self) -> None:
        os.close(self.descriptor)
        self.path.unlink(missing_ok=True)


def bump(directory: Path) -> None:
    """Tell the processes of a server that a FIFO is there."""
    with (directory / wire.CONTROL).open("r+b") as file, mmap.mmap(file.fileno(), wire.CONTROL_SIZE) as control:
        at = wire.ControlWord.GENERATION * 8
        control[at : at + 8] = wire.generation(time.monotonic_ns(), os.getpid()).to_bytes(8, "little")


def generation(directory: Path) -> int:
    """What changes when a viewer has told the processes of a server that its FIFO is there."""
    data = (directory / wire.CONTROL).read_bytes()
    at = wire.ControlWord.GENERATION * 8
    return int.from_bytes(data[at : at + 8], "little")


def directories(base: Path) -> list[Path]:
    """The servers' directories."""
    return sorted(base.glob(f"semtrace-{os.geteuid()}/*-*"))


def states(base: Path) -> dict[int, wire.StateFile]:
    """All state files by pid."""
    found = {}
    for path in base.glob("semtrace-*/*/*.state"):
        with contextlib.suppress(FileNotFoundError):
            state = wire.decode_state(path.read_bytes(), path.read_bytes())
            if state is not None:
                found[state.process.pid] = state
    return found


def book(base: Path, pid: int, name: str) -> wire.LockBook | None:
    """One process's book of the lock of that name."""
    state = states(base).get(pid)
    return next((found for found in state.locks if found.name == name), None) if state else None


def consistent(records: list[wire.Record], key: Callable[[wire.Record], object]) -> bool:
    """Whether each process's sequence numbers are unique, and without a gap between the first and the last."""
    numbers: dict[object, list[int]] = {}
    for record in records:
        numbers.setdefault(key(record), []).append(record.sequence)
    return all(sorted(several) == list(range(min(several), max(several) + 1)) for several in numbers.values())
