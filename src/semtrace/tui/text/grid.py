"""Rows and columns as values: what to show in which width, sorted and filtered how. Pure."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from operator import attrgetter
from typing import Literal, NamedTuple

from rich.cells import set_cell_size

from semtrace.lazydata import dataclass
from semtrace.text import UNKNOWN
from semtrace.tui.text.line import ELLIPSIS, Line, Span, clip, clip_start, clip_words
from semtrace.tui.text.line import cells as cells_of
from semtrace.tui.text.signs import ASCENDING, DESCENDING

GAP = 2
UNPINNED = 9
SPARE_ORDER = 7  # columns from this order on go before a name is cut

SortKey = tuple[float, str]
# "class": as "start", but at a capital letter; "list": as "words", of names that may have blanks in them
Cut = Literal["end", "start", "class", "words", "list"]
NAMES = ("start", "class", "list")
LIST = ", "
_NOT_MEASURED = {"", UNKNOWN}
_NUMBER = re.compile(r"\d+")
_HALF_A_WORD = re.compile(f"^{ELLIPSIS}[a-z]+(?=[A-Z])")


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
    cut: Cut = "end"
    sparse: bool = False


class Cell(NamedTuple):
    """`key` sorts it; without one its text does."""

    text: str
    style: str = ""
    key: float | None = None

    @property
    def sort_key(self) -> SortKey:
        return (0.0, natural(self.text)) if self.key is None else (self.key, "")


class Row(NamedTuple):
    """`id` is what the row is about, whatever its place: the cursor follows it. `rank` is its natural place.

    `depth` says how deep it lies in a tree: with a row stay those that it lies below. `pin` comes before every order:
    what is wrong stays at the top, the lowest first.
    """

    id: Hashable
    cells: tuple[Cell, ...]
    rank: tuple[float | str, ...]
    depth: int = 0
    pin: int = UNPINNED


@dataclass(frozen=True)
class Arrangement:
    """Order and filter that the user chose: `column` None is the natural order, a filter with `!` shows all others."""

    column: int | None = None
    reverse: bool = False
    filter: str = ""


def natural(text: str) -> str:
    """Return a key that sorts numbers within a text as numbers: `many[9]` before `many[10]`."""
    return _NUMBER.sub(lambda number: number.group().zfill(12), text.lower())


def arrange(rows: Sequence[Row], view: Arrangement) -> list[Row]:
    chosen = _chosen(sorted(rows, key=attrgetter("rank")), view.filter)
    column = view.column
    if column is not None:
        chosen.sort(key=lambda row: row.cells[column].sort_key)
    if view.reverse:
        chosen.reverse()
    return sorted(chosen, key=attrgetter("pin"))


def _chosen(rows: Sequence[Row], pattern: str) -> list[Row]:
    """Return the rows that match, in a tree with all rows above them."""
    if not _wanted(pattern):
        return list(rows)
    chosen: list[Row] = []
    for row in reversed(rows):
        if matches(row, pattern) or (chosen and row.depth < chosen[-1].depth):
            chosen.append(row)
    return chosen[::-1]


def matches(row: Row, pattern: str) -> bool:
    """Return True if the pattern is anywhere in the row, in either case. Cells without room count, too."""
    wanted = _wanted(pattern)
    if not wanted:
        return True
    found = any(wanted in cell.text.lower() for cell in row.cells)
    return found != pattern.startswith("!")


def _wanted(pattern: str) -> str:
    return pattern.lstrip("!").strip().lower()


def content_widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    """The width that each column has a use for."""
    if not rows:
        return [0 if column.sparse else _least_wanted(column) for column in columns]
    by_column = zip(*[row.cells for row in rows], strict=True)
    return [_content_width(*each) for each in zip(columns, by_column, strict=True)]


def _content_width(column: Column, cells: Sequence[Cell]) -> int:
    """The width for these cells; 0 for a column in which nothing was measured: all its cells are `-`."""
    texts = {cell.text for cell in cells}
    if column.order and not column.marked and UNKNOWN in texts and texts <= _NOT_MEASURED:
        return 0
    wanted = max(map(cells_of, texts))
    least = _least_wanted(column)
    return max(min(wanted, column.most), least) if wanted else 0 if column.sparse else least


def fit(columns: Sequence[Column], wanted: Sequence[int], room: int) -> list[int]:
    """The width of each column, where names come before what can be spared: see `_fit`.

    Of a list of names a few letters more show nothing; so it takes the room of others only if it is whole then.
    """
    needs = list(wanted)
    widths = first = _fit(columns, needs, room)
    while cut := _cut_names(columns, widths, wanted):
        spare = [i for i, column in enumerate(columns) if widths[i] and column.order >= SPARE_ORDER]
        if not spare:
            return widths if any(columns[i].cut != "list" for i in cut) else first
        needs[max(spare, key=lambda i: (columns[i].order, i))] = 0
        widths = _fit(columns, needs, room)
    return widths


def _cut_names(columns: Sequence[Column], widths: Sequence[int], wanted: Sequence[int]) -> list[int]:
    return [i for i, column in enumerate(columns) if column.cut in NAMES and 0 < widths[i] < wanted[i]]


def _fit(columns: Sequence[Column], wanted: Sequence[int], room: int) -> list[int]:
    """The width of each column, 0 for one that is left out.

    The choice of columns depends as little as possible on their texts. A `marked` one counts with its `least` even
    while it is empty, because otherwise other columns would come and go with its texts.

    The widths depend on the texts. Room that a column does not need goes to columns that are cut, then to smaller
    columns that have been left out. Only the rest goes to columns that are empty.
    """
    places = sorted(range(len(columns)), key=lambda i: (columns[i].order, i))
    widths = [0] * len(columns)

    def grow(chosen: Sequence[int], most: Sequence[int]) -> None:
        for i in chosen:
            widths[i] += max(min(most[i] - widths[i], room - _total(widths)), 0)

    def fits(i: int) -> bool:
        least = _reckoned(columns[i], wanted[i])
        return not columns[i].order or _total(widths) + GAP * any(widths) + least <= room

    left_out: list[int] = []
    for i in places:
        if left_out or not fits(i):
            left_out.append(i)
        else:
            widths[i] = _reckoned(columns[i], wanted[i])
    for i in places:
        widths[i] = min(widths[i], wanted[i])
    grow([i for i in places if widths[i]], wanted)
    for i in left_out:
        if fits(i):
            widths[i] = min(_reckoned(columns[i], wanted[i]), wanted[i])
            grow([i], wanted)
    grow([i for i in places if widths[i]], [column.least for column in columns])
    return widths


def _reckoned(column: Column, wanted: int) -> int:
    return 0 if not wanted else column.least if column.marked else min(column.least, wanted)


def _total(widths: Sequence[int]) -> int:
    """Return the width of all columns, with the gaps between those that are shown."""
    return sum(widths) + GAP * max(sum(width > 0 for width in widths) - 1, 0)


def heading(columns: Sequence[Column], widths: Sequence[int], view: Arrangement) -> Line:
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
    blanks = 0  # before the next text
    gap = 0
    for i, (cell, width) in enumerate(zip(row.cells, widths, strict=True)):
        if not width:
            continue
        text = _cut(cell.text, width, columns[i].cut)
        free = width - cells_of(text)
        right = columns[i].right
        blanks += gap + free if right else gap
        gap = GAP
        if text:
            if blanks:
                spans.append(Span(" " * blanks))
            spans.append(Span(text, f"{cell.style} {mark}" if i in marked else cell.style))
            blanks = 0
        blanks += 0 if right else free
    return (*spans, Span(" " * blanks)) if blanks else tuple(spans)


def changed(places: Sequence[int], before: Row, after: Row) -> list[int]:
    """Return those of the columns at these places that have another text than before."""
    old, new = before.cells, after.cells
    return [i for i in places if old[i].text != new[i].text]


def _least_wanted(column: Column) -> int:
    """Room for the title and the sign of a sort. One of a single width is for figures, which it would tremble with."""
    return max(len(column.title) + 1, column.least if column.least == column.most else 0)


def _cut(text: str, width: int, how: Cut) -> str:
    if len(text) <= width and text.isascii():
        return text
    if how == "words":
        return clip_words(text, width)
    if how == "list":
        return clip_words(text, width, LIST)
    if how == "class":
        return _HALF_A_WORD.sub(ELLIPSIS, clip_start(text, width))
    return clip_start(text, width) if how == "start" else clip(text, width)


def _pad(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else set_cell_size(text, width)
