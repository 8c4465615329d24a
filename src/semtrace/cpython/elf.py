"""Symbols of the libraries and the executable of a running process, from their images in its memory.

The dynamic symbols lie in loaded segments, so nothing is opened: containers, deleted files and upgraded ones make no
difference. Symbols that are not exported are not found. Everything read is taken as hostile: counts are bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from semtrace.cpython.page_cache import CHUNK, Pages

# System V ABI, gABI 4.1 chapters 4 and 5 (elf.h of glibc 2.36): ELFCLASS64, ELFDATA2LSB.
_IDENT = b"\x7fELF\x02\x01"
_EHEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PHEADER = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_PT_LOAD, _PT_DYNAMIC = 1, 2
_ET_EXEC, _ET_DYN = 2, 3
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_GNU_HASH = 4, 5, 6, 10, 0x6FFFFEF5

_MOST_HEADERS = 64
_MOST_DYNAMIC = 256
_MOST_CHAIN = 4096
_MOST_SYMBOLS = 1 << 20
_MOST_IMPORTED = 1 << 17
_MOST_STRINGS = 32 << 20
_OVERLAP = 64


class Image:
    """One ELF file as it is loaded."""

    __slots__ = ("_pages", "_tags", "bias")

    def __init__(self, pages: Pages, bias: int, tags: dict[int, int]) -> None:
        self._pages = pages
        self.bias = bias
        self._tags = tags

    def find(self, name: str) -> int | None:
        """The address of an exported symbol, or None."""
        symbols, strings = self._at(_DT_SYMTAB), self._at(_DT_STRTAB)
        if not symbols or not strings:
            return None
        wanted = name.encode()
        for index in self._candidates(wanted):
            entry = self._pages.read(symbols + index * _SYMBOL.size, _SYMBOL.size)
            if entry is None:
                return None
            offset, _, _, section, value, _ = _SYMBOL.unpack(entry)
            if not section or not value or offset + len(wanted) >= max(self._tags.get(_DT_STRSZ, 0), 1):
                continue
            if self._pages.read(strings + offset, len(wanted) + 1) == wanted + b"\0":
                return int(self.bias + value)
        return None

    def imports(self, names: Sequence[str]) -> bool:
        """Return True if one of these is an undefined symbol: the image uses it from another one."""
        symbols, strings = self._at(_DT_SYMTAB), self._at(_DT_STRTAB)
        offsets = self._offsets(strings, [name.encode() + b"\0" for name in names])
        if not symbols or not offsets:
            return False
        # No table says how many symbols there are. Linkers put the strings behind them; where one does not, all that
        # are not exported come before the first that the hash table knows.
        unhashed = self._pages.u32(self._at(_DT_GNU_HASH) + 4)
        count = (strings - symbols) // _SYMBOL.size if strings > symbols else unhashed
        data = self._pages.read(symbols, min(count, _MOST_IMPORTED) * _SYMBOL.size) or b""
        return any(
            not section and offset in offsets for offset, _, _, section, _, _ in _SYMBOL.iter_unpack(data) if offset
        )

    def _offsets(self, strings: int, wanted: Sequence[bytes]) -> set[int]:
        """Find these in the table of strings, also as the end of a longer one: linkers share those."""
        found: set[int] = set()
        size = min(self._tags.get(_DT_STRSZ, 0), _MOST_STRINGS) if strings else 0
        for start in range(0, size, CHUNK):
            piece = self._pages.read(strings + start, min(CHUNK + _OVERLAP, size - start)) or b""
            for text in wanted:
                at = piece.find(text)
                while at >= 0:
                    found.add(start + at)
                    at = piece.find(text, at + 1)
        return found

    def _at(self, tag: int) -> int:
        """glibc adds the bias to these entries in place, musl leaves them: one below the image is not yet biased."""
        value = self._tags.get(tag, 0)
        return value + self.bias if 0 < value < self.bias else value

    def _candidates(self, name: bytes) -> Sequence[int]:
        if table := self._at(_DT_GNU_HASH):
            return self._by_gnu_hash(table, name)
        if table := self._at(_DT_HASH):
            return self._by_hash(table, name)
        return ()

    def _by_gnu_hash(self, table: int, name: bytes) -> list[int]:
        """glibc elf/dl-lookup.c do_lookup_x: header, bloom filter, buckets, one hash a symbol, odd at a chain's end."""
        wanted = _gnu_hash(name)
        header = self._pages.read(table, 16)
        if header is None:
            return []
        buckets, first, bloom, _ = struct.unpack("<4I", header)
        if not buckets or buckets > _MOST_SYMBOLS or bloom > _MOST_SYMBOLS:
            return []
        start = table + 16 + 8 * bloom
        index = self._pages.u32(start + 4 * (wanted % buckets))
        found: list[int] = []
        for step in range(_MOST_CHAIN if index >= first else 0):
            value = self._pages.u32(start + 4 * buckets + 4 * (index + step - first))
            if value | 1 == wanted | 1:
                found.append(index + step)
            if value & 1:
                break
        return found

    def _by_hash(self, table: int, name: bytes) -> list[int]:
        """gABI chapter 5, "Hash Table": nbucket, nchain, buckets, chains."""
        buckets, chains = self._pages.u32(table), self._pages.u32(table + 4)
        if not buckets or buckets > _MOST_SYMBOLS:
            return []
        index = self._pages.u32(table + 8 + 4 * (_sysv_hash(name) % buckets))
        found: list[int] = []
        while index and index < chains and len(found) < _MOST_CHAIN:
            found.append(index)
            index = self._pages.u32(table + 8 + 4 * buckets + 4 * index)
        return found


def load_image(pages: Pages, base: int) -> Image | None:
    """Return the ELF image whose header lies at `base`, None if it is not a 64-bit little-endian one."""
    header = pages.read(base, _EHEADER.size)
    if header is None or not header.startswith(_IDENT):
        return None
    _, kind, _, _, _, table, _, _, _, size, count, _, _, _ = _EHEADER.unpack(header)
    if kind not in (_ET_EXEC, _ET_DYN) or size != _PHEADER.size or table > 1 << 20:
        return None
    data = pages.read(base + table, size * min(count, _MOST_HEADERS))
    if data is None:
        return None
    segments = [_PHEADER.unpack_from(data, at) for at in range(0, len(data), size)]
    loads = [s[3] for s in segments if s[0] == _PT_LOAD]  # p_vaddr
    dynamic = [s[3] for s in segments if s[0] == _PT_DYNAMIC]
    if not loads or not dynamic:
        return None
    bias = 0 if kind == _ET_EXEC else base - (min(loads) & ~0xFFF)
    if bias < 0:
        return None
    return Image(pages, bias, _dynamic(pages, bias + dynamic[0]))


def _dynamic(pages: Pages, address: int) -> dict[int, int]:
    tags: dict[int, int] = {}
    for at in range(address, address + 16 * _MOST_DYNAMIC, 16):
        pair = pages.words(at, 2)
        if not pair or not pair[0]:
            break
        tags.setdefault(*pair)
    return tags


def _gnu_hash(name: bytes) -> int:
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


def _sysv_hash(name: bytes) -> int:
    value = 0
    for byte in name:
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value
