"""Dataclasses whose methods are written when the class is first used, and that are quickly made and replaced.

To write them costs 1.4 ms for each class up to Python 3.12 (Lib/dataclasses.py `_create_fn`: six calls of exec). A
command uses a third of our 160 classes. That was 0.3 s of the 0.5 in which `semtrace.commands.doctor` was imported
(tests/bench/observe.py start).

A refresh makes thousands of instances: their fields are put straight into `__dict__`, not each by `object.__setattr__`,
as a frozen dataclass does it. For ten fields that takes 0.7 µs instead of 2.1, and `replace` 1.5 instead of 5.9.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from functools import cache
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
                    dataclasses.dataclass(frozen=each in _frozen, init=False)(each)
                    each.__init__ = _initializer(each)

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
        exec(f"def __init__({parameters}):\n " + "\n ".join(body), values)
        initializer = values["__init__"]
        initializer.__qualname__ = f"{cls.__qualname__}.__init__"
        return initializer

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
