"""The event record: 64 bytes, written by one write() to each viewer's FIFO, and therefore never torn."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from semtrace.model import ProcessId, SemId
from semtrace.wire.words import KINDS, NOTHING, VERSION, Flag, Kind, device_number, semaphore, who


class EventType(IntEnum):
    """The type of an event, and the meaning of the record's `value`."""

    WAIT = 1  # the lock was not free and the thread begins to wait; NOTHING
    ACQUIRED = 2  # how long it waited, in ns; 0 if the lock was free
    RELEASED = 3  # how long it was held, in ns; NOTHING if nobody here had acquired it (a signal, another process)
    FAILED = 4  # how long it tried, in ns: a timeout, a refusal without waiting, or an exception out of the waiting
    CREATED = 5  # NOTHING; a lock was made or rebuilt here, its name is in the state file
    FORKED = 6  # the parent's pid; sent by the child; no lock
    EXITING = 7  # NOTHING; no lock


# magic, version, type, pid | start ticks | inode | device, kind, flags, slot | site, tid | seq | time | value
EVENT = struct.Struct("<HBBIQQIBBHIIQQQ")
EVENT_SIZE = 64
EVENT_MAGIC = 0x5E37

# A record is written as two parts: one that is constant for (process, type, lock), and four words.
EVENT_PREFIX = struct.Struct("<HBBIQQIBBH")
EVENT_WORDS = struct.Struct("<QQQQ")


class Record(NamedTuple):
    """One event as it travels. `time_ns` is CLOCK_MONOTONIC; `site` is looked up in the process's state file (0: none).

    `sequence` counts all events that a process tried to send to anyone, from 1: a gap is loss. Threads of one process
    overtake each other between taking a number and writing: a gap may close again within a few records. Nor are records
    of several processes in order of time: a release is written after the semaphore is posted, so sort by `time_ns`.
    An RLock's inner acquires and releases make no records. `site` of a release is that of its acquire.
    `slot` is the lock's place in the state file. A process event has no lock: its `lock` is None and its slot 0.
    """

    type: EventType
    process: ProcessId
    tid: int
    lock: SemId | None
    kind: Kind
    flags: Flag
    slot: int
    site: int
    sequence: int
    time_ns: int
    value: int | None


def event_prefix(type_: EventType, process: ProcessId, lock: SemId | None, kind: Kind, flags: Flag, slot: int) -> bytes:
    """The constant part of a record."""
    inode, device = (lock.inode, device_number(lock)) if lock else (0, 0)
    head = (EVENT_MAGIC, VERSION, type_, process.pid, process.start_ticks)
    return EVENT_PREFIX.pack(*head, inode, device, kind, flags, slot)


def encode_event(record: Record) -> bytes:
    prefix = event_prefix(record.type, record.process, record.lock, record.kind, record.flags, record.slot)
    value = NOTHING if record.value is None else record.value
    return prefix + EVENT_WORDS.pack(who(record.tid, record.site), record.sequence, record.time_ns, value)


def decode_event(data: bytes) -> Record | None:
    """One record of exactly EVENT_SIZE bytes; None if it is not one of this version."""
    return _record(EVENT.unpack(data)) if len(data) == EVENT_SIZE else None


def decode_events(data: bytes) -> tuple[list[Record], int, bytes]:
    """All whole records in `data`, how many were malformed, and the rest that is not a whole record.

    A pipe delivers whole records only, because each is one atomic write; the rest is for readers that read odd sizes.
    """
    whole = len(data) - len(data) % EVENT_SIZE
    decoded = [_record(fields) for fields in EVENT.iter_unpack(data[:whole])]
    records = [record for record in decoded if record is not None]
    return records, len(decoded) - len(records), data[whole:]


_TYPES = {int(member): member for member in EventType}


def _record(fields: tuple[int, ...]) -> Record | None:
    magic, version, type_, pid, ticks, inode, device, kind, flags, slot, site, tid, seq, time_ns, value = fields
    if magic != EVENT_MAGIC or version != VERSION or type_ not in _TYPES or kind not in KINDS or pid == 0:
        return None
    lock = semaphore(device, inode) if inode else None
    process, measured = ProcessId(pid, ticks), None if value == NOTHING else value
    return Record(_TYPES[type_], process, tid, lock, KINDS[kind], Flag(flags & 1), slot, site, seq, time_ns, measured)
