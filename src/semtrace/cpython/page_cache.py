"""Another process's memory in cached chunks, for a walk that follows thousands of pointers.

One walk reads each chunk once, so it sees every chunk as it was at one moment, but not all of them at the same one.
"""

from __future__ import annotations

import struct
from typing import Protocol

CHUNK = 16 * 1024
PAGE = 4096

_U64 = struct.Struct("<Q")
_U32 = struct.Struct("<I")
_LOWEST = 4096
_HIGHEST = 1 << 56

_WORDS = [struct.Struct(f"<{n}Q") for n in range(65)]


class Readable(Protocol):
    """The part of `linux.memory.Memory` that a walk needs: a recorded image can stand in for it."""

    def read(self, address: int, size: int) -> bytes | None: ...


class Pages:
    """Read through a cache that never forgets, up to `limit` chunks.

    What cannot be read is zeros in a chunk that can be read partly, else None: either way no pointer comes out of it.
    """

    __slots__ = ("_chunks", "_limit", "_memory", "reads")

    def __init__(self, memory: Readable, limit: int = 4096) -> None:
        self._memory = memory
        self._chunks: dict[int, bytes | None] = {}
        self._limit = limit
        self.reads = 0

    @property
    def full(self) -> bool:
        """Return True once the cache has taken all that it may: from then on only what is cached can be read."""
        return len(self._chunks) >= self._limit

    def u64(self, address: int) -> int:
        """The eight bytes at `address`, 0 if they cannot be read."""
        offset = address & (CHUNK - 1)
        if offset > CHUNK - 8:
            data = self.read(address, 8)
            return 0 if data is None else int(_U64.unpack(data)[0])
        start = address - offset
        try:
            chunk = self._chunks[start]
        except KeyError:
            chunk = self._load(start)
        return 0 if chunk is None else int(_U64.unpack_from(chunk, offset)[0])

    def u32(self, address: int) -> int:
        data = self.read(address, 4)
        return 0 if data is None else int(_U32.unpack(data)[0])

    def u8(self, address: int) -> int:
        data = self.read(address, 1)
        return 0 if data is None else data[0]

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """`count` words from `address`, none at all if any cannot be read."""
        data = self.read(address, 8 * count)
        if data is None:
            return ()
        return _WORDS[count].unpack(data) if count < len(_WORDS) else struct.unpack(f"<{count}Q", data)

    def read(self, address: int, size: int) -> bytes | None:
        offset = address & (CHUNK - 1)
        start = address - offset
        if offset + size <= CHUNK:
            chunk = self._chunks[start] if start in self._chunks else self._load(start)
            return None if chunk is None else chunk[offset : offset + size]
        if size < 0 or size > CHUNK * 256:
            return None
        pieces: list[bytes] = []
        while size > 0:
            taken = min(size, CHUNK - offset)
            piece = self.read(start + offset, taken)
            if piece is None:
                return None
            pieces.append(piece)
            size -= taken
            start, offset = start + CHUNK, 0
        return b"".join(pieces)

    def cstring(self, address: int, limit: int = 256) -> str | None:
        """Return the text before the first NUL, None without a NUL within `limit`."""
        taken = b""
        while len(taken) < limit:
            position = address + len(taken)
            piece = self.read(position, min(limit - len(taken), CHUNK - position % CHUNK))
            if piece is None:
                return None
            end = piece.find(b"\0")
            if end >= 0:
                return (taken + piece[:end]).decode("utf-8", "replace")
            taken += piece
        return None

    def _load(self, start: int) -> bytes | None:
        if not _LOWEST <= start + CHUNK <= _HIGHEST or start < 0 or self.full:
            return None
        self.reads += 1
        data = self._memory.read(start, CHUNK) if start else None
        if data is None or len(data) != CHUNK:
            data = self._by_page(start)
        self._chunks[start] = data
        return data

    def _by_page(self, start: int) -> bytes | None:
        """A chunk that is not mapped as a whole, its holes as zeros; None if all of it is a hole."""
        found = False
        pieces: list[bytes] = []
        for address in range(start, start + CHUNK, PAGE):
            self.reads += 1
            piece = self._memory.read(address, PAGE) if address else None
            whole = piece is not None and len(piece) == PAGE
            found |= whole
            pieces.append(piece if piece is not None and whole else bytes(PAGE))
        return b"".join(pieces) if found else None
