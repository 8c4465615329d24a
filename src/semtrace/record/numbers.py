"""The smallest pieces of a recording: integers and floating-point numbers as bytes, and a bounded reader. Pure."""

from __future__ import annotations

import math
import struct

# Numbers of more bits are of nothing that a kernel or a Python object has.
_MOST_BYTES = 19
MOST_DEPTH = 32
_LEAST_VALUES, _VALUES_A_BYTE = 1000, 8

_DOUBLE = struct.Struct(">d")
_ONE = tuple(bytes((number,)) for number in range(256))

# Which number the bits of a float were compared with: the low four bits of its first byte are how many bytes follow.
_NOTHING, _BEFORE, _AGED, _WHOLE_NUMBER = 0x00, 0x10, 0x20, 0x30


class Damaged(ValueError):
    """The bytes are not what the format allows."""


class Unrecordable(ValueError):
    """A value that the format has no bytes for."""


def unsigned(number: int) -> bytes:
    """Return a number from 0 on as LEB128: seven bits a byte, the lowest first, bit 7 set on all but the last."""
    if number < 128:
        return _ONE[number]
    found = bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    if len(found) > _MOST_BYTES:
        raise Unrecordable("a number is too large")
    return bytes(found)


def signed(number: int) -> bytes:
    """Return 0, -1, 1, -2 … as 0, 1, 2, 3 …"""
    return unsigned(number << 1 if number >= 0 else (-number << 1) - 1)


class Clock:
    """CLOCK_MONOTONIC of the snapshot that is being written or read, and of the one before."""

    def __init__(self) -> None:
        self.now = 0.0
        self.before = 0.0

    def move(self, now: float) -> None:
        self.before, self.now = self.now, now

    def aged(self, number: float) -> float:
        """Return what an age, or a time, has become since the snapshot before."""
        return self.now - (self.before - number)


def floating(number: float, old: float | None, clock: Clock) -> bytes:
    """Return a float by what differs from what it was expected to be: nothing if an age has grown with the clock."""
    if isinstance(number, int):
        return _ONE[_WHOLE_NUMBER] + signed(number)
    if not math.isfinite(number):
        raise Unrecordable("a number is not finite")
    bits = _bits(number)
    best, kind = _rest(bits), _NOTHING
    if old is not None:
        for expected, name in ((float(old), _BEFORE), (clock.aged(old), _AGED)):
            rest = _rest(bits ^ _bits(expected))
            if len(rest) < len(best):
                best, kind = rest, name
    return _ONE[kind | len(best)] + best


def _bits(number: float) -> int:
    return int.from_bytes(_DOUBLE.pack(number), "big")


def _rest(bits: int) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "big")


class Cursor:
    """Read from bytes that may be anything. Raises Damaged at whatever the format does not allow."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0
        self.depth = 0
        self._budget = _LEAST_VALUES + _VALUES_A_BYTE * len(data)

    @property
    def left(self) -> int:
        return len(self._data) - self.at

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self._data):
            raise Damaged("it ends in the middle of a value")
        found = self._data[self.at : end]
        self.at = end
        return found

    def byte(self) -> int:
        if self.at >= len(self._data):
            raise Damaged("it ends in the middle of a value")
        self.at += 1
        return self._data[self.at - 1]

    def unsigned(self, most: int) -> int:
        """Return a number of no more than `most`."""
        number = self._unsigned()
        if number > most:
            raise Damaged("a number is larger than the format allows")
        return number

    def signed(self) -> int:
        number = self._unsigned()
        return number >> 1 if not number & 1 else -(number + 1 >> 1)

    def floating(self, old: float | None, clock: Clock) -> float:
        first = self.byte()
        kind, size = first & 0xF0, first & 0x0F
        if kind == _WHOLE_NUMBER and not size:
            return self.signed()
        if size > 8 or kind > _AGED or (kind and old is None):
            raise Damaged("a number is not one of the format")
        expected = 0.0
        if old is not None and kind:
            expected = float(old) if kind == _BEFORE else clock.aged(old)
        bits = int.from_bytes(self.take(size), "big") ^ _bits(expected)
        number = float(_DOUBLE.unpack(bits.to_bytes(8, "big"))[0])
        if not math.isfinite(number):
            raise Damaged("a number is not finite")
        return number

    def deeper(self) -> None:
        """Enter one more class or tuple. Classes without fields take no bytes: so they are counted, too."""
        self.depth += 1
        self._budget -= 1
        if self.depth > MOST_DEPTH or self._budget < 0:
            raise Damaged("values are nested too deeply")

    def _unsigned(self) -> int:
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
            if shift >= 7 * _MOST_BYTES:
                raise Damaged("a number is too large")
