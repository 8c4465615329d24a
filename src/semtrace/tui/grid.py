"""Rows and columns as values: what to show in which width, sorted and filtered how. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rich.cells import cell_len, set_cell_size

from semtrace.tui.line import Line, Span, clip, clip_start, clip_words
from semtrace.tui.signs import ASCENDING, DESCENDING

GAP = 2

SortKey = tuple[float, str]


class Column(NamedTuple):
    """`least` and `most` bound its width; where room is short the column with the highest `order` goes, 0 never.

    `marked` says that a change in it is worth a mark. `cut` says which part of too long a text is left. One that is
    `sparse` has no width before it has had a text.
    """

    title: str
    least: int
    most: int
    order: int
    right: bool = False
    marked: bool = False
    cut: Literal["end", "start", "words"] = "end"
    sparse: bool = False


class Cell(NamedTuple):
    """`key` sorts it; without one its text does."""

    text: str
    style: str = ""
    key: float | None = None

    @property
    def sort_key(self) -> SortKey:
        return (0.0, self.text.lower()) if self.key is None else (self.key, "")


class Row(NamedTuple):
    """`id` is what the row is about, whatever its place: the cursor follows it. `rank` is its natural place."""

    id: Hashable
    cells: tuple[Cell, ...]
    rank: tuple[float | str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """How the user wants to see the rows: `column` None is the natural order, a filter with `!` shows all others."""

    column: int | None = None
    reverse: bool = False
    filter: str = ""


def arrange(rows: Sequence[Row], view: View) -> list[Row]:
    chosen = sorted((row for row in rows if matches(row, view.filter)), key=lambda row: row.rank)
    column = view.column
    if column is not None:
        chosen.sort(key=lambda row: row.cells[column].sort_key)
    return chosen[::-1] if view.reverse else chosen


def matches(row: Row, pattern: str) -> bool:
    """Is the pattern anywhere in the row, in either case? Every cell counts, also one that has no room."""
    wanted = pattern.lstrip("!").strip().lower()
    if not wanted:
        return True
    found = any(wanted in cell.text.lower() for cell in row.cells)
    return found != pattern.startswith("!")


def content_widths(columns: Sequence[Column], rows: Sequence[Row], before: Sequence[int] = ()) -> list[int]:
    """The width that each column would like; never less than `before`, so that columns do not tremble."""
    widths = [0 if column.sparse else _least_wanted(column) for column in columns]
    for row in rows:
        for i, cell in enumerate(row.cells):
            if len(cell.text) > widths[i]:
                widths[i] = max(min(cell_len(cell.text), columns[i].most), _least_wanted(columns[i]))
    return [max(pair) for pair in zip(widths, before, strict=True)] if before else widths


def fit(columns: Sequence[Column], wanted: Sequence[int], room: int) -> list[int]:
    """The width of each column, 0 for one that is left out."""
    kept = [min(column.least, want) for column, want in zip(columns, wanted, strict=True)]
    while sum(kept) + GAP * (sum(width > 0 for width in kept) - 1) > room:
        present = [i for i, width in enumerate(kept) if width and columns[i].order]
        if not present:
            break
        kept[max(present, key=lambda i: columns[i].order)] = 0
    spare = room - sum(kept) - GAP * (sum(width > 0 for width in kept) - 1)
    for i in sorted(range(len(kept)), key=lambda i: columns[i].order):
        if kept[i] and spare > 0:
            more = min(wanted[i] - kept[i], spare)
            kept[i] += more
            spare -= more
    return kept


def heading(columns: Sequence[Column], widths: Sequence[int], view: View) -> Line:
    spans: list[Span] = []
    for i, (column, width) in enumerate(zip(columns, widths, strict=True)):
        if not width:
            continue
        if spans:
            spans.append(Span(" " * GAP))
        sign = (DESCENDING if view.reverse else ASCENDING) if view.column == i else ""
        title = clip(column.title + sign, width)
        spans.append(Span(_pad(title, width, column.right), "heading.sort" if sign else "heading"))
    return tuple(spans)


def column_at(widths: Sequence[int], x: int) -> int | None:
    """The column that is drawn at `x`."""
    start = 0
    for i, width in enumerate(widths):
        if width and start <= x < start + width + GAP:
            return i
        start += width + GAP if width else 0
    return None


def row_line(columns: Sequence[Column], widths: Sequence[int], row: Row, marked: frozenset[int], mark: str) -> Line:
    """The row's cells, those in `marked` in the style `mark` as well."""
    spans: list[Span] = []
    for i, (cell, width) in enumerate(zip(row.cells, widths, strict=True)):
        if not width:
            continue
        if spans:
            spans.append(Span(" " * GAP))
        text = _cut(cell.text, width, columns[i].cut)
        style = f"{cell.style} {mark}" if i in marked else cell.style
        blanks = " " * (width - cell_len(text))
        pieces = (Span(blanks), Span(text, style)) if columns[i].right else (Span(text, style), Span(blanks))
        spans.extend(piece for piece in pieces if piece.text)
    return tuple(spans)


def changed(columns: Sequence[Column], before: Row, after: Row) -> list[int]:
    """The columns that are worth a mark and do not say what they said."""
    return [
        i
        for i, (old, new) in enumerate(zip(before.cells, after.cells, strict=True))
        if columns[i].marked and old.text != new.text
    ]


def _least_wanted(column: Column) -> int:
    """Room for the title and the sign of a sort."""
    return max(len(column.title) + 1, column.least)


def _cut(text: str, width: int, how: Literal["end", "start", "words"]) -> str:
    if len(text) <= width and text.isascii():
        return text
    if how == "words":
        return clip_words(text, width)
    return clip_start(text, width) if how == "start" else clip(text, width)


def _pad(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else set_cell_size(text, width)
