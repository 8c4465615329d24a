"""Which attributes a library's class keeps for itself: those that its own methods speak of, and its slots.

`self.lock` of a `logging.Handler` is made by logging, also where the object's class is a subclass of the user's. What a
method makes through another function's code is not seen.
"""

from __future__ import annotations

from collections.abc import Callable

from semtrace.cpython.classes import Class, Classes, Form
from semtrace.cpython.objects import Objects

_MOST_NAMES = 1000


class Keeping:
    """Read the methods of each class once. `own` says of a module's name whether it is the user's."""

    __slots__ = ("_classes", "_known", "_objects", "_own")

    def __init__(self, objects: Objects, classes: Classes, own: Callable[[str], bool]) -> None:
        self._objects = objects
        self._classes = classes
        self._own = own
        self._known: dict[int, frozenset[str]] = {}

    def keeps(self, cls: Class, attribute: str | None) -> bool:
        """Return True if a library's class, `cls` or one that it is derived from, has an attribute of this name."""
        if cls.address not in self._known:
            found = map(self._names, self._classes.mro(cls))
            self._known[cls.address] = frozenset().union(*found)
        return attribute in self._known[cls.address]

    def _names(self, cls: Class) -> frozenset[str]:
        if self._own(cls.module):
            return frozenset()
        return frozenset(name for name, _ in cls.members).union(*map(self._spoken_of, self._functions(cls)))

    def _functions(self, cls: Class) -> list[int]:
        kinds = ((value, self._classes.of(value)) for _, value in self._classes.class_items(cls.address))
        return [value for value, kind in kinds if kind is not None and kind.form is Form.FUNCTION]

    def _spoken_of(self, function: int) -> set[str]:
        """All names that its code uses: attributes, and globals, which do no harm here."""
        u64, layout = self._objects.pages.u64, self._objects.layout
        names = self._objects.tuple_of(u64(u64(function + layout.function_code) + layout.code_names), _MOST_NAMES)
        return {text for name in names if (text := self._objects.text(name)) is not None}
