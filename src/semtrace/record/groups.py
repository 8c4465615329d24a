"""Groups of snapshots: the first whole, the others by what has changed, in one stream of deflate that is flushed after
each. Pure.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from typing import NamedTuple

from semtrace.model import Snapshot
from semtrace.record.chunks import Chunk, ChunkKind, Compression, inflated
from semtrace.record.codec import Shared
from semtrace.record.numbers import Cursor, Damaged
from semtrace.record.schema import Reader, Schema

GROUP_NS = 10_000_000_000

_NOW = struct.Struct(">d")
# What Z_SYNC_FLUSH ends with (RFC 7692, section 7.2.1): left out here, and put back by the reader.
_TAIL = b"\0\0\xff\xff"


class Frame(NamedTuple):
    """A snapshot and when it was recorded, CLOCK_MONOTONIC in ns. The last picture of a server is older than that."""

    at_ns: int
    snapshot: Snapshot


class GroupWriter:
    """Make chunks of snapshots; `begins` is True if the next one begins a group."""

    def __init__(self, schema: Schema, group_ns: int = GROUP_NS) -> None:
        self._codec = schema.codec
        self._group_ns = group_ns
        self._began_ns: int | None = None
        self._before: Snapshot | None = None

    def begin(self) -> None:
        """Have the next snapshot written whole."""
        self._began_ns = None

    def begins(self, at_ns: int) -> bool:
        return self._began_ns is None or at_ns - self._began_ns >= self._group_ns

    def chunk(self, frame: Frame) -> Chunk:
        """Return the chunk of the next snapshot. Raises Unrecordable, and begins a group after that."""
        new, before = lean(frame.snapshot), None
        kind = ChunkKind.GROUP if self.begins(frame.at_ns) else ChunkKind.NEXT
        if kind is ChunkKind.GROUP:
            self._began_ns = frame.at_ns
            self._shared = Shared()
            self._packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        else:
            before = self._before
        self._shared.clock.move(new.monotonic_s)
        try:
            if before is None:
                value = self._codec.whole(new, self._shared)
            else:
                value = self._codec.changes(new, before, self._shared)
        except BaseException:
            self.begin()
            raise
        self._before = new
        data = self._packer.compress(_NOW.pack(new.monotonic_s) + value) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        return Chunk(kind, Compression.DEFLATE, frame.at_ns, frame.at_ns, data.removesuffix(_TAIL))


class GroupReader:
    """Read the chunks of groups in their order. After a damaged one the rest of its group cannot be read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._unpacker: zlib._Decompress | None = None

    def lose(self) -> None:
        """Something is missing: pass over all until the next group."""
        self._unpacker = None

    def frame(self, chunk: Chunk) -> Frame | None:
        """Return the snapshot of a chunk; None if it cannot be known. Raises Damaged."""
        if chunk.kind == ChunkKind.GROUP:
            self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            self._shared = Shared()
        elif self._unpacker is None:
            return None
        try:
            return Frame(chunk.first_ns, self._read(chunk))
        except BaseException:
            self.lose()
            raise

    def _read(self, chunk: Chunk) -> Snapshot:
        cursor = Cursor(inflated(self._unpacker, chunk.payload + _TAIL))
        self._shared.clock.move(_now(cursor))
        if chunk.kind == ChunkKind.GROUP:
            self._before = self._reader.codec.read_whole(cursor, self._shared)
        elif cursor.left:
            self._before = self._reader.codec.read_changes(cursor, self._before, self._shared)
        if cursor.left:
            raise Damaged("there is more than a snapshot")
        snapshot: Snapshot = self._reader.convert(self._before)
        return snapshot


def _now(cursor: Cursor) -> float:
    now = float(_NOW.unpack(cursor.take(_NOW.size))[0])
    if not 0 <= now < 1e12:
        raise Damaged("a time is not one of the format")
    return now


def lean(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot without what the rules find in it again. The findings of a server's last picture are those of
    the time before.
    """
    return replace(snapshot, findings=()) if snapshot.alive and snapshot.findings else snapshot
