"""`--ascii` for what Textual draws itself: the palette's borders and bars, and the line in which one types."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from semtrace.tui.terminal.ascii import ascii_only


class AsciiFilter(LineFilter):
    """Runs over every line that any widget draws. A line that is ASCII already costs only the test for that."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isascii() for segment in segments):
            return segments
        return [Segment(ascii_only(segment.text), segment.style, segment.control) for segment in segments]
