"""Keep what was made last, for callers that ask again with equal arguments: most of a picture stays as it was. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """The last value. It is made again only for another key, so equal keys give the same object."""

    def __init__(self) -> None:
        self._key: object = self
        self._values: list[T] = []

    def of(self, key: object, make: Callable[[], T]) -> T:
        """Return the value for the key, which holds all that `make` depends on."""
        if not self._values or key != self._key:
            self._values = [make()]
            self._key = key
        return self._values[0]
