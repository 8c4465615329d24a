"""Python values out of another process's memory: text, numbers, containers.

The target runs on meanwhile, so anything may be torn or freed: what does not look right is None or empty, never an
exception, and every length is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from semtrace.cpython import layout as at
from semtrace.cpython.layout import Layout
from semtrace.cpython.page_cache import Pages

_KEY_VALUE = struct.Struct("<QQ")
_HASH_KEY_VALUE = struct.Struct("<QQQ")
_CODECS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}
_LONGEST_TEXT = 1024
_MOST_SHARED = (
    64  # Objects/dictobject.c SHARED_KEYS_MAX_SIZE is 30 from 3.11; before, instances have few attributes too
)


class Objects:
    """Decode by one layout, through one cache of pages."""

    __slots__ = ("_flags", "_texts", "layout", "pages")

    def __init__(self, pages: Pages, layout: Layout) -> None:
        self.pages = pages
        self.layout = layout
        self._flags: dict[int, int] = {}
        self._texts: dict[int, str | None] = {}

    def type_of(self, address: int) -> int:
        """The address of its type object, 0 if it cannot be an object."""
        return 0 if address & 7 or not address else self.pages.u64(address + at.OB_TYPE)

    def type_flags(self, kind: int) -> int:
        """Return Py_TPFLAGS of the type object at `kind`, 0 if it is not a type."""
        flags = self._flags.get(kind)
        if flags is None:
            flags = self._flags[kind] = self._read_flags(kind)
        return flags

    def reference(self, address: int) -> int:
        """Return the object that a frame's variable or stack refers to at `address`, 0 for none.

        Include/internal/pycore_stackref.h: from 3.14 on with two tag bits, 1 for NULL; 3 marks a number.
        """
        return self.untagged(self.pages.u64(address))

    def untagged(self, word: int) -> int:
        if not self.layout.tagged_references:
            return word
        return 0 if word & 3 == 3 else word & ~3

    def is_dict(self, address: int) -> bool:
        return bool(self.type_flags(self.type_of(address)) & at.DICT)

    def is_type(self, address: int) -> bool:
        return bool(self.type_flags(self.type_of(address)) & at.TYPE)

    def text(self, address: int) -> str | None:
        """The str at `address`, cut at 1024 characters, or None."""
        if address not in self._texts:
            self._texts[address] = self._read_text(address)
        return self._texts[address]

    def integer(self, address: int) -> int | None:
        """Return the int at `address`, None if it is not an int or is beyond 120 bits."""
        if not self.type_flags(self.type_of(address)) & at.LONG:
            return None
        size = self.pages.u64(address + at.OB_SIZE)
        if self.layout.tagged_long:  # longintrepr.h 3.12: count << 3 | sign, 0 positive, 1 zero, 2 negative
            count, negative = size >> 3, size & 3 == 2
        else:
            negative = size >> 63 == 1
            count = (1 << 64) - size if negative else size
        if count > 4:
            return None
        data = self.pages.read(address + at.LONG_DIGITS, 4 * count)
        if data is None:
            return None
        value: int = sum(digit << 30 * i for i, (digit,) in enumerate(struct.iter_unpack("<I", data)))
        return -value if negative else value

    def tuple_of(self, address: int, limit: int) -> tuple[int, ...]:
        """The items of what should be a tuple; none if it is something else."""
        return self.tuple_items(address, limit) if self.type_flags(self.type_of(address)) & at.TUPLE else ()

    def tuple_items(self, address: int, limit: int) -> tuple[int, ...]:
        return self._row(address + self.layout.tuple_items, self.pages.u64(address + at.OB_SIZE), limit)

    def list_items(self, address: int, limit: int) -> tuple[int, ...]:
        return self._row(self.pages.u64(address + at.LIST_ITEMS), self.pages.u64(address + at.OB_SIZE), limit)

    def set_items(self, address: int, limit: int) -> list[int]:
        mask, table = self.pages.words(address + at.SET_MASK, 2) or (0, 0)
        if not table or mask >= 1 << 32:
            return []
        data = self.pages.read(table, 16 * min(mask + 1, limit)) or b""
        return [key for key, _ in _KEY_VALUE.iter_unpack(data) if key and not key & 7]

    def deque_items(self, address: int, limit: int) -> list[int]:
        size = min(self.pages.u64(address + at.OB_SIZE), limit)
        block = self.pages.u64(address + at.DEQUE_LEFT)
        index = self.pages.u64(address + at.DEQUE_INDEX)
        found: list[int] = []
        while len(found) < size and index < at.DEQUE_BLOCK:
            row = self.pages.words(block, at.DEQUE_BLOCK + 2)
            if not row:
                break
            found += row[1 + index : 1 + at.DEQUE_BLOCK][: size - len(found)]
            block, index = row[-1], 0
        return found

    def dict_items(self, address: int, limit: int) -> list[tuple[int, int]]:
        """The addresses of keys and values, at most `limit` of them."""
        keys, values = self.pages.words(address + at.DICT_KEYS, 2) or (0, 0)
        if values:
            return self.shared_items(keys, values + self.layout.values)
        return [(key, value) for key, value in self._entries(keys, limit) if key and value]

    def shared_items(self, keys: int, values: int) -> list[tuple[int, int]]:
        """The items of a dict, or of an instance without one, that shares its keys with the others of its class."""
        names = [key for key, _ in self._entries(keys, _MOST_SHARED)]
        row = self.pages.words(values, len(names))
        return [(key, value) for key, value in zip(names, row, strict=False) if key and value]

    def dict_slot(self, address: int, wanted: str) -> int:
        """Return the address of the pointer to a key's value, 0 without the key."""
        keys, values = self.pages.words(address + at.DICT_KEYS, 2) or (0, 0)
        if values:
            return self.shared_slot(keys, values + self.layout.values, wanted)
        hashed, _, start = self._keys(keys)
        position = self._position(keys, wanted)
        return start + position * (24 if hashed else 16) + (16 if hashed else 8) if position >= 0 else 0

    def shared_slot(self, keys: int, values: int, wanted: str) -> int:
        position = self._position(keys, wanted)
        return values + 8 * position if position >= 0 else 0

    def _position(self, keys: int, wanted: str) -> int:
        for position, (key, _) in enumerate(self._entries(keys, _MOST_SHARED)):
            if key and self.text(key) == wanted:
                return position
        return -1

    def _entries(self, keys: int, limit: int) -> Iterator[tuple[int, int]]:
        """Yield the entries of a PyDictKeysObject: the addresses of key and value, 0 for an empty entry."""
        hashed, count, start = self._keys(keys)
        data = self.pages.read(start, (24 if hashed else 16) * min(count, limit)) if start else None
        if not hashed:
            return _KEY_VALUE.iter_unpack(data or b"")
        return ((key, value) for _, key, value in _HASH_KEY_VALUE.iter_unpack(data or b""))

    def _keys(self, keys: int) -> tuple[bool, int, int]:
        """Return whether entries have hashes, how many there are, and where they begin."""
        if not keys or keys & 7:
            return False, 0, 0
        return self._log2_keys(keys) if self.layout.log2_keys else self._plain_keys(keys)

    def _plain_keys(self, keys: int) -> tuple[bool, int, int]:
        """Objects/dict-common.h 3.8-3.10: refcnt, size, lookup, usable, nentries, then the indices."""
        row = self.pages.words(keys, 5)
        if not row or not 0 < row[1] <= 1 << 32 or row[4] > row[1]:
            return True, 0, 0
        size = row[1]
        width = 1 if size <= 0xFF else 2 if size <= 0xFFFF else 4 if size <= 0xFFFFFFFF else 8  # dictobject.c DK_IXSIZE
        return True, row[4], keys + 40 + size * width

    def _log2_keys(self, keys: int) -> tuple[bool, int, int]:
        """Include/internal/pycore_dict.h 3.11: log2_size at 8, log2_index_bytes at 9, kind at 10 (0: with hashes)."""
        row = self.pages.words(keys, 4)
        if not row:
            return True, 0, 0
        log2_size, log2_bytes, kind = row[1] & 0xFF, row[1] >> 8 & 0xFF, row[1] >> 16 & 0xFF
        if log2_size > 32 or log2_bytes > 36 or kind > 2 or row[3] > 1 << log2_size:
            return True, 0, 0
        return kind == 0, row[3], keys + 32 + (1 << log2_bytes)

    def _row(self, start: int, size: int, limit: int) -> tuple[int, ...]:
        return self.pages.words(start, min(size, limit)) if start and size < 1 << 40 else ()

    def _read_flags(self, kind: int) -> int:
        if not kind or kind & 7:
            return 0
        meta = self.pages.u64(kind + at.OB_TYPE)
        if not meta or meta & 7 or not self.pages.u64(meta + 8 * at.TP_FLAGS) & at.TYPE:
            return 0
        above = self.pages.u64(meta + at.OB_TYPE)
        if above & 7 or not self.pages.u64(above + 8 * at.TP_FLAGS) & at.TYPE:
            return 0
        return self.pages.u64(kind + 8 * at.TP_FLAGS)

    def _read_text(self, address: int) -> str | None:
        if not self.type_flags(self.type_of(address)) & at.UNICODE:
            return None
        state = self.pages.u32(address + at.UNICODE_STATE) >> self.layout.kind_bit
        width, compact, ascii_only = state & 7, state >> 3 & 1, state >> 4 & 1
        codec = _CODECS.get(width)
        if codec is None:
            return None
        if not compact:
            start = self.pages.u64(address + self.layout.compact_data)
        else:
            start = address + (self.layout.ascii_data if ascii_only else self.layout.compact_data)
        length = min(self.pages.u64(address + at.UNICODE_LENGTH), _LONGEST_TEXT)
        data = self.pages.read(start, length * width) if start else None
        try:
            return None if data is None else data.decode(codec, "surrogatepass" if width > 1 else "strict")
        except UnicodeDecodeError:  # no code points: torn, or no string any more
            return None
