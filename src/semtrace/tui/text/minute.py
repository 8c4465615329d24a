"""The last minute of each row of a table, as a column of cells. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from semtrace.timelines.raster import IDLE, By, Raster
from semtrace.timelines.raster import Cell as Span
from semtrace.timelines.timeline import Timeline
from semtrace.tui.text.grid import Cell, Column, Row
from semtrace.tui.text.timeline_rows import SIGNS, WORST, sign_of

CELLS = 20
MINUTE_S = 60.0
CELL_S = MINUTE_S / CELLS
COLUMN = Column("LAST MINUTE", CELLS, CELLS, 6, sparse=True)
EVERY_S = 1.0
EMPTY = Cell("")


class Minutes:
    """The last minutes of the rows of one table. They are drawn once a second: no cell of three seconds needs more."""

    def __init__(self, timeline: Timeline, by: By) -> None:
        self._raster = Raster(timeline, by, CELL_S)
        self._drawn_s: float | None = None
        self._cells: dict[Hashable, Cell] = {}

    def of(self, rows: Sequence[Row], now_s: float) -> list[Row]:
        """Return the rows with their last minute as one more cell."""
        if self._drawn_s is None or not 0 <= now_s - self._drawn_s < EVERY_S:
            self._draw(rows, now_s)
        return [_with(row, self._cells.get(row.id, EMPTY)) for row in rows]

    def _draw(self, rows: Sequence[Row], now_s: float) -> None:
        self._drawn_s = now_s
        first = int(now_s // CELL_S) + 1 - CELLS
        live = self._raster.update(first)
        self._cells = {row.id: _cell(self._raster.cells(row.id, first, CELLS, live)) for row in rows}


def without_minute(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with an empty cell instead, for a screen without room for the minute."""
    return [_with(row, EMPTY) for row in rows]


def _with(row: Row, cell: Cell) -> Row:
    return Row(row.id, (*row.cells, cell), row.rank, row.depth, row.pin)


def _cell(cells: list[Span]) -> Cell:
    """Return the cell in one colour, that of the worst span. It sorts by how much of the minute was not idle."""
    if all(cell is IDLE for cell in cells):
        return Cell("·" * CELLS, "dim", 0.0)
    covers = {cell.cover for cell in cells}
    style = next((SIGNS[cover].style for cover in WORST if cover in covers), "dim")
    busy = sum(cell.cover in WORST for cell in cells)
    return Cell("".join(sign_of(cell)[0] for cell in cells), style, float(busy))
