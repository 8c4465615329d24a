"""Frozen dataclasses whose methods are written when the class is first used.

To have them written costs 1.4 ms for each class up to Python 3.12 (Lib/dataclasses.py `_create_fn`: six calls of exec),
and a command uses a third of our 160: of `import semtrace.doctor` that was 0.3 s of 0.5 (tests/bench/observe.py start).
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    T = TypeVar("T")

    _making = threading.RLock()

    def dataclass(*, frozen: bool) -> Callable[[type[T]], type[T]]:
        """Return a decorator as `dataclasses.dataclass(frozen=True)` does. Until the class has an instance, nothing can
        be asked of it that only a dataclass has, as its `fields`.
        """
        assert frozen
        return _later

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
                    dataclasses.dataclass(frozen=True, init=False)(each)
                    heir = dataclasses.dataclass(frozen=True, eq=False, repr=False)(type(each.__name__, (each,), {}))
                    each.__init__ = heir.__init__
