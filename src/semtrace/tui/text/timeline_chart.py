"""Rows of a timeline as lines, for the timeline's screen, the overview and its strip. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain, islice
from math import ceil
from typing import NamedTuple

from semtrace.timelines.raster import By, Cell, Raster
from semtrace.timelines.spans import Span
from semtrace.timelines.timeline import Timeline
from semtrace.tui.text import timeline_rows as lines
from semtrace.tui.text.attention import AGED_S, OLD_S, Flags, age_style

Ages = Mapping[Hashable, Sequence[str]]  # of each row with an old hold: the style of each cell, "" where none is old


class Window(NamedTuple):
    """The cells in view: the number of the first, how many, and the length of each."""

    first: int
    width: int
    cell_s: float


class Cursor(NamedTuple):
    """The row with the cursor, its cell in the window, and whether the other rows hint at it."""

    row: Hashable
    cell: int
    hinted: bool


class TimelineChart:
    """Rows of one kind. Those that are as they were are not made again: most rows are idle."""

    def __init__(self, timeline: Timeline, by: By) -> None:
        self.timeline = timeline
        self.by = by
        self._raster: Raster | None = None
        self._old_holds = OldHolds(timeline, by)
        self._drawn: dict[Hashable, lines.DrawnRow] = {}

    def cells(self, rows: Sequence[Hashable], window: Window) -> list[list[Cell]]:
        """Return the cells of the rows as the timeline has them."""
        if self._raster is None or self._raster.cell_s != window.cell_s:
            self._raster = Raster(self.timeline, self.by, window.cell_s)
        live = self._raster.update(window.first)
        return [self._raster.cells(row, window.first, window.width, live) for row in rows]

    def seen_cells(self, rows: Sequence[Hashable], window: Window) -> list[list[Cell]]:
        """Return the cells, with the short gaps between two samples as unknown."""
        return [lines.with_unseen(each, self._longest_gap(window)) for each in self.cells(rows, window)]

    def ages(self, window: Window) -> Ages:
        return self._old_holds.ages(window)

    def draw(
        self, rows: Sequence[lines.TimelineRow], window: Window, label: int, flags: Flags, cursor: Cursor | None = None
    ) -> dict[Hashable, lines.DrawnRow]:
        """Return the rows as lines, with labels of that width."""
        longest, ages = self._longest_gap(window), self.ages(window)
        before, self._drawn = self._drawn, {}
        for row, raw in zip(rows, self.cells([row.id for row in rows], window), strict=True):
            chosen = cursor is not None and row.id == cursor.row
            at = cursor.cell if cursor is not None and (chosen or cursor.hinted) else None
            style = "dim" if row.gone else flags.style(row.id)
            of_row = ages.get(row.id, ())
            made_of = (raw, of_row, longest, row.label, label, at, chosen, style)
            known = before.get(row.id)
            if known is None or known.made_of != made_of:
                covers = lines.with_unseen(raw.copy(), longest)
                line = lines.row_line(row.label, covers, label, at, chosen, style, of_row)
                known = lines.DrawnRow(made_of, covers, frozenset(covers), line)
            self._drawn[row.id] = known
        return self._drawn

    def _longest_gap(self, window: Window) -> int:
        """Return how many cells there may be between two samples."""
        return int(self.timeline.step_s // window.cell_s) + 1


class OldHolds:
    """The holds that have the colour of an age, as the tables have it. An ended one is taken in once."""

    def __init__(self, timeline: Timeline, by: By) -> None:
        self._timeline = timeline
        self._by = by
        self._ended: list[Span] = []
        self._seen = -1  # so many had ended at the last time

    def ages(self, window: Window) -> Ages:
        """Return the ages in the window: a cell has the colour that the hold had then."""
        self._take(window)
        found: dict[Hashable, list[str]] = {}
        since = window.first * window.cell_s
        held = [span for span in chain(self._ended, self._timeline.open) if span.end >= since and _is_old(span)]
        for after_s in (AGED_S, OLD_S):  # the older one is put over the other
            for span in held:
                start = max(ceil((span.start + after_s) / window.cell_s) - window.first, 0)
                end = min(int(span.end // window.cell_s) + 1 - window.first, window.width)
                if start < end:
                    styles = found.setdefault(self._row_of(span), [""] * window.width)
                    styles[start:end] = [age_style(after_s)] * (end - start)
        return found

    def _take(self, window: Window) -> None:
        timeline = self._timeline
        new = timeline.closed_ever - self._seen
        if self._seen < 0 or new > len(timeline.closed):
            self._ended = [span for span in (*timeline.closed, *timeline.older) if _is_old(span)]
        elif new:
            self._ended += filter(_is_old, islice(reversed(timeline.closed), new))
        if new and timeline.since is not None:
            self._ended = [span for span in self._ended if span.end >= timeline.since]
        self._seen = timeline.closed_ever

    def _row_of(self, span: Span) -> Hashable:
        return None if self._by == "server" else span.process if self._by == "worker" else span.lock


def _is_old(span: Span) -> bool:
    return span.what == "held" and not span.counted and span.end - span.start >= AGED_S
