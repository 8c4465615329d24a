"""Helpers of the traced locks' tests: the least that a viewer has to do, and a look at the state files."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from semtrace.model import ProcessId
from semtrace.wire import place
from semtrace.wire.event import EventType, Record, decode_events
from semtrace.wire.place import CONTROL, CONTROL_SIZE, ControlWord, fifo_name
from semtrace.wire.statefile import LockBook, StateFile, decode_state

from .processes import start_ticks


class Viewer:
    """A FIFO in a server's directory and what came through it. `process` is under whose name it lies there."""

    def __init__(self, directory: Path, number: int = 0, process: ProcessId | None = None) -> None:
        pid = os.getpid()
        self.path = directory / fifo_name(process or ProcessId(pid, start_ticks(pid) or 0), number)
        self.records: list[Record] = []
        self.malformed = 0
        self._rest = b""
        self._directory = directory
        os.mkfifo(self.path, 0o600)
        self.descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self.descriptor, fcntl.F_SETPIPE_SZ, 1 << 20)
        self.announce()

    def announce(self) -> None:
        bump(self._directory)

    def read(self) -> list[Record]:
        """All records so far."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.descriptor, 1 << 20):
                records, malformed, self._rest = decode_events(self._rest + data)
                self.records += records
                self.malformed += malformed
        return self.records

    def of(self, type_: EventType) -> list[Record]:
        return [record for record in self.read() if record.type == type_]

    def leave(self) -> None:
        os.close(self.descriptor)
        self.path.unlink(missing_ok=True)


def bump(directory: Path) -> None:
    """Tell the processes of a server that a FIFO is there."""
    with (directory / CONTROL).open("r+b") as file, mmap.mmap(file.fileno(), CONTROL_SIZE) as control:
        at = ControlWord.GENERATION * 8
        control[at : at + 8] = place.generation(time.monotonic_ns(), os.getpid()).to_bytes(8, "little")


def generation(directory: Path) -> int:
    """What changes when a viewer has told the processes of a server that its FIFO is there."""
    data = (directory / CONTROL).read_bytes()
    at = ControlWord.GENERATION * 8
    return int.from_bytes(data[at : at + 8], "little")


def directories(base: Path) -> list[Path]:
    """The servers' directories."""
    return sorted(base.glob(f"semtrace-{os.geteuid()}/*-*"))


def states(base: Path) -> dict[int, StateFile]:
    """All state files by pid."""
    found = {}
    for path in base.glob("semtrace-*/*/*.state"):
        with contextlib.suppress(FileNotFoundError):
            state = decode_state(path.read_bytes(), path.read_bytes())
            if state is not None:
                found[state.process.pid] = state
    return found


def book(base: Path, pid: int, name: str) -> LockBook | None:
    """One process's book of the lock of that name."""
    state = states(base).get(pid)
    return next((found for found in state.locks if found.name == name), None) if state else None


def consistent(records: list[Record], key: Callable[[Record], object]) -> bool:
    """Whether each process's sequence numbers are unique, and without a gap between the first and the last."""
    numbers: dict[object, list[int]] = {}
    for record in records:
        numbers.setdefault(key(record), []).append(record.sequence)
    return all(sorted(several) == list(range(min(several), max(several) + 1)) for several in numbers.values())
