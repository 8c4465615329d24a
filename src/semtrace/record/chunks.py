"""Chunks: what a recording consists of. Each has a header that says how long it is, of when, and what it must sum up
to. Pure.

The file only grows, and has no end of its own: whatever was written whole can be read.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from semtrace.record.numbers import Damaged

SYNC = b"\xf5SM"
# sync, kind and compression, length of the payload, CRC-32, first time in ns, microseconds to the last
HEADER = struct.Struct("<3sBIIQI")
LONGEST_PAYLOAD = 1 << 24
LONGEST_PLAIN = 1 << 23
LONGEST_SPAN_NS = 0xFFFFFFFF * 1000
_CRC_AT = 8
_COMPRESSION = 0xF0


class ChunkKind(IntEnum):
    """The content of a chunk. A reader skips kinds that it does not know."""

    HEAD = 1  # the machine, the server and the types: JSON
    GROUP = 2  # a whole snapshot, which begins a group
    NEXT = 3  # what has changed in the next snapshot of the group
    EVENTS = 4  # records of traced locks as they came, in the order of their bytes
    LEGEND = 5  # what the numbers in those records mean: JSON


class Compression(IntEnum):
    NONE = 0x00
    DEFLATE = 0x10
    ZSTD = 0x20


class Chunk(NamedTuple):
    """One chunk; times are CLOCK_MONOTONIC in ns. `payload` is as it lies in the file."""

    kind: int
    compression: int
    first_ns: int
    last_ns: int
    payload: bytes

    @property
    def size(self) -> int:
        """Return how many bytes of the file it takes."""
        return HEADER.size + len(self.payload)


def encode(chunk: Chunk) -> bytes:
    span_us = min(max(chunk.last_ns - chunk.first_ns, 0), LONGEST_SPAN_NS) // 1000
    head = bytearray(
        HEADER.pack(SYNC, chunk.kind | chunk.compression, len(chunk.payload), 0, max(chunk.first_ns, 0), span_us)
    )
    struct.pack_into("<I", head, _CRC_AT, _crc(bytes(head), chunk.payload))
    return bytes(head) + chunk.payload


def length_of(head: bytes) -> int | None:
    """Return how long the payload behind this header is; None if it is not a header."""
    if len(head) < HEADER.size:
        return None
    sync, _, length, *_ = HEADER.unpack_from(head)
    return length if sync == SYNC and length <= LONGEST_PAYLOAD else None


def decode(data: bytes) -> Chunk | None:
    """Return the chunk that these bytes are; None if they are cut, or not what was written."""
    length = length_of(data)
    if length is None or len(data) != HEADER.size + length:
        return None
    _, kind, _, crc, first_ns, span_us = HEADER.unpack_from(data)
    head = bytearray(data[: HEADER.size])
    head[_CRC_AT : _CRC_AT + 4] = bytes(4)
    payload = data[HEADER.size :]
    if _crc(bytes(head), payload) != crc:
        return None
    return Chunk(kind & ~_COMPRESSION, kind & _COMPRESSION, first_ns, first_ns + span_us * 1000, payload)


def _crc(head: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(head))


Read = Callable[[int, int], bytes]


def chunk_at(read: Read, at: int) -> Chunk | None:
    """Return the chunk that begins there, by `read(offset, size)`."""
    head = read(at, HEADER.size)
    length = length_of(head)
    return None if length is None else decode(read(at, HEADER.size + length))


def walk(read: Read, at: int, end: int, kind: int | None = None) -> Iterator[tuple[int, Chunk]]:
    """Yield the whole chunks from `at` to `end` with their places. Behind one that is damaged it goes on with the next
    that is whole.

    With a `kind` the first one looked for is of that kind: what lies before it is passed over unread.
    """
    sync, lost = SYNC, False
    if kind is not None:
        sync, lost = SYNC, True
    while at < end:
        found = None if lost and not _begins(read, at, kind) else chunk_at(read, at)
        if found is not None and (kind is None or found.kind == kind):
            yield at, found
            at, lost, kind = at + found.size, False, None
            continue
        at, lost = _next(read, at + 1, end, sync), True


def _begins(read: Read, at: int, kind: int | None) -> bool:
    head = read(at, 4)
    return head[:3] == SYNC and (kind is None or (len(head) > 3 and head[3] & ~_COMPRESSION == kind))


_PIECE = 1 << 16


def _next(read: Read, at: int, end: int, sync: bytes) -> int:
    """Return where the next chunk may begin, `end` if nowhere."""
    while at < end:
        piece = read(at, _PIECE)
        place = piece.find(sync)
        if place >= 0:
            return at + place
        if len(piece) < _PIECE:
            return end
        at += len(piece) - len(sync) + 1
    return end


# -- compression


def deflated(data: bytes, level: int = 6) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def zstd() -> Any | None:
    """Return the module for zstd that this Python has: 3.14 its own, others where it is installed."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def plain(chunk: Chunk, most: int = LONGEST_PLAIN) -> bytes:
    """Return the payload of a chunk that was compressed alone. Raises Damaged; NoZstd where that is needed."""
    if chunk.compression == Compression.NONE:
        return chunk.payload
    if chunk.compression == Compression.DEFLATE:
        return inflated(zlib.decompressobj(-zlib.MAX_WBITS), chunk.payload, most)
    if chunk.compression == Compression.ZSTD:
        return _from_zstd(chunk.payload, most)
    raise Damaged("it is compressed in an unknown way")


def inflated(unpacker: Any, payload: bytes, most: int = LONGEST_PLAIN) -> bytes:
    """Return what the next piece of a deflate stream holds, of no more bytes than that. Raises Damaged."""
    try:
        data: bytes = unpacker.decompress(payload, most)
    except zlib.error as error:
        raise Damaged("it cannot be decompressed") from error
    if unpacker.unconsumed_tail or unpacker.unused_data:
        raise Damaged("it is longer than the format allows")
    return data


class NoZstd(ValueError):
    """This Python cannot read what is compressed with zstd."""


def _from_zstd(payload: bytes, most: int) -> bytes:
    module = zstd()
    if module is None:
        raise NoZstd
    unpacker = module.ZstdDecompressor()
    try:
        data: bytes = unpacker.decompress(payload, most)
    except module.ZstdError as error:
        raise Damaged("it cannot be decompressed") from error
    if not unpacker.eof:
        raise Damaged("it is longer than the format allows")
    return data
