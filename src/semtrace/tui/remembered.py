"""The order that the panes were left in, for the next time. A file that cannot be read or written is done without."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from semtrace.linux import safefile

MOST_BYTES = 1 << 16


class Order(NamedTuple):
    """By which column a pane is sorted, by its title; "" is the natural order."""

    column: str
    reverse: bool


class Remembered:
    """`path` None remembers nothing."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._orders = dict(_read(path)) if path is not None else {}

    def order(self, pane: str) -> Order | None:
        return self._orders.get(pane)

    def keep(self, pane: str, order: Order) -> None:
        if self._path is None or self._orders.get(pane) == order:
            return
        self._orders[pane] = order
        with suppress(OSError):  # a home that is full or read-only is no reason to bother anybody
            _write(self._path, {name: each._asdict() for name, each in self._orders.items()})


def _read(path: Path) -> Mapping[str, Order]:
    try:
        told = json.loads(safefile.read(path, MOST_BYTES))
        return {str(pane): Order(str(each["column"]), bool(each["reverse"])) for pane, each in told["sort"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(path: Path, orders: Mapping[str, object]) -> None:
    """In one step: another semtrace may read it now."""
    safefile.replace(path, (json.dumps({"sort": orders}, indent=1) + "\n").encode())
