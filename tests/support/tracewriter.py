"""Helpers of the viewer's tests: records, books and files of servers that do not exist, and a directory that does."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

from semtrace.model import ProcessId, SemId
from semtrace.tracing.events import Decoder, Event
from semtrace.tracing.state import Files
from semtrace.wire.event import EventType, Record, encode_event
from semtrace.wire.offsets import (
    NAME_BYTES,
    STATE_SIZE,
    Header,
    LockWord,
    encode_header,
    encode_name,
    encode_site,
    identity_word,
    lock_at,
    site_at,
    site_id,
)
from semtrace.wire.place import CONTROL, ControlWord, encode_control, server_directory, state_name
from semtrace.wire.statefile import LockBook, Site, StateFile
from semtrace.wire.words import Flag, Kind

from .processes import start_ticks

LOCK = SemId(0, 27, 501)
OTHER = SemId(0, 27, 502)
P, Q = ProcessId(101, 1), ProcessId(102, 2)
SITE = site_id("/app/a.py", 7)
SITES = {SITE: Site("/app/a.py", 7)}
S = 1_000_000_000


def record(
    type_: EventType,
    at_ns: int,
    sequence: int,
    value: int | None = None,
    process: ProcessId = P,
    lock: SemId | None = LOCK,
    tid: int | None = None,
    kind: Kind = Kind.LOCK,
    flags: Flag = Flag.NONE,
    site: int = SITE,
) -> Record:
    return Record(type_, process, tid or process.pid, lock, kind, flags, 0, site if lock else 0, sequence, at_ns, value)


def events(*records: Record) -> list[Event]:
    return Decoder().decode(b"".join(map(encode_event, records)))


EMPTY_BOOK = LockBook(
    0, LOCK, Kind.LOCK, Flag.NONE, None, 0, 0, None, 0, 0, 0, None, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, True
)


def book(**changes: object) -> LockBook:
    return replace(EMPTY_BOOK, **changes)  # type: ignore[arg-type]


def state_file(process: ProcessId, *books: LockBook, **changes: object) -> StateFile:
    plain = StateFile(process, 1, 0, 0, 0, True, 1, {}, books, SITES)
    return replace(plain, **changes)  # type: ignore[arg-type]


def files(at_ns: int, *found: StateFile, dead: tuple[ProcessId, ...] = ()) -> Files:
    return Files(at_ns, found, frozenset(file.process for file in found) - set(dead))


class FakeServer:
    """A server's directory as the instrument makes it, of this very process; `tell` writes to every FIFO in it."""

    def __init__(self, base: Path, process: ProcessId | None = None, names_process: bool = True) -> None:
        self.process = process or ProcessId(os.getpid(), start_ticks(os.getpid()) or 0)
        self.path = Path(server_directory(os.geteuid(), self.process, str(base)))
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        self.path.mkdir(mode=0o700)
        namespace = os.stat("/proc/self/ns/pid").st_ino
        (self.path / CONTROL).write_bytes(encode_control(namespace))
        if names_process:
            self.write_state(self.process)

    def write_state(self, process: ProcessId, **words: int) -> Path:
        """A state file with one lock; `words` are its LockWords."""
        data = bytearray(STATE_SIZE)
        header = encode_header(process, 1, 1)
        header[Header.SITES] = 1
        struct.pack_into(f"<{len(header)}Q", data, 0, *header)
        at = lock_at(0)
        identity = identity_word(LOCK, Kind.LOCK, Flag.NONE, 0)
        for word, value in {"INODE": LOCK.inode, "IDENTITY": identity, **words}.items():
            struct.pack_into("<Q", data, (at + LockWord[word]) * 8, value)
        start = (at + LockWord.NAME) * 8
        data[start : start + NAME_BYTES] = encode_name("app.lock")
        data[site_at(0) : site_at(1)] = encode_site("/app/a.py", 7)
        path = self.path / state_name(process)
        path.write_bytes(data)
        return path

    @property
    def fifos(self) -> list[Path]:
        return sorted(self.path.glob("*.fifo"))

    @property
    def generation(self) -> int:
        data = (self.path / CONTROL).read_bytes()
        at = ControlWord.GENERATION * 8
        return int.from_bytes(data[at : at + 8], "little")

    def tell(self, data: bytes) -> int:
        """How many FIFOs took it; ENXIO and EAGAIN as the server takes them."""
        taken = 0
        for path in self.fifos:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                taken += os.write(fd, data) == len(data)
            except BlockingIOError:
                pass
            finally:
                os.close(fd)
        return taken
