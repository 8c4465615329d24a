"""A widget drawn line by line: only the lines that changed go to the terminal (a tenth of what a DataTable costs)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.filter import ANSIToTruecolor, DimFilter, LineFilter
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from semtrace.text import clean
from semtrace.tui.terminal.ascii import ascii_only
from semtrace.tui.terminal.palette import THEMES, Colours, style
from semtrace.tui.text.line import Line, Span, cells, fill, text_of


@dataclass(frozen=True)
class Drawing:
    """Abilities of the terminal: only ASCII or all signs, and how many colours."""

    ascii: bool = False
    colours: Colours = "many"


class LineApp(App[int]):
    """An application of line widgets, which draw by its `drawing`."""

    drawing = Drawing()

    def set_timer(self, *arguments: Any, **named: Any) -> Timer:
        """Return a timer that ticks once, also if the thread stood still for its whole length when it began.

        Textual forgets such a tick (8.2.8, timer.py `_run`). It takes in a new size by a timer of 8 ms; once that tick
        was forgotten, no later size was taken in either.
        """
        timer = super().set_timer(*arguments, **named)
        timer._skip = False
        return timer


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

    @property
    def size(self) -> Size:
        """The size without Textual's sums of borders and paddings: there are none."""
        return self.region.size

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
        changed = [y for y, (old, new) in enumerate(zip_longest(before, self._lines)) if old is not new and old != new]
        if changed:
            for y in changed:
                self._strips.pop(y, None)
            self._repaint([Region(0, y, width, 1) for y in changed])

    def _repaint(self, regions: Sequence[Region]) -> None:
        """Mark these lines for the screen's next drawing.

        `refresh` has the same effect by two messages a widget, a tenth of the cost of a picture. This is what those
        messages do (Textual 8.2.8, widget.py `refresh`, `_check_refresh`; screen.py `_on_update`).
        """
        screen = self.screen
        if not self.is_mounted or screen not in screen._compositor:
            self.refresh(*regions)
        elif self.display:
            self._set_dirty(*regions)
            screen._dirty_widgets.add(self)
            screen.check_idle()

    def named_at(self, x: int, y: int) -> str | None:
        """The command whose word is drawn there: a span with `@NAME` among its styles."""
        for span in self._lines[y] if y < len(self._lines) else ():
            x -= cells(span.text)
            if x < 0:
                return next((each[1:] for each in span.style.split() if each.startswith("@")), None)
        return None

    def render_line(self, y: int) -> Strip:
        return self._strip_at(y, self.size.width)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Draw without Textual's styles, which make each changed line three times (8.2.8, _styles_cache.py).

        These widgets have no border, no padding and no opacity, and their lines are as wide as they are.
        """
        width = self.size.width
        strips = [self._strip_at(y, width) for y in crop.line_range]
        for each in self._needed_filters():
            background = self.background_colors[1]
            strips = [strip.apply_filter(each, background) for strip in strips]
        x1, x2 = crop.column_span
        return strips if (x1, x2) == (0, width) else [strip.crop_extend(x1, x2, None) for strip in strips]

    def _needed_filters(self) -> Sequence[LineFilter]:
        """Return the filters that can change something. Styles with our own colours need none for the terminal's and
        none for dim text (see `palette`). Textual draws all lines between the first and the last that changed.
        """
        filters = self.get_line_filters()
        if drawing_of(self.app).colours in THEMES:
            return [each for each in filters if not isinstance(each, (ANSIToTruecolor, DimFilter))]
        return filters

    def _strip_at(self, y: int, width: int) -> Strip:
        strip = self._strips.get(y)
        if strip is None or strip.cell_length != width:
            strip = self._strips[y] = self._strip(_at(self._lines, y) or (), width)
        return strip

    def _strip(self, line: Line, width: int) -> Strip:
        """Neighbours of the same style become one segment: each costs, here and on the wire.

        What is made of a server's words is clean already, in its own width; what is not gets no further than here.
        """
        drawing = drawing_of(self.app)
        texts: list[str] = []
        styles: list[Style] = []
        if not text_of(line).isprintable():
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
