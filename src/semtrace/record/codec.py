"""Typed values as bytes, whole or as what has changed since the snapshot before. Pure.

Each codec has four functions: `whole` and `changes` write, `read_whole` and `read_changes` read. No bytes at all mean
that nothing has changed. What is read is bounded by what is there: no length, depth or number is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import copysign
from operator import attrgetter
from typing import Any, Protocol

from semtrace.record.numbers import Clock, Cursor, Damaged, Unrecordable, floating, signed, unsigned

MOST_STRINGS = 65_536
MOST_ELEMENTS = 65_536
LONGEST_STRING = 1 << 22

# Seconds since the epoch that a calendar has: until the year 9000.
_LATEST = 221_845_392_000.0


class Shared:
    """State that the values of one group share: the clock, and the strings that were written before."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.numbers: dict[str, int] = {}
        self.strings: list[str] = []


class Codec(Protocol):
    def whole(self, new: Any, shared: Shared) -> bytes: ...
    def changes(self, new: Any, old: Any, shared: Shared) -> bytes: ...
    def read_whole(self, cursor: Cursor, shared: Shared) -> Any: ...
    def read_changes(self, cursor: Cursor, old: Any, shared: Shared) -> Any: ...


class Integer:
    def whole(self, new: int, shared: Shared) -> bytes:
        return signed(new)

    def changes(self, new: int, old: int, shared: Shared) -> bytes:
        return signed(new - old) if new != old else b""

    def read_whole(self, cursor: Cursor, shared: Shared) -> int:
        return cursor.signed()

    def read_changes(self, cursor: Cursor, old: int, shared: Shared) -> int:
        return old + cursor.signed()


class Floating:
    """Seconds, shares and the like. `time`: it is in seconds since the epoch."""

    def __init__(self, time: bool = False) -> None:
        self._time = time

    def whole(self, new: float, shared: Shared) -> bytes:
        return floating(new, None, shared.clock)

    def changes(self, new: float, old: float, shared: Shared) -> bytes:
        return b"" if _same(new, old) else floating(new, old, shared.clock)

    def read_whole(self, cursor: Cursor, shared: Shared) -> float:
        return self._checked(cursor.floating(None, shared.clock))

    def read_changes(self, cursor: Cursor, old: float, shared: Shared) -> float:
        return self._checked(cursor.floating(old, shared.clock))

    def _checked(self, number: float) -> float:
        if self._time and not 0 <= number <= _LATEST:
            raise Damaged("a time is in no calendar")
        return number


def _same(new: float, old: float) -> bool:
    """Return True if they are written alike, which 0.0 and -0.0 are not, nor 1 and 1.0."""
    return new == old and type(new) is type(old) and (new != 0 or copysign(1, new) == copysign(1, old))


class Truth:
    def whole(self, new: bool, shared: Shared) -> bytes:
        return b"\1" if new else b"\0"

    def changes(self, new: bool, old: bool, shared: Shared) -> bytes:
        return self.whole(new, shared) if new is not old else b""

    def read_whole(self, cursor: Cursor, shared: Shared) -> bool:
        return bool(cursor.unsigned(1))

    def read_changes(self, cursor: Cursor, old: bool, shared: Shared) -> bool:
        return self.read_whole(cursor, shared)


class Text:
    """A string: 0, its length and its bytes, or one more than the number of an earlier one of the group. Bytes are
    UTF-8, in which halves of surrogate pairs stand for what could not be decoded.
    """

    def whole(self, new: str, shared: Shared) -> bytes:
        number = shared.numbers.get(new)
        if number is not None:
            return unsigned(number + 1)
        if len(shared.numbers) < MOST_STRINGS:
            shared.numbers[new] = len(shared.numbers)
        data = new.encode("utf-8", "surrogatepass")
        if len(data) > LONGEST_STRING:
            raise Unrecordable("a text is too long")
        return b"\0" + unsigned(len(data)) + data

    def changes(self, new: str, old: str, shared: Shared) -> bytes:
        return self.whole(new, shared) if new != old else b""

    def read_whole(self, cursor: Cursor, shared: Shared) -> str:
        number = cursor.unsigned(len(shared.strings))
        if number:
            return shared.strings[number - 1]
        data = cursor.take(cursor.unsigned(LONGEST_STRING))
        try:
            text = data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise Damaged("a text is not UTF-8") from error
        if len(shared.strings) < MOST_STRINGS:
            shared.strings.append(text)
        return text

    def read_changes(self, cursor: Cursor, old: str, shared: Shared) -> str:
        return self.read_whole(cursor, shared)


class Choice:
    """One of a few values that the schema lists, by its number."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = tuple(values)
        self._numbers = {value: unsigned(number) for number, value in enumerate(self._values)}

    def whole(self, new: Any, shared: Shared) -> bytes:
        found = self._numbers.get(new)
        if found is None:
            raise Unrecordable(f"{new!r} is not among the values of its type")
        return found

    def changes(self, new: Any, old: Any, shared: Shared) -> bytes:
        return self.whole(new, shared) if new != old else b""

    def read_whole(self, cursor: Cursor, shared: Shared) -> Any:
        if not self._values:
            raise Damaged("a value has a type without values")
        return self._values[cursor.unsigned(len(self._values) - 1)]

    def read_changes(self, cursor: Cursor, old: Any, shared: Shared) -> Any:
        return self.read_whole(cursor, shared)


class Maybe:
    """A value or None: 0 for None, 1 and the whole value, or 2 and its changes."""

    def __init__(self, inner: Codec) -> None:
        self._inner = inner

    def whole(self, new: Any, shared: Shared) -> bytes:
        return b"\0" if new is None else b"\1" + self._inner.whole(new, shared)

    def changes(self, new: Any, old: Any, shared: Shared) -> bytes:
        if new is None or old is None:
            return b"" if new is old else self.whole(new, shared)
        changed = self._inner.changes(new, old, shared)
        return b"\2" + changed if changed else b""

    def read_whole(self, cursor: Cursor, shared: Shared) -> Any:
        return self._inner.read_whole(cursor, shared) if cursor.unsigned(1) else None

    def read_changes(self, cursor: Cursor, old: Any, shared: Shared) -> Any:
        how = cursor.unsigned(2 if old is not None else 1)
        if how == 2:
            return self._inner.read_changes(cursor, old, shared)
        return self._inner.read_whole(cursor, shared) if how else None


class Many:
    """A tuple of any length of one type: its length, then its new elements. A change also has how many of the former
    elements have changed, each with its distance from the one before.
    """

    def __init__(self, inner: Codec) -> None:
        self._inner = inner

    def whole(self, new: Sequence[Any], shared: Shared) -> bytes:
        if len(new) > MOST_ELEMENTS:
            raise Unrecordable("there are too many elements")
        inner = self._inner.whole
        return unsigned(len(new)) + b"".join([inner(each, shared) for each in new])

    def changes(self, new: Sequence[Any], old: Sequence[Any], shared: Shared) -> bytes:
        if new is old or not (new or old):
            return b""
        if len(new) > MOST_ELEMENTS:
            raise Unrecordable("there are too many elements")
        inner, found, last = self._inner.changes, [], 0
        for place, (mine, before) in enumerate(zip(new, old, strict=False)):
            if changed := inner(mine, before, shared):
                found += [unsigned(place - last), changed]
                last = place
        if not found and len(new) == len(old):
            return b""
        more = [self._inner.whole(each, shared) for each in new[len(old) :]]
        return b"".join([unsigned(len(new)), unsigned(len(found) // 2), *found, *more])

    def read_whole(self, cursor: Cursor, shared: Shared) -> tuple[Any, ...]:
        count = cursor.unsigned(min(MOST_ELEMENTS, cursor.left))
        return tuple([self._inner.read_whole(cursor, shared) for _ in range(count)])

    def read_changes(self, cursor: Cursor, old: Sequence[Any], shared: Shared) -> tuple[Any, ...]:
        count = cursor.unsigned(min(MOST_ELEMENTS, len(old) + cursor.left))
        found, place = list(old[:count]), 0
        for _ in range(cursor.unsigned(len(found))):
            place += cursor.unsigned(MOST_ELEMENTS)
            if place >= len(found):
                raise Damaged("an element has changed that is not there")
            found[place] = self._inner.read_changes(cursor, found[place], shared)
        found += [self._inner.read_whole(cursor, shared) for _ in range(count - len(found))]
        return tuple(found)


class Members:
    """A frozenset: as a tuple of its sorted elements, and whole whenever it has changed."""

    def __init__(self, inner: Codec) -> None:
        self._many = Many(inner)

    def whole(self, new: frozenset[Any], shared: Shared) -> bytes:
        return self._many.whole(sorted(new), shared)

    def changes(self, new: frozenset[Any], old: frozenset[Any], shared: Shared) -> bytes:
        return self.whole(new, shared) if new != old else b""

    def read_whole(self, cursor: Cursor, shared: Shared) -> frozenset[Any]:
        return frozenset(self._many.read_whole(cursor, shared))

    def read_changes(self, cursor: Cursor, old: Any, shared: Shared) -> frozenset[Any]:
        return self.read_whole(cursor, shared)


Make = Callable[[Sequence[Any]], Any]


class Fields:
    """A fixed number of values of different types: of a dataclass, or of a tuple. The changes begin with a number whose
    bits say which of them have changed, the first the lowest.
    """

    def __init__(self, codecs: Sequence[Codec], split: Callable[[Any], Sequence[Any]], make: Make) -> None:
        self._codecs = tuple(codecs)
        self._split = split
        self._make = make

    def whole(self, new: Any, shared: Shared) -> bytes:
        values = self._split(new)
        return b"".join([codec.whole(value, shared) for codec, value in zip(self._codecs, values, strict=True)])

    def changes(self, new: Any, old: Any, shared: Shared) -> bytes:
        if new is old:
            return b""
        bits, found = 0, []
        for place, (mine, before) in enumerate(zip(self._split(new), self._split(old), strict=True)):
            if mine is not before and (changed := self._codecs[place].changes(mine, before, shared)):
                bits |= 1 << place
                found.append(changed)
        return b"".join([unsigned(bits), *found]) if found else b""

    def read_whole(self, cursor: Cursor, shared: Shared) -> Any:
        cursor.deeper()
        found = [codec.read_whole(cursor, shared) for codec in self._codecs]
        cursor.depth -= 1
        return self._make(found)

    def read_changes(self, cursor: Cursor, old: Any, shared: Shared) -> Any:
        cursor.deeper()
        bits, found = cursor.unsigned((1 << len(self._codecs)) - 1), list(self._split(old))
        place = 0
        while bits:
            if bits & 1:
                found[place] = self._codecs[place].read_changes(cursor, found[place], shared)
            bits >>= 1
            place += 1
        cursor.depth -= 1
        return self._make(found)


class Later:
    """The codec of a class by its name, for classes that have themselves inside."""

    def __init__(self, name: str, known: Mapping[str, Codec]) -> None:
        self._name = name
        self._known = known

    def whole(self, new: Any, shared: Shared) -> bytes:
        return self._known[self._name].whole(new, shared)

    def changes(self, new: Any, old: Any, shared: Shared) -> bytes:
        return self._known[self._name].changes(new, old, shared)

    def read_whole(self, cursor: Cursor, shared: Shared) -> Any:
        return self._known[self._name].read_whole(cursor, shared)

    def read_changes(self, cursor: Cursor, old: Any, shared: Shared) -> Any:
        return self._known[self._name].read_changes(cursor, old, shared)


class OneOf:
    """One of several classes: the number of the class in the schema, and the value; always whole."""

    def __init__(self, classes: Sequence[type], codecs: Sequence[Codec]) -> None:
        self._numbers = {each: number for number, each in enumerate(classes)}
        self._codecs = tuple(codecs)

    def whole(self, new: Any, shared: Shared) -> bytes:
        number = self._numbers.get(type(new))
        if number is None:
            raise Unrecordable(f"{type(new).__name__} is not among the classes of its type")
        return unsigned(number) + self._codecs[number].whole(new, shared)

    def changes(self, new: Any, old: Any, shared: Shared) -> bytes:
        return self.whole(new, shared) if new is not old else b""

    def read_whole(self, cursor: Cursor, shared: Shared) -> Any:
        return self._codecs[cursor.unsigned(len(self._codecs) - 1)].read_whole(cursor, shared)

    def read_changes(self, cursor: Cursor, old: Any, shared: Shared) -> Any:
        return self.read_whole(cursor, shared)


def attributes(names: Sequence[str]) -> Callable[[Any], Sequence[Any]]:
    """Return what takes these attributes of an object, in their order."""
    if not names:
        return lambda value: ()
    if len(names) == 1:
        one = attrgetter(names[0])
        return lambda value: (one(value),)
    return attrgetter(*names)
