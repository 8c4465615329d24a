"""Dataclasses whose methods are written when they are first called, and that are quickly made and replaced.

To write them all costs 1.4 ms for each class up to Python 3.12 (Lib/dataclasses.py `_create_fn`: six calls of exec).
A command makes instances of 70 of our 160 classes, and most of those are never compared, hashed or printed. So
`__init__` is written at the first instance, `__eq__` and `__hash__` at their first call. The rest is the same for all.

A refresh makes thousands of instances: their fields are put straight into `__dict__`, not each by `object.__setattr__`,
as a frozen dataclass does it. For ten fields that takes 0.7 µs instead of 2.1, and `replace` 1.5 instead of 5.9.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from functools import cache
from itertools import compress
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import replace as replace
else:
    T = TypeVar("T")

    _making = threading.RLock()
    _frozen: WeakSet[type] = WeakSet()

    def dataclass(*, frozen: bool) -> Callable[[type[T]], type[T]]:
        """Return a decorator as `dataclasses.dataclass(frozen=…)` does. Until the class has an instance, nothing can
        be asked of it that only a dataclass has, as its `fields`.
        """
        return _later_frozen if frozen else _later

    def _later_frozen(cls: type[T]) -> type[T]:
        _frozen.add(cls)
        return _later(cls)

    def _later(cls: type[T]) -> type[T]:
        cls.__init__ = _first
        return cls

    def _first(self: object, *arguments: Any, **named: Any) -> None:
        """Is the `__init__` of a class that is not made yet."""
        _make(type(self))
        self.__init__(*arguments, **named)

    def _make(cls: type) -> None:
        """Make the class and its bases. Another thread waits in `_first` meanwhile, which stays until the end."""
        with _making:
            for each in reversed(cls.__mro__):
                if vars(each).get("__init__") is _first:
                    dataclasses.dataclass(init=False, repr=False, eq=False)(each)  # finds the fields, writes nothing
                    _add_methods(each, each in _frozen)
                    each.__init__ = _initializer(each)

    def _add_methods(cls: type, frozen: bool) -> None:
        """Add what the class has not defined itself, with the meaning that Lib/dataclasses.py gives it."""
        own = vars(cls)
        # To a class with `__eq__` alone Python adds None.
        hashes = "__hash__" in own and (own["__hash__"] is not None or "__eq__" not in own)
        if "__repr__" not in own:
            cls.__repr__ = _repr
        if "__eq__" not in own:
            cls.__eq__ = _first_eq
        if not hashes:
            cls.__hash__ = _first_hash if frozen else None
        if frozen:
            cls.__setattr__ = _refuse_to_set
            cls.__delattr__ = _refuse_to_delete

    @recursive_repr()
    def _repr(self: object) -> str:
        shown = (f"{each.name}={getattr(self, each.name)!r}" for each in dataclasses.fields(self) if each.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _refuse_to_set(self: object, name: str, value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_to_delete(self: object, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _first_eq(self: object, other: object) -> Any:
        """Is the `__eq__` of a class of which nothing has been compared yet."""
        cls = _owner(type(self), "__eq__", _first_eq)
        if cls is not None:
            mine, others = (_values(cls, name, "compare") for name in ("self", "other"))
            test = f"return {mine} == {others} if other.__class__ is self.__class__ else NotImplemented"
            cls.__eq__ = _written(cls, "__eq__", "self, other", [test], {})
        return type(self).__eq__(self, other)

    def _first_hash(self: object) -> int:
        """Is the `__hash__` of a class of which nothing has been hashed yet."""
        cls = _owner(type(self), "__hash__", _first_hash)
        if cls is not None:
            cls.__hash__ = _written(cls, "__hash__", "self", [f"return hash({_values(cls, 'self', 'hash')})"], {})
        return hash(self)

    def _owner(cls: type, name: str, first: object) -> type | None:
        """Return the class in whose place of that name `first` stands, or None if another thread has replaced it."""
        return next((each for each in cls.__mro__ if vars(each).get(name) is first), None)

    def _values(cls: type, instance: str, use: str) -> str:
        """Return the source of a tuple of the fields to compare or to hash."""
        by_hash = use == "hash"
        used = (each.hash if by_hash and each.hash is not None else each.compare for each in dataclasses.fields(cls))
        names = (each.name for each in compress(dataclasses.fields(cls), used))
        return f"({''.join(f'{instance}.{name}, ' for name in names)})"

    def _written(
        cls: type, name: str, parameters: str, body: list[str], values: dict[str, object]
    ) -> Callable[..., Any]:
        exec(f"def {name}({parameters}):\n " + "\n ".join(body), values)
        function = values[name]
        function.__qualname__ = f"{cls.__qualname__}.{name}"
        return function

    def _initializer(cls: type) -> Callable[..., None]:
        """Write the `__init__` of a class whose fields are known."""
        values: dict[str, object] = {"_absent": object()}
        positional, named, body = ["self"], [], ["fields = self.__dict__"]
        for each in dataclasses.fields(cls):
            name = each.name
            value = name
            if each.default is not dataclasses.MISSING:
                values[f"_default_{name}"] = each.default
                parameter = f"{name}=_default_{name}"
            elif each.default_factory is not dataclasses.MISSING:
                values[f"_make_{name}"] = each.default_factory
                parameter = f"{name}=_absent"
                value = f"_make_{name}() if {name} is _absent else {name}"
            else:
                parameter = name
            (named if each.kw_only else positional).append(parameter)
            body.append(f"fields['{name}'] = {value}")
        if hasattr(cls, "__post_init__"):
            body.append("self.__post_init__()")
        parameters = ", ".join([*positional, *(["*", *named] if named else [])])
        return _written(cls, "__init__", parameters, body, values)

    def replace(instance: T, /, **changes: Any) -> T:
        """Return a copy with some fields changed, as `dataclasses.replace` does, for instances of any dataclass."""
        cls = type(instance)
        count = _plain_fields(cls)
        if count:
            copy = object.__new__(cls)
            fields = copy.__dict__
            fields.update(instance.__dict__)
            fields.update(changes)
            if len(fields) == count:  # else there is a name that no field has, or a cached property
                return copy
        return dataclasses.replace(instance, **changes)

    @cache
    def _plain_fields(cls: type) -> int:
        """Return how many fields an instance has if it has nothing else, and all in its `__dict__`, else 0."""
        slots = any("__slots__" in vars(each) for each in cls.__mro__[:-1])
        if slots or hasattr(cls, "__post_init__") or not dataclasses.is_dataclass(cls):
            return 0
        return len(dataclasses.fields(cls)) if all(each.init for each in dataclasses.fields(cls)) else 0
