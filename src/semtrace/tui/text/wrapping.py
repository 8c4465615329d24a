"""Prose in a width, and the lines of a sheet. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from rich.cells import cell_len

from semtrace.text import is_command
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.line import Line, Span

LABEL_WIDTH = 14
SECOND_CELL = "\0"  # in no text that was cleaned


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text. A word is broken only if it is wider than a line: a command must be copied whole."""
    if cell_len(text) <= width:
        return [text]
    width = max(width, 10)
    if text.isascii():
        return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
    # textwrap counts characters: each that is two cells wide counts as two, and may be torn from its second at an end.
    padded = "".join(each + SECOND_CELL * (cell_len(each) - 1) for each in text)
    lines = textwrap.wrap(padded, width - (padded != text), break_on_hyphens=False)
    return [line.replace(SECOND_CELL, "") for line in lines] or [""]


def sheet_lines(entries: Iterable[Entry], width: int) -> Iterator[Line]:
    for entry in entries:
        label = entry.label
        for paragraph in entry.value.split("\n"):
            if is_command(paragraph) and width - LABEL_WIDTH - 2 < cell_len(paragraph) < width:
                if label:
                    yield (Span(f" {label:>{LABEL_WIDTH - 1}}", "dim"),)
                yield (Span(f" {paragraph}", entry.style),)
                label = ""
                continue
            indent = len(paragraph) - len(paragraph.lstrip())
            for text in wrapped(paragraph.lstrip(), width - LABEL_WIDTH - 2 - indent):
                yield (Span(f" {label:>{LABEL_WIDTH - 1}}  ", "dim"), Span(" " * indent + text, entry.style))
                label = ""
