"""Widths of the columns of one table, from picture to picture."""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.tui.text.grid import Column, Row, content_widths, fit
from semtrace.tui.text.kept import Kept

SHRINK_S = 5.0


class Widths:
    """Lets a column grow at once, and shrink after a while without need: columns must not change at each picture."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._wanted = content_widths(columns, ())
        self._needed_s = [0.0] * len(columns)
        self._fitted: Kept[list[int]] = Kept()

    def need(self, rows: Sequence[Row], now_s: float) -> None:
        """Adapt the widths to rows that are shown at that time."""
        for i, width in enumerate(content_widths(self._columns, rows)):
            if width >= self._wanted[i] or now_s - self._needed_s[i] > SHRINK_S:
                self._wanted[i], self._needed_s[i] = width, now_s

    def forget(self, rows: Sequence[Row]) -> None:
        """The screen has another size: nobody would see a column tremble now."""
        self._wanted = content_widths(self._columns, rows)

    def in_room(self, width: int) -> list[int]:
        """Return the widths in so much room; equal ones are the same object."""
        wanted = tuple(self._wanted)
        return self._fitted.of((wanted, width), lambda: fit(self._columns, wanted, width))
