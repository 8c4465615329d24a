"""Which cells of equal length spans cover, and how much of each: rows of bits. Pure.

A row has a number with a bit for each cell: a span that lasts for minutes costs no more than a short one.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

from semtrace.timelines.spans import Span, Thing

By = Literal["worker", "lock", "server"]

NOISE = 1e-6  # of a cell: so little is how floating point rounds, not time


class Shares:
    """The share of each cell: all of it where `full` has its bit, else the value in `parts`."""

    __slots__ = ("full", "parts")

    def __init__(self) -> None:
        self.full = 0
        self.parts: dict[int, float] = {}


class Row:
    __slots__ = ("counted", "held", "held_of", "orphaned", "sampled", "thinned", "waiting", "waits_of")

    def __init__(self) -> None:
        self.held, self.waiting = Shares(), Shares()
        self.held_of: dict[Thing, int] = {}
        self.waits_of: dict[Thing, int] = {}
        self.orphaned = self.sampled = self.thinned = self.counted = 0


NOTHING = Row()


class Drawing:
    """Rows of cells; bit 0 is cell number `base`."""

    def __init__(self, by: By, cell_s: float, base: int) -> None:
        self.base = base
        self.rows: dict[Hashable, Row] = {}
        self.waited: dict[Thing, int] = {}
        self._by = by
        self._cell_s = cell_s

    def draw(self, span: Span) -> None:
        end = span.end / self._cell_s - self.base
        if end <= 0 or (self._by == "worker" and span.process is None):
            return
        start = max(span.start / self._cell_s - self.base, 0.0)
        first, last = int(start), int(end)
        if last > first and end - last < NOISE:
            last -= 1
        if last > first and first + 1 - start < NOISE:
            first += 1
        bits = (1 << (last + 1)) - (1 << first)
        row = self._row(span)
        if not span.exact:
            row.sampled |= bits
        if span.one_in > 1:
            row.thinned |= bits
        if span.longest_s is not None:
            row.counted |= bits
        if span.what == "held":
            row.held_of[span.lock] = row.held_of.get(span.lock, 0) | bits
            self._share(row.held, span.share, start, end, first, last)
        elif span.what == "waiting":
            row.waits_of[span.lock] = row.waits_of.get(span.lock, 0) | bits
            self.waited[span.lock] = self.waited.get(span.lock, 0) | bits
            self._share(row.waiting, span.share, start, end, first, last)
        else:
            row.orphaned |= bits

    def trim(self, base: int) -> None:
        """Forget the cells before `base`."""
        gone, self.base = base - self.base, base
        for name, row in list(self.rows.items()):
            row.orphaned >>= gone
            row.sampled >>= gone
            row.thinned >>= gone
            row.counted >>= gone
            row.held_of = _shifted(row.held_of, gone)
            row.waits_of = _shifted(row.waits_of, gone)
            for shares in (row.held, row.waiting):
                shares.full >>= gone
                shares.parts = {place: part for place, part in shares.parts.items() if place >= base}
            if not (row.held_of or row.waits_of or row.orphaned):
                del self.rows[name]
        self.waited = _shifted(self.waited, gone)

    def _row(self, span: Span) -> Row:
        name = span.process if self._by == "worker" else span.lock if self._by == "lock" else None
        row = self.rows.get(name)
        if row is None:
            row = self.rows[name] = Row()
        return row

    def _share(self, shares: Shares, share: float, start: float, end: float, first: int, last: int) -> None:
        parts, base = shares.parts, self.base
        if first == last:
            parts[first + base] = parts.get(first + base, 0.0) + (end - start) * share
            return
        parts[first + base] = parts.get(first + base, 0.0) + (first + 1 - start) * share
        parts[last + base] = parts.get(last + base, 0.0) + (end - last) * share
        if share >= 1.0:
            shares.full |= (1 << last) - (1 << (first + 1))
            return
        for place in range(first + base + 1, last + base):
            parts[place] = parts.get(place, 0.0) + share


def _shifted(masks: dict[Thing, int], by: int) -> dict[Thing, int]:
    return {lock: bits >> by for lock, bits in masks.items() if bits >> by}
