"""Settings of the view, kept for the next time: order and layout of the panes, and which explanations were read.

A file that cannot be read or written is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from semtrace.linux import safefile

MOST_BYTES = 1 << 16
T = TypeVar("T")


class Order(NamedTuple):
    """The title of the column that sorts a pane; "" is the natural order."""

    column: str
    reverse: bool


class Remembered:
    """Keeps settings in the file `path`; None keeps nothing."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        stored = _read(path) if path is not None else {}
        self._orders = _part(stored, "sort", _orders)
        self._layouts = _part(stored, "layout", _names)
        self._lower = _part(stored, "lower", _names)
        self._explained = _part(stored, "explained", lambda part: dict.fromkeys(map(str, part)))

    def order(self, pane: str) -> Order | None:
        return self._orders.get(pane)

    def keep(self, pane: str, order: Order) -> None:
        if self._path is not None and self._orders.get(pane) != order:
            self._orders[pane] = order
            self._write()

    def layout(self, kind: str) -> str:
        """Return the name of the layout for this kind of server, "" if none was chosen."""
        return self._layouts.get(kind, "")

    def keep_layout(self, kind: str, name: str) -> None:
        if self._path is not None and self._layouts.get(kind) != name:
            self._layouts[kind] = name
            self._write()

    def lower(self, kind: str) -> str:
        """Return the name of what is below the tables for this kind of server, "" if nothing was chosen."""
        return self._lower.get(kind, "")

    def keep_lower(self, kind: str, name: str) -> None:
        if self._path is not None and self._lower.get(kind) != name:
            self._lower[kind] = name
            self._write()

    def explains(self, topic: str) -> bool:
        """Return True if that is still to be explained. Without a file it would be explained at every start: False."""
        return self._path is not None and topic not in self._explained

    def dismiss(self, topic: str) -> None:
        if self.explains(topic):
            self._explained[topic] = None
            self._write()

    def _write(self) -> None:
        assert self._path is not None
        stored = {
            "sort": {pane: order._asdict() for pane, order in self._orders.items()},
            "layout": self._layouts,
            "lower": self._lower,
            "explained": list(self._explained),
        }
        with suppress(OSError):  # A home that is full or read-only is not worth an error message.
            # In one step: another semtrace may read it now.
            safefile.replace(self._path, (json.dumps(stored, indent=1) + "\n").encode())


def _read(path: Path) -> Mapping[str, Any]:
    try:
        stored = json.loads(safefile.read(path, MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _part(stored: Mapping[str, Any], name: str, parse: Callable[[Any], dict[str, T]]) -> dict[str, T]:
    """Return one part of the file, empty if it is spoiled: the others may be whole."""
    try:
        return parse(stored[name])
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}


def _names(part: Any) -> dict[str, str]:
    return {str(kind): str(name) for kind, name in part.items()}


def _orders(part: Any) -> dict[str, Order]:
    return {str(pane): Order(str(each["column"]), bool(each["reverse"])) for pane, each in part.items()}
