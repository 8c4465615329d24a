"""The line of source that an instruction belongs to, from the tables that CPython's compiler writes.

Pure: from bytes to a number. The tables come from another process and may be torn. A damaged one gives a wrong line or
None, never an exception. It is read at most once from its start to its end.
"""

from __future__ import annotations

from collections.abc import Iterator

_NO_LINE = -128  # Objects/lnotab_notes.txt 3.10: this line delta says that the range has no line
# Objects/locations.md 3.11: the kinds of entries of a location table
_ONE_LINE, _NO_COLUMNS, _LONG, _NONE = range(10, 13), 13, 14, 15
_HIGHEST_LINE = 1 << 31


def line_at(version: tuple[int, int], table: bytes, first: int, instruction: int) -> int | None:
    """Return the line of the instruction that begins `instruction` bytes into the code, None if it has none.

    `first` is co_firstlineno, `table` co_lnotab (3.8, 3.9) or co_linetable (from 3.10 on). Before the first instruction
    (-1, or less) it is the function's own line.
    """
    if instruction < 0:
        return first
    if version < (3, 10):
        line: int | None = _by_lnotab(table, first, instruction)
    else:
        ranges = _linetable(table, first) if version < (3, 11) else _locations(table, first)
        line = next((line for end, line in ranges if instruction < end), None)
    return line if line is not None and 0 < line < _HIGHEST_LINE else None


def _by_lnotab(table: bytes, first: int, instruction: int) -> int:
    """Objects/codeobject.c 3.8, 3.9 PyCode_Addr2Line: pairs of bytes to skip and lines to add (signed)."""
    line, position = first, 0
    for skipped, delta in zip(table[::2], table[1::2], strict=False):
        position += skipped
        if position > instruction:
            break
        line += _signed(delta)
    return line


def _linetable(table: bytes, first: int) -> Iterator[tuple[int, int | None]]:
    """Objects/lnotab_notes.txt 3.10: pairs of a range's length in bytes and the lines to add before it (signed)."""
    line, end = first, 0
    for length, delta in zip(table[::2], table[1::2], strict=False):
        end += length
        if _signed(delta) == _NO_LINE:
            yield end, None
            continue
        line += _signed(delta)
        yield end, line


def _locations(table: bytes, first: int) -> Iterator[tuple[int, int | None]]:
    """Objects/locations.md 3.11: a first byte 1KKKKLLL, then what its kind K has. L is the length in instructions, less
    one; no byte after the first of an entry has the highest bit.
    """
    line, end, position = first, 0, 0
    while position < len(table):
        head = table[position]
        kind, position = head >> 3 & 15, position + 1
        end += 2 * ((head & 7) + 1)
        if kind in _ONE_LINE:
            line += kind - _ONE_LINE.start
        elif kind in (_NO_COLUMNS, _LONG):
            line += _signed_varint(table, position)
        yield end, None if kind == _NONE else line
        while position < len(table) and not table[position] & 128:
            position += 1


def _signed_varint(table: bytes, position: int) -> int:
    """Six bits a byte, the lowest first; 64 marks that more follow. The lowest bit of the number is its sign."""
    value = shift = 0
    for byte in table[position : position + 6]:
        value |= (byte & 63) << shift
        shift += 6
        if not byte & 64:
            break
    return -(value >> 1) if value & 1 else value >> 1


def _signed(byte: int) -> int:
    return byte - 256 if byte >= 128 else byte
