"""A line at an edge of the screen: the header, the banner, the sentence, the keys."""

from __future__ import annotations

from collections.abc import Callable

from textual import events

from semtrace.tui.commands import perform
from semtrace.tui.text.kept import Kept
from semtrace.tui.text.line import Line, Span, clip, fill, under
from semtrace.tui.widgets.line_widget import LineWidget


class Bar(LineWidget):
    """Asks for its line again when its width changes."""

    def __init__(self, *, id: str, classes: str = "", base: str = "bar") -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._base = base
        self._based: Kept[list[Line]] = Kept()
        self._make: Callable[[int], Line] = lambda width: ()

    def say(self, make: Callable[[int], Line]) -> None:
        """`make` gives the line for a width."""
        self._make = make
        self._redraw()

    def say_text(self, text: str, style: str = "") -> None:
        self.say(lambda width: (Span(" " + clip(text, width - 2), style),))

    def on_resize(self, event: events.Resize) -> None:
        self._redraw()

    async def on_click(self, event: events.Click) -> None:
        """A part of the line with `@NAME` among its styles does what the command of that name does."""
        name = self.named_at(event.x, 0)
        if name is not None:
            await perform(self.screen, name)

    def _redraw(self) -> None:
        width = self.size.width
        line = self._make(width)
        self.draw(self._based.of((line, self.size), lambda: [under(fill(line, width), self._base)]))
