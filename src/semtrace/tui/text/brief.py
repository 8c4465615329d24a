"""The findings at the foot of the overview where there is room for them: the worst ones, a line each. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.model import Finding
from semtrace.present.findings import evidence, remedy, title
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.header import SEVERITIES
from semtrace.tui.text.line import Line, Span, clip
from semtrace.tui.text.wrapping import sheet_lines

TITLE = 1
LEAST = 2  # the title alone says nothing


def wanted_height(findings: Sequence[Finding], room: int) -> int:
    """Return all the room that is left; without room still a line for the worst finding."""
    if not findings:
        return 0
    return room if room >= TITLE + LEAST else 1


def needed_height(findings: Sequence[Finding], room: int, width: int) -> int:
    """Return how many lines the findings and all details of the worst one fill, if there is room."""
    return len(brief_lines(findings, room, width, "")) if findings else 0


def brief_lines(findings: Sequence[Finding], height: int, width: int, key: str) -> list[Line]:
    """Return the findings with their number and an empty line above; below, if there is room, details of the worst."""
    if height < TITLE + LEAST:
        return [_finding_line(finding, width) for finding in findings[:1]]
    shown = findings[: max(height - 2, 0)]
    more = len(findings) - len(shown)
    tail = f", {more} more" if more else ""
    lines: list[Line] = [(), (Span(" Findings", "title"), Span(f"  {len(findings)} ({key}){tail}", "dim"))]
    lines += [_finding_line(finding, width) for finding in shown]
    room = height - len(lines) - 1
    return [*lines, (), *_worst_lines(findings[0], width)[:room]] if findings and room > 0 else lines


def _finding_line(finding: Finding, width: int) -> Line:
    word = f" {finding.severity:<8}  "
    clipped = clip(title(finding), width - len(word) - 1)
    return (Span(word, SEVERITIES[finding.severity]), Span(clipped, "strong"))


def _worst_lines(finding: Finding, width: int) -> list[Line]:
    """The remedy first: where room is short it is what helps."""
    entries = [Entry("remedy", remedy(finding), "strong")]
    entries += [Entry("" if place else "evidence", f"- {fact}") for place, fact in enumerate(evidence(finding))]
    return list(sheet_lines(entries, width))
