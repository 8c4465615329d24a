"""Distinguish words inside a living Python object from those that a freed one or a stack has left behind."""

from __future__ import annotations

import struct

from semtrace.cpython import layout as at
from semtrace.cpython.page_cache import Readable

_HEAD = struct.Struct("<QQ")
_WORD = struct.Struct("<Q")

# Modules/_ctypes/ctypes.h CDataObject: b_ptr is the third word and b_value, which holds a pointer or the address of a
# function, the tenth; cffi's CDataObject (c/_cffi_backend.c) has c_data as the fourth.
_MOST_WORDS = 16
_B_PTR, _B_SIZE, _B_VALUE = 16, 40, 72

# Include/cpython/unicodeobject.h: where the characters of a compact ASCII str begin, 3.12 and later and before.
_TEXT_AT = (40, 48)


def holder_of(memory: Readable, address: int) -> int:
    """Return the Python object that has the word at `address` among its C fields, 0 if no living object has it."""
    for start in range(address - 16, address - 8 * _MOST_WORDS, -8):
        kind = _living(memory, start)
        if kind and address - start < _word(memory, kind + 8 * at.TP_BASICSIZE) < 1 << 20:
            return start
    return 0


def is_ctypes(memory: Readable, address: int) -> bool:
    """Return True if the word at `address` is where a living ctypes object points, or the pointer that it holds."""
    for start in (address - _B_PTR, address - _B_VALUE):
        kind = _living(memory, start)
        if not kind or not _B_VALUE < _word(memory, kind + 8 * at.TP_BASICSIZE) < 1 << 12:
            continue
        pointed = _word(memory, start + _B_PTR)
        size = _word(memory, start + _B_SIZE)
        if 0 < size <= 1 << 16 and (address == start + _B_PTR or pointed == address):
            return True
    return False


def is_text(memory: Readable, address: int, length: int) -> bool:
    """Return True if the characters at `address` are those of a living ASCII str of this length."""
    for start in (address - offset for offset in _TEXT_AT):
        kind = _living(memory, start)
        is_str = kind and _word(memory, kind + 8 * at.TP_FLAGS) & at.UNICODE
        if is_str and _word(memory, start + at.UNICODE_LENGTH) == length:
            return True
    return False


def _living(memory: Readable, start: int) -> int:
    """Return the type of a living object, else 0: a freed one has the allocator's pointer in place of its count."""
    raw = memory.read(start, _HEAD.size) if start > 0 and not start % 8 else None
    count, kind = _HEAD.unpack(raw) if raw and len(raw) == _HEAD.size else (0, 0)
    # 3.14 keeps flags in the upper 16 bits of ob_refcnt (Include/refcount.h).
    if not count & 0xFFFFFFFF or count >> 32 & 0xFFFF or not kind or kind % 8:
        return 0
    above = _word(memory, kind + at.OB_TYPE)
    return kind if above and not above % 8 and _word(memory, above + 8 * at.TP_FLAGS) & at.TYPE else 0


def _word(memory: Readable, address: int) -> int:
    raw = memory.read(address, _WORD.size)
    return int(_WORD.unpack(raw)[0]) if raw and len(raw) == _WORD.size else 0
