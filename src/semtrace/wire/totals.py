"""The totals file: what the ended processes of a server have counted of each lock, so that their files can go.

It is replaced as a whole, by renaming: a reader never sees half of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field

from semtrace.lazydata import dataclass
from semtrace.model import ProcessId, SemId
from semtrace.wire.statefile import LockBook
from semtrace.wire.words import VERSION, device_number, semaphore

TOTALS = "totals"
TOTALS_MAGIC = int.from_bytes(b"semtotal", "little")

# A lock that is made for each job must not let the file grow: of more locks the oldest are forgotten.
TOTAL_SLOTS = 1024
# The processes that were counted last. Their own files are removed after this one was written.
COUNTED_SLOTS = 64

_HEADER = struct.Struct("<4Q")  # magic, version, locks, processes
_PROCESS = struct.Struct("<2Q")
_TOTAL = struct.Struct("<10Q")  # device, inode, and the eight counts
_COUNTED_AT = _HEADER.size
_TOTALS_AT = _COUNTED_AT + COUNTED_SLOTS * _PROCESS.size
TOTALS_SIZE = _TOTALS_AT + TOTAL_SLOTS * _TOTAL.size
_MOST = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class Total:
    """Counts of one lock over several processes, with the names and units of `LockBook`."""

    acquired: int = 0
    contended: int = 0
    failed: int = 0
    released: int = 0
    wait_total_ns: int = 0
    wait_max_ns: int = 0
    hold_total_ns: int = 0
    hold_max_ns: int = 0

    def plus(self, book: LockBook) -> Total:
        return Total(
            acquired=self.acquired + book.acquired,
            contended=self.contended + book.contended,
            failed=self.failed + book.failed,
            released=self.released + book.released,
            wait_total_ns=self.wait_total_ns + book.wait_total_ns,
            wait_max_ns=max(self.wait_max_ns, book.wait_max_ns),
            hold_total_ns=self.hold_total_ns + book.hold_total_ns,
            hold_max_ns=max(self.hold_max_ns, book.hold_max_ns),
        )

    def words(self) -> tuple[int, ...]:
        """Return the counts in the order of the file."""
        return (
            self.acquired,
            self.contended,
            self.failed,
            self.released,
            self.wait_total_ns,
            self.wait_max_ns,
            self.hold_total_ns,
            self.hold_max_ns,
        )


@dataclass(frozen=True)
class Totals:
    """`counted` are the processes that were added last: a state file of one of them is not to be counted again."""

    locks: Mapping[SemId, Total] = field(default_factory=dict)
    counted: tuple[ProcessId, ...] = ()

    def plus(self, process: ProcessId, books: Iterable[LockBook]) -> Totals:
        """Return the totals with the counts of a process that has ended."""
        locks = dict(self.locks)
        for book in books:
            locks[book.lock] = locks.pop(book.lock, Total()).plus(book)
        newest = dict(list(locks.items())[-TOTAL_SLOTS:])
        return Totals(newest, (*self.counted, process)[-COUNTED_SLOTS:])


def encode_totals(totals: Totals) -> bytes:
    data = bytearray(TOTALS_SIZE)
    _HEADER.pack_into(data, 0, TOTALS_MAGIC, VERSION, len(totals.locks), len(totals.counted))
    for index, process in enumerate(totals.counted):
        _PROCESS.pack_into(data, _COUNTED_AT + index * _PROCESS.size, *process)
    for index, (lock, total) in enumerate(totals.locks.items()):
        words = [min(each, _MOST) for each in total.words()]
        _TOTAL.pack_into(data, _TOTALS_AT + index * _TOTAL.size, device_number(lock), lock.inode, *words)
    return bytes(data)


def decode_totals(data: bytes) -> Totals | None:
    """Return None if it is not a totals file of this version, or cut short."""
    if len(data) != TOTALS_SIZE:
        return None
    magic, version, locks, processes = _HEADER.unpack_from(data)
    if (magic, version) != (TOTALS_MAGIC, VERSION) or locks > TOTAL_SLOTS or processes > COUNTED_SLOTS:
        return None
    counted = (ProcessId(*_PROCESS.unpack_from(data, _COUNTED_AT + at * _PROCESS.size)) for at in range(processes))
    return Totals(dict(_locks(data, locks)), tuple(counted))


def _locks(data: bytes, count: int) -> Iterator[tuple[SemId, Total]]:
    for at in range(count):
        device, inode, *words = _TOTAL.unpack_from(data, _TOTALS_AT + at * _TOTAL.size)
        yield semaphore(device & 0xFFFFFFFF, inode), Total(*words)
