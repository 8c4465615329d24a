"""A widget drawn line by line: only the lines that changed go to the terminal (a tenth of what a DataTable costs)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from semtrace.text import clean
from semtrace.tui.terminal.ascii import ascii_only
from semtrace.tui.terminal.palette import Colours, style
from semtrace.tui.text.line import Line, Span, fill


@dataclass(frozen=True)
class Drawing:
    """Abilities of the terminal: only ASCII or all signs, and how many colours."""

    ascii: bool = False
    colours: Colours = "many"


class LineApp(App[int]):
    """An application of line widgets, which draw by its `drawing`."""

    drawing = Drawing()


def drawing_of(app: App[object]) -> Drawing:
    return app.drawing if isinstance(app, LineApp) else Drawing()


class LineWidget(Widget):
    """Shows lines, which subclasses set with `draw`."""

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []
        self._strips: dict[int, Strip] = {}
        self._set_height: int | None = None

    def set_height(self, height: int) -> None:
        """0 hides it. Only a change costs a layout."""
        if height != self._set_height:
            self._set_height = height
            self.styles.height = height
            self.display = height > 0

    def draw(self, lines: Sequence[Line]) -> None:
        """Replaces the lines. Each has exactly the widget's width; see `line.fill`."""
        width, height = self.size
        before, self._lines = self._lines, list(lines[:height])
        for y in range(max(len(before), len(self._lines))):
            if _at(before, y) is not _at(self._lines, y) and _at(before, y) != _at(self._lines, y):
                self._strips.pop(y, None)
                self.refresh(Region(0, y, width, 1))

    def named_at(self, x: int, y: int) -> str | None:
        """The command whose word is drawn there: a span with `@NAME` among its styles."""
        for span in self._lines[y] if y < len(self._lines) else ():
            x -= cell_len(span.text)
            if x < 0:
                return next((each[1:] for each in span.style.split() if each.startswith("@")), None)
        return None

    def render_line(self, y: int) -> Strip:
        strip = self._strips.get(y)
        if strip is None or strip.cell_length != self.size.width:
            strip = self._strips[y] = self._strip(_at(self._lines, y) or ())
        return strip

    def _strip(self, line: Line) -> Strip:
        """Neighbours of the same style become one segment: each costs, here and on the wire.

        What is made of a server's words is clean already, in its own width; what is not gets no further than here.
        """
        width, drawing = self.size.width, drawing_of(self.app)
        texts: list[str] = []
        styles: list[Style] = []
        if not all(span.text.isprintable() for span in line):
            line = tuple(Span(clean(text), names) for text, names in line)
        for span_text, names in fill(line, width):
            text = ascii_only(span_text) if drawing.ascii else span_text
            look = style(names, drawing.colours)
            if styles and styles[-1] is look:
                texts[-1] += text
            else:
                texts.append(text)
                styles.append(look)
        return Strip(map(Segment, texts, styles), width)


def _at(lines: Sequence[Line], y: int) -> Line | None:
    return lines[y] if y < len(lines) else None
