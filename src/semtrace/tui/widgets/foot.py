"""A pane below the tables of the overview, drawn for the size that is left for it."""

from __future__ import annotations

from collections.abc import Callable

from textual import events

from semtrace.tui.commands import perform
from semtrace.tui.text.line import Line
from semtrace.tui.widgets.line_widget import LineWidget


class Foot(LineWidget):
    """A click does what the key of its command does."""

    def __init__(self, *, id: str, command: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._command = command
        self._make: Callable[[int, int], list[Line]] = lambda width, height: []

    def show(self, make: Callable[[int, int], list[Line]]) -> None:
        """`make` gives the lines for a width and a height."""
        self._make = make
        self._redraw()

    def set_height(self, height: int) -> None:
        """Set the height, and draw again in it: a widget that was hidden in the same size gets no Resize."""
        if height != self._set_height:
            super().set_height(height)
            self.call_after_refresh(self._redraw)

    def on_resize(self, event: events.Resize) -> None:
        self._redraw()

    def _redraw(self) -> None:
        self.draw(self._make(*self.size))

    async def on_click(self, event: events.Click) -> None:
        await perform(self.screen, self._command)
