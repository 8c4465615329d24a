"""A pane whose rows only ever come at the end: it follows them until one moves up in it."""

from __future__ import annotations

from collections.abc import Hashable

from semtrace.tui.text.grid import Row
from semtrace.tui.widgets.table import Table


class Log(Table):
    """Hidden until it is asked for. With another order than the natural one it follows nothing."""

    following = True
    shown = False

    def toggle(self) -> None:
        self.shown = not self.shown
        self.following = True

    def _go(self, place: int) -> None:
        super()._go(place)
        self.following = self._cursor >= len(self._rows) - 1

    def _arrange(self) -> None:
        super()._arrange()
        if self.following and self.view.column is None and not self.view.reverse:
            self._cursor = max(len(self._rows) - 1, 0)
            self._paint()

    def _mark(self, new: dict[Hashable, Row], now_s: float) -> None:
        """Mark no changes: everything at the end of a log is new."""
