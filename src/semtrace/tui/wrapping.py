"""Prose in a width, and the lines of a sheet. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from semtrace.text import clean
from semtrace.tui.entry import Entry
from semtrace.tui.line import Line, Span

LABEL_WIDTH = 14
COMMANDS = ("semtrace ", "sudo ")  # a line that begins so is copied whole


def wrapped(text: str, width: int) -> list[str]:
    """Words are never torn apart unless one alone is wider: a command must be copied whole."""
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, max(width, 10), break_on_hyphens=False) or [""]


def clean_lines(text: str) -> str:
    """Cleaned, but in the lines that it came in."""
    return "\n".join(map(clean, text.split("\n")))


def sheet_lines(entries: Iterable[Entry], width: int) -> Iterator[Line]:
    for entry in entries:
        label = entry.label
        for paragraph in entry.value.split("\n"):
            if paragraph.startswith(COMMANDS) and len(paragraph) > width - LABEL_WIDTH - 2 and len(paragraph) < width:
                if label:
                    yield (Span(f" {label:>{LABEL_WIDTH - 1}}", "dim"),)
                yield (Span(f" {paragraph}", entry.style),)
                label = ""
                continue
            indent = len(paragraph) - len(paragraph.lstrip())
            for text in wrapped(paragraph.lstrip(), width - LABEL_WIDTH - 2 - indent):
                yield (Span(f" {label:>{LABEL_WIDTH - 1}}  ", "dim"), Span(" " * indent + text, entry.style))
                label = ""
