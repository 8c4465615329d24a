"""Spans of a timeline as cells of equal length, a row for each worker or lock. Pure.

Cells lie at multiples of their length since the clock began: a cell that is over stays as it is while time goes on.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from semtrace.model import SemId
from semtrace.timeline import Span, Timeline

By = Literal["worker", "lock", "server"]
Cover = Literal["idle", "held", "contended", "waiting", "orphaned", "ended", "unknown"]

LEAST_S = 2e-6  # a first look has no length, and begins a microsecond before itself
MOST_CELLS = 4000  # a row's, of a span: beyond it nobody looks


@dataclass(frozen=True, slots=True)
class Cell:
    """What a row was in one cell: a worker what it was the most, a lock the worst. `held` and `waiting` are shares of
    it, 0 to 1. `exact`: events told it; `one_in` as in a Span.
    """

    cover: Cover
    held: float = 0.0
    waiting: float = 0.0
    exact: bool = False
    one_in: int = 1


@dataclass(slots=True)
class _Tally:
    held: float = 0.0
    waiting: float = 0.0
    orphaned: float = 0.0
    sampled: bool = False
    one_in: int = 1
    locks: frozenset[SemId] = frozenset()


IDLE = Cell("idle")
ENDED = Cell("ended")
UNKNOWN = Cell("unknown")

_Tallies = dict[Hashable, dict[int, _Tally]]


class Raster:
    """Draws each span that has ended once; only what goes on is drawn anew each time."""

    def __init__(self, timeline: Timeline, by: By, cell_s: float) -> None:
        self.by = by
        self.cell_s = cell_s
        self._timeline = timeline
        self._drawn = timeline.closed_ever - len(timeline.closed)
        self._tallies: _Tallies = {}
        self._waited: dict[SemId, set[int]] = {}
        self._oldest = 0

    def cells(self, row: Hashable, first: int, count: int, live: _Live) -> list[Cell]:
        """`count` cells from number `first` on; `live` is what `update` gave."""
        tallies, fresh = self._tallies.get(row, {}), live.tallies.get(row, {})
        known = [self._cell(place, tallies.get(place), fresh.get(place), live) for place in range(first, first + count)]
        return self._limited(row, known, first)

    def update(self, oldest: int) -> _Live:
        """Takes in what has ended since, forgets cells before `oldest`; returns what goes on."""
        new = self._timeline.closed_ever - self._drawn
        for span in islice(reversed(self._timeline.closed), new):
            self._draw(span, self._tallies, self._waited)
        self._drawn = self._timeline.closed_ever
        if oldest > self._oldest + 200:
            self._oldest = oldest
            for cells in self._tallies.values():
                for place in [place for place in cells if place < oldest]:
                    del cells[place]
            for places in self._waited.values():
                places.difference_update([place for place in places if place < oldest])
        live = _Live({}, {})
        for span in self._timeline.open:
            self._draw(span, live.tallies, live.waited)
        return live

    def row_of(self, span: Span) -> Hashable:
        return {"worker": span.process, "lock": span.lock, "server": None}[self.by]

    def _draw(self, span: Span, tallies: _Tallies, waited: dict[SemId, set[int]]) -> None:
        if self.by == "worker" and span.process is None:
            return
        cells = tallies.setdefault(self.row_of(span), {})
        first, last = int(span.start // self.cell_s), int(span.end // self.cell_s)
        for place in range(max(first, last - MOST_CELLS), last + 1):
            start = place * self.cell_s
            overlap = min(span.end, start + self.cell_s) - max(span.start, start)
            if overlap < LEAST_S:
                continue
            part = overlap / self.cell_s * span.share
            tally = cells.setdefault(place, _Tally())
            tally.sampled |= not span.exact
            tally.one_in = max(tally.one_in, span.one_in)
            if span.what == "held":
                tally.held += part
                if span.lock not in tally.locks:
                    tally.locks |= {span.lock}
            elif span.what == "waiting":
                tally.waiting += part
                waited.setdefault(span.lock, set()).add(place)
            else:
                tally.orphaned += part

    def _cell(self, place: int, old: _Tally | None, new: _Tally | None, live: _Live) -> Cell:
        both = [tally for tally in (old, new) if tally is not None]
        if not both:
            return IDLE
        held = sum(tally.held for tally in both)
        waiting = sum(tally.waiting for tally in both)
        locks = [lock for tally in both for lock in tally.locks]
        cover: Cover = "idle"
        if any(tally.orphaned for tally in both):
            cover = "orphaned"
        elif waiting and (waiting > held if self.by == "worker" else not held):
            cover = "waiting"
        elif held and (waiting or any(self._is_waited(lock, place, live) for lock in locks)):
            cover = "contended"
        elif held:
            cover = "held"
        exact = not any(tally.sampled for tally in both)
        return Cell(cover, min(held, 1.0), min(waiting, 1.0), exact, max(tally.one_in for tally in both))

    def _is_waited(self, lock: SemId, place: int, live: _Live) -> bool:
        return place in self._waited.get(lock, ()) or place in live.waited.get(lock, ())

    def _limited(self, row: Hashable, cells: list[Cell], first: int) -> list[Cell]:
        """With the times when nobody looked, or when the process was not there."""
        timeline, cell_s = self._timeline, self.cell_s
        life = timeline.lives.get(row) if self.by == "worker" else None  # type: ignore[call-overload]
        began, last = int((timeline.first or 0.0) // cell_s), int((timeline.last or 0.0) // cell_s)
        born = int(life.start // cell_s) if life is not None else began
        for i, cell in enumerate(cells):
            place = first + i
            if cell.cover != "idle":
                continue
            if life is not None and life.ended and place > life.end // cell_s:
                cells[i] = ENDED
            elif place < began or place > last or place < born or self._in_gap(place):
                cells[i] = UNKNOWN
        return cells

    def _in_gap(self, place: int) -> bool:
        middle = (place + 0.5) * self.cell_s
        return any(start < middle < end for start, end in self._timeline.gaps)


@dataclass(slots=True)
class _Live:
    tallies: _Tallies
    waited: dict[SemId, set[int]]


def spans_at(timeline: Timeline, by: By, row: Hashable, start: float, end: float) -> list[Span]:
    """What lies in that time of that row, the longest first."""
    wanted: Iterable[Span] = (
        span
        for source in (timeline.open, reversed(timeline.closed))
        for span in source
        if span.start < end and span.end > start and (span.process if by == "worker" else span.lock) == row
    )
    return sorted(wanted, key=lambda span: span.start - span.end)
