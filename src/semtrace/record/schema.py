"""The types of a recording: described as JSON in its header, and made into codecs. Pure.

A file brings the description of its types. What this version of semtrace has under the same names may have further
fields with defaults, lack fields, or know more words; everything else is refused.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from semtrace.record.codec import (
    Choice,
    Codec,
    Fields,
    Floating,
    Integer,
    Later,
    Make,
    Many,
    Maybe,
    Members,
    OneOf,
    Text,
    Truth,
    attributes,
)
from semtrace.record.numbers import MOST_DEPTH

# A description: the name of a simple type, or a list that begins with a word. See docs/recording-format.md.
Type = Any

# What earlier versions called a field. Without it a renamed field of an old recording would be read as its default.
_FORMER_NAMES: Mapping[tuple[str, str], str] = {
    ("Lock", "proof_needs_rights"): "barred",
    ("LockOrder", "also_held"): "beside",
}

MOST_CLASSES = 1024
MOST_FIELDS = 256
_LONGEST_NAME = 200

_SIMPLE: Mapping[Any, str] = {int: "int", float: "float", str: "str", bool: "bool"}
_SCALARS: Mapping[str, Codec] = {
    "int": Integer(),
    "float": Floating(),
    "time": Floating(time=True),
    "str": Text(),
    "bool": Truth(),
}


class SchemaMismatch(ValueError):
    """The types of a file do not fit those of this version; the text says which."""


class Raw(NamedTuple):
    """A value of a class as the file has it."""

    name: str
    values: tuple[Any, ...]


class Schema:
    """The types that lead from `root`, and the codec for it."""

    def __init__(self, root: type) -> None:
        self.root = root.__name__
        self.classes: dict[str, type] = {}
        self.description: dict[str, Any] = {}
        self._describe_class(root)
        codecs: dict[str, Codec] = {}
        for name, fields in self.description.items():
            cls, names = self.classes[name], [field for field, _ in fields]
            inner = [self._codec(each, codecs) for _, each in fields]
            codecs[name] = Fields(inner, attributes(names), _maker(cls))
        self.codec = codecs[self.root]

    def _describe_class(self, cls: type) -> None:
        name = cls.__name__
        if name in self.classes:
            assert self.classes[name] is cls, f"two classes are called {name}"
            return
        self.classes[name] = cls
        self.description[name] = fields = []
        for field, hint in typing.get_type_hints(cls).items():
            described = self._describe(hint)
            timely = described == "float" and field.endswith("_at")
            fields.append([field, "time" if timely else described])

    def _describe(self, hint: Any) -> Type:
        if hint in _SIMPLE:
            return _SIMPLE[hint]
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Literal:
            return ["of", *arguments]
        if origin in (typing.Union, types.UnionType):
            return self._describe_union([each for each in arguments if each is not type(None)], arguments)
        if origin is tuple and arguments[1:] == (Ellipsis,):
            return ["many", self._describe(arguments[0])]
        if origin is tuple:
            return ["fixed", *map(self._describe, arguments)]
        if origin is frozenset:
            return ["set", self._describe(arguments[0])]
        if issubclass(hint, Enum):
            self.classes[hint.__name__] = hint
            return ["word", hint.__name__, *(member.value for member in hint)]
        self._describe_class(hint)
        return ["class", hint.__name__]

    def _describe_union(self, some: Sequence[Any], arguments: Sequence[Any]) -> Type:
        described = [self._describe(each) for each in some]
        one = described[0] if len(some) == 1 else ["one", *(each[1] for each in described)]
        return ["maybe", one] if len(some) < len(arguments) else one

    def _codec(self, described: Type, codecs: Mapping[str, Codec]) -> Codec:
        if isinstance(described, str):
            return _SCALARS[described]
        word, *rest = described
        if word == "word":
            return Choice(list(self.classes[rest[0]]))  # type: ignore[call-overload]
        if word == "one":
            return OneOf([self.classes[name] for name in rest], [Later(name, codecs) for name in rest])
        return _codec(described, codecs, self._codec)

    def reader(self, description: object) -> Reader:
        """Return what reads values of types that a file describes. Raises SchemaMismatch."""
        if description == self.description:
            return Reader(self.codec, lambda value: value)
        checked = _checked(description)
        codecs: dict[str, Codec] = {}
        for name, fields in checked.items():
            inner = [_foreign(each, codecs) for _, each in fields]
            codecs[name] = Fields(inner, _values_of, _raw_maker(name))
        if self.root not in codecs:
            raise SchemaMismatch(f"it has no {self.root}")
        return Reader(codecs[self.root], Converter(self, checked).convert)


def _maker(cls: type) -> Make:
    return lambda values: cls(*values)


def _raw_maker(name: str) -> Make:
    return lambda values: Raw(name, tuple(values))


def _values_of(raw: Raw) -> tuple[Any, ...]:
    return raw.values


class Reader(NamedTuple):
    """The codec of a file's root, and what makes our own classes of what it reads."""

    codec: Codec
    convert: typing.Callable[[Any], Any]


def _codec(described: Type, codecs: Mapping[str, Codec], inner: typing.Callable[..., Codec]) -> Codec:
    """Return the codec of a type for which our own classes are not needed."""
    word, *rest = described
    if word == "of":
        return Choice(rest)
    if word == "maybe":
        return Maybe(inner(rest[0], codecs))
    if word == "many":
        return Many(inner(rest[0], codecs))
    if word == "set":
        return Members(inner(rest[0], codecs))
    if word == "fixed":
        return Fields([inner(each, codecs) for each in rest], lambda value: value, tuple)
    return Later(rest[0], codecs)


def _foreign(described: Type, codecs: Mapping[str, Codec]) -> Codec:
    """Return the codec of a type of a file: its classes become Raw, its words stay strings."""
    if isinstance(described, str):
        return _SCALARS[described]
    word, *rest = described
    if word == "word":
        return Choice(rest[1:])
    if word == "one":
        return OneOf([Raw] * len(rest), [Later(name, codecs) for name in rest])
    return _codec(described, codecs, _foreign)


# -- a file's own description, which is not trusted


def _checked(description: object) -> dict[str, list[Any]]:
    """Return the description if each of its parts is one of the format. Raises SchemaMismatch."""
    if not isinstance(description, dict) or len(description) > MOST_CLASSES:
        raise SchemaMismatch("its types are not described as classes")
    for fields in description.values():
        if not isinstance(fields, list) or len(fields) > MOST_FIELDS:
            raise SchemaMismatch("a class is not described by its fields")
        for field in fields:
            if not (isinstance(field, list) and len(field) == 2 and _is_name(field[0])):
                raise SchemaMismatch("a field is not described by its name and type")
            _check(field[1], description, 0)
    return description


def _is_name(each: object) -> bool:
    return isinstance(each, str) and len(each) <= _LONGEST_NAME


def _check(described: object, known: Mapping[str, Any], depth: int) -> None:
    if isinstance(described, str) and described in _SCALARS:
        return
    if not isinstance(described, list) or not 2 <= len(described) <= MOST_FIELDS or depth > MOST_DEPTH:
        raise SchemaMismatch("a type is not one of the format")
    word, rest = described[0], described[1:]
    if word in ("class", "one", "of", "word"):
        if not all(map(_is_name, rest)):
            raise SchemaMismatch("a name is not one of the format")
        if word in ("class", "one") and not all(name in known for name in rest):
            raise SchemaMismatch("a class is not described")
    elif (word in ("maybe", "many", "set") and len(rest) == 1) or word == "fixed":
        for each in rest:
            _check(each, known, depth + 1)
    else:
        raise SchemaMismatch("a type is not one of the format")


class Converter:
    """Make our classes of a file's values. Raises SchemaMismatch where the types do not fit."""

    def __init__(self, own: Schema, theirs: Mapping[str, list[Any]]) -> None:
        self._own = own
        self._theirs = theirs
        self._plans: dict[str, list[tuple[str, int, Type]]] = {}
        self._plan(own.root)

    def _plan(self, name: str) -> None:
        """Note where the file has each field that both have, by its former name if it has been renamed."""
        if name in self._plans:
            return
        self._plans[name] = plan = []
        places = {field: (place, each) for place, (field, each) in enumerate(self._theirs[name])}
        optional = _with_defaults(self._own.classes[name])
        for field, mine in self._own.description[name]:
            found = places.get(field) or places.get(_FORMER_NAMES.get((name, field), ""))
            if found is None:
                if field not in optional:
                    raise SchemaMismatch(f"its {name} has no {field}")
                continue
            place, described = found
            if not self._fits(described, mine):
                raise SchemaMismatch(f"its {name}.{field} is of another type")
            plan.append((field, place, mine))

    def _fits(self, theirs: Type, mine: Type) -> bool:
        if isinstance(theirs, str) or isinstance(mine, str):
            return bool(theirs == mine)
        if mine[0] == "maybe" and theirs[0] != "maybe":
            return self._fits(theirs, mine[1])
        if theirs[0] != mine[0]:
            return False
        if theirs[0] in ("of", "word"):
            return set(theirs[1:]) <= set(mine[1:])
        if theirs[0] in ("class", "one"):
            if not set(theirs[1:]) <= set(mine[1:]):
                return False
            for name in theirs[1:]:
                self._plan(name)
            return True
        return len(theirs) == len(mine) and all(map(self._fits, theirs[1:], mine[1:]))

    def convert(self, value: Any) -> Any:
        if not isinstance(value, Raw):
            raise SchemaMismatch("its root is not a class")
        return self._class(value)

    def _class(self, raw: Raw) -> Any:
        plan = self._plans[raw.name]
        return self._own.classes[raw.name](**{field: self._value(raw.values[at], mine) for field, at, mine in plan})

    def _value(self, value: Any, mine: Type) -> Any:
        if value is None or isinstance(mine, str):
            return value
        if isinstance(value, Raw):
            return self._class(value)
        if mine[0] == "maybe":
            return self._value(value, mine[1])
        if mine[0] == "word":
            return self._own.classes[mine[1]](value)
        if mine[0] in ("many", "set"):
            made = (self._value(each, mine[1]) for each in value)
            return tuple(made) if mine[0] == "many" else frozenset(made)
        if mine[0] == "fixed":
            return tuple(self._value(each, inner) for each, inner in zip(value, mine[1:], strict=True))
        return value


def _with_defaults(cls: type) -> set[str]:
    """Return the fields that need not be given. Classes of `lazydata` keep the marks of their fields until they are
    made.
    """
    if hasattr(cls, "_field_defaults"):
        return set(cls._field_defaults)
    if dataclasses.is_dataclass(cls):
        nothing = dataclasses.MISSING
        every = dataclasses.fields(cls)
        return {f.name for f in every if f.default is not nothing or f.default_factory is not nothing}
    return {name for name in typing.get_type_hints(cls) if name in vars(cls)}
