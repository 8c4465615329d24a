"""Recognise the C type behind multiprocessing's locks by the layout of its instances, whatever it is called.

Modules/_multiprocessing/semaphore.c has the struct and its PyMemberDef table; copies of it (such as
`_billiard`) and subclasses, whose instances may be larger, begin with the same fields. 64-bit builds with the GIL.
"""

from __future__ import annotations

import struct

from semtrace.cpython import layout as at
from semtrace.cpython.page_cache import Readable

# semaphore.c struct SemLockObject, 3.8 to 3.15: PyObject_HEAD; SEM_HANDLE handle; unsigned long last_tid; int count;
# int maxvalue; int kind; char *name. Its semlock_members table has these four.
BASICSIZE = 56
_MEMBERS = {b"handle": 16, b"maxvalue": 36, b"kind": 40, b"name": 48}

# Include/descrobject.h (before 3.12: Include/structmember.h) PyMemberDef {name, int type, offset, int flags, doc}.
_MEMBER = struct.Struct("<QixxxxQ")
_MOST_MEMBERS, _LONGEST_NAME = 8, 16

_MOST_BASES = 16
_WORD = struct.Struct("<Q")


def is_semlock_type(memory: Readable, address: int) -> bool:
    """Return True for a type object whose instances begin with the fields of SemLock: that type or a subclass."""
    return basic_type(memory, address) != 0


def basic_type(memory: Readable, address: int) -> int:
    """Return the type with SemLock's own members that this one is or is derived from, 0 if it does not exist."""
    for _ in range(_MOST_BASES):
        basicsize = _word(memory, address + 8 * at.TP_BASICSIZE) if address and not address % 8 else 0
        if not BASICSIZE <= basicsize < 1 << 20:
            return 0
        if basicsize == BASICSIZE and _has_members(memory, _word(memory, address + 8 * at.TP_MEMBERS)):
            return address
        base = _word(memory, address + 8 * at.TP_BASE)
        if base == address:
            return 0
        address = base
    return 0


def _has_members(memory: Readable, table: int) -> bool:
    found: dict[bytes, int] = {}
    for position in range(table, table + at.MEMBER_SIZE * _MOST_MEMBERS, at.MEMBER_SIZE) if table else ():
        raw = memory.read(position, _MEMBER.size)
        name, _, offset = _MEMBER.unpack(raw) if raw and len(raw) == _MEMBER.size else (0, 0, 0)
        if not name:
            break
        found[_text(memory, name)] = offset
    return found == _MEMBERS


def _text(memory: Readable, address: int) -> bytes:
    """Read a C string of at most 15 bytes; empty if it cannot be read or does not end there."""
    raw = memory.read(address, _LONGEST_NAME) or memory.read(address, min(_LONGEST_NAME, 4096 - address % 4096)) or b""
    text, end, _ = raw.partition(b"\0")
    return text if end else b""


def _word(memory: Readable, address: int) -> int:
    raw = memory.read(address, _WORD.size)
    return int(_WORD.unpack(raw)[0]) if raw and len(raw) == _WORD.size else 0
