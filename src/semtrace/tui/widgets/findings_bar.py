"""The findings at the foot of the overview where there is room for them: the worst ones, a line each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import events

from semtrace.model import Finding
from semtrace.present.findings import title
from semtrace.tui.commands import perform
from semtrace.tui.text.header import SEVERITIES
from semtrace.tui.text.line import Line, Span, clip
from semtrace.tui.widgets.line_widget import LineWidget

TITLE = 1
LEAST = 2  # the title alone says nothing


class FindingsBar(LineWidget):
    """A click leads to all of them, as their key does."""

    def __init__(self) -> None:
        super().__init__(id="brief")
        self._make: Callable[[int, int], list[Line]] = lambda width, height: []

    def show(self, findings: Sequence[Finding], key: str) -> None:
        self._make = lambda width, height: brief_lines(findings, height, width, key)
        self.draw(self._make(*self.size))

    def on_resize(self, event: events.Resize) -> None:
        self.draw(self._make(*self.size))

    async def on_click(self, event: events.Click) -> None:
        await perform(self.screen, "findings")


def wanted_height(findings: Sequence[Finding], room: int) -> int:
    """Nothing where there is none, or no room for one."""
    return room if findings and room >= TITLE + LEAST else 0


def brief_lines(findings: Sequence[Finding], height: int, width: int, key: str) -> list[Line]:
    """With an empty line above, and how many are left out."""
    shown = findings[: max(height - 2, 0)]
    more = len(findings) - len(shown)
    tail = f", {more} more" if more else ""
    lines: list[Line] = [(), (Span(" Findings", "title"), Span(f"  {len(findings)} ({key}){tail}", "dim"))]
    for finding in shown:
        word = f" {finding.severity:<8}  "
        said = clip(title(finding), width - len(word) - 1)
        lines.append((Span(word, SEVERITIES[finding.severity]), Span(said, "strong")))
    return lines
