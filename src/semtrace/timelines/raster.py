"""Spans of a timeline as cells of equal length, a row for each worker or lock. Pure.

Cells lie at multiples of their length since the clock began: a cell that is over stays as it is while time goes on.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import islice
from math import ceil, floor
from typing import Literal, NamedTuple

from semtrace.model import ProcessId
from semtrace.timelines.bitrows import NOISE, NOTHING, Drawing, Shares
from semtrace.timelines.bitrows import By as By
from semtrace.timelines.spans import Key, Span, Thing
from semtrace.timelines.timeline import Life, Timeline

Cover = Literal["idle", "held", "contended", "waiting", "orphaned", "began", "ended", "unknown"]

MARGIN = 512  # so many cells before the window are drawn with it
MOST_BEFORE = 4096  # and so many are kept
LITTLE = 0.05  # of a cell: a thread that waited for less and held for more counts as a holder
MUCH = 0.5  # a thread that both held and waited for so long is the holder: several threads' waits exceed a cell


class Cell(NamedTuple):
    """The state of a row in one cell. For a worker it is "waiting" if it mostly waited, else "contended" if others
    waited for its lock. `both` is set if it did both, in turn or by several threads: waits never hide a hold. For a
    lock and the server it is the worst state; "waiting" is then for locks without a known holder.

    `held` and `waiting` are shares, 0 to 1. `exact`: from events, `thinned`: from some of them, `counted`: from a
    count.
    """

    cover: Cover
    held: float = 0.0
    waiting: float = 0.0
    exact: bool = False
    thinned: bool = False
    counted: bool = False
    both: bool = False


IDLE = Cell("idle")
BEGAN = Cell("began")
ENDED = Cell("ended")
UNKNOWN = Cell("unknown")


class Raster:
    """Draw each ended span and each past cell once. Spans that go on are drawn again each time."""

    def __init__(self, timeline: Timeline, by: By, cell_s: float) -> None:
        self.by = by
        self.cell_s = cell_s
        self._timeline = timeline
        self._drawing: Drawing | None = None
        self._drawn = 0
        self._going_on: dict[tuple[Key, bool], tuple[float, bool, float]] = {}  # what `_live` drew last
        self._updated_s = 0.0
        self._known: dict[Hashable, tuple[int, list[Cell]]] = {}  # of each row, from which cell on

    def update(self, oldest: int) -> Drawing:
        """Take in the spans that have ended since, for the cells from `oldest` on; return those that go on."""
        timeline, drawing = self._timeline, self._drawing
        if self._drawn < timeline.closed_ever - len(timeline.closed):
            drawing = None  # what it has not drawn yet was counted together with what it has
        new: Iterable[Span] = islice(reversed(timeline.closed), timeline.closed_ever - self._drawn)
        changed_s = self._updated_s
        if drawing is None or oldest < drawing.base:
            drawing = self._drawing = Drawing(self.by, self.cell_s, oldest - MARGIN)
            new, changed_s = timeline.ended_after(drawing.base * self.cell_s), float("-inf")
        elif oldest - drawing.base > MOST_BEFORE:
            drawing.trim(oldest - MARGIN)
            changed_s = float("-inf")
        for span in new:
            drawing.draw(span)
            changed_s = min(changed_s, span.start)
        self._drawn = timeline.closed_ever
        self._updated_s = timeline.last or 0.0
        live, changed_s = self._live(drawing.base, changed_s)
        self._forget(changed_s)
        return live

    def cells(self, row: Hashable, first: int, count: int, live: Drawing) -> list[Cell]:
        """`count` cells from number `first` on; `live` is what `update` gave for these or earlier ones."""
        start, known = self._known.get(row, (first, []))
        if not start <= first <= start + len(known):
            start, known = first, []
        elif first - start > MARGIN:
            start, known = first, known[first - start :]
        missing = first + count - start - len(known)
        if missing > 0:
            known += self._covered(row, start + len(known), missing, live)
        self._known[row] = start, known
        return self._limited(row, known[first - start : first - start + count], first)

    def _live(self, base: int, changed_s: float) -> tuple[Drawing, float]:
        """Return the spans that go on, and since when the picture has changed: a span that only grew changes the new
        part.
        """
        live = Drawing(self.by, self.cell_s, base)
        before, self._going_on = self._going_on, {}
        for span in self._timeline.open:
            live.draw(span)
            key, drawn = (span.key, span.longest_s is None), (span.start, span.exact, span.share * span.one_in)
            if before.get(key) != drawn:
                changed_s = min(changed_s, span.start)
            self._going_on[key] = drawn
        gone = (drawn[0] for key, drawn in before.items() if self._going_on.get(key) != drawn)
        return live, min(changed_s, min(gone, default=changed_s))

    def _forget(self, changed_s: float) -> None:
        """Forget the cells that may have changed since."""
        if changed_s == float("-inf"):
            self._known.clear()
            return
        changed = int(changed_s // self.cell_s) - 1
        for start, cells in self._known.values():
            del cells[max(changed - start, 0) :]

    def _covered(self, row: Hashable, first: int, count: int, live: Drawing) -> list[Cell]:
        assert self._drawing is not None
        old, new = self._drawing.rows.get(row, NOTHING), live.rows.get(row, NOTHING)
        if old is NOTHING and new is NOTHING:
            return [IDLE] * count
        window = ((1 << count) - 1) << (first - live.base)
        held_of, waits_of = _union(old.held_of, new.held_of, window), _union(old.waits_of, new.waits_of, window)
        if not held_of and not waits_of and not (old.orphaned | new.orphaned) & window:
            return [IDLE] * count
        contended = unheld = 0
        for lock, bits in held_of.items():
            contended |= bits & (self._drawing.waited.get(lock, 0) | live.waited.get(lock, 0))
        for lock, bits in waits_of.items():
            unheld |= bits & ~held_of.get(lock, 0)
        flags = (
            old.orphaned | new.orphaned,
            _either(held_of),
            _either(waits_of),
            contended,
            unheld,
            old.sampled | new.sampled,
            old.thinned | new.thinned,
            old.counted | new.counted,
            old.held.full | new.held.full,
            old.waiting.full | new.waiting.full,
        )
        words = [_word(bits, first - live.base, count) for bits in flags]
        cells = []
        by_worker = self.by == "worker"
        for place, (orphan, holds, waits, shared, alone, sampled, thinned, counted, all_held, all_waiting) in enumerate(
            zip(*words, strict=True), first
        ):
            held = 1.0 if all_held == "1" else _part(old.held, new.held, place) if holds == "1" else 0.0
            waiting = 1.0 if all_waiting == "1" else _part(old.waiting, new.waiting, place) if waits == "1" else 0.0
            both = by_worker and holds == waits == "1" and not (waiting < LITTLE and waiting < held - NOISE)
            longer = waiting >= held - NOISE if alone == "1" else waiting > held + NOISE and held < MUCH - NOISE
            if orphan == "1":
                cover: Cover = "orphaned"
            elif waits == "1" and (longer if by_worker else alone == "1"):
                cover = "waiting"
            elif shared == "1":
                cover = "contended"
            elif holds == "1":
                cover = "held"
            else:
                cells.append(IDLE)
                continue
            cells.append(Cell(cover, held, waiting, sampled == "0", thinned == "1", counted == "1", both))
        return cells

    def _limited(self, row: Hashable, cells: list[Cell], first: int) -> list[Cell]:
        """Return the cells, with the times without samples or before and after the life of the process."""
        timeline, cell_s = self._timeline, self.cell_s
        life: Life | None = timeline.lives.get(row) if isinstance(row, ProcessId) else None
        began, last = int((timeline.since or 0.0) // cell_s), int((timeline.last or 0.0) // cell_s)
        if life is not None:
            born = int(life.start // cell_s)
            if (
                first <= born < first + len(cells)
                and cells[born - first] is IDLE
                and life.start >= (timeline.since or 0.0)
            ):
                cells[born - first] = BEGAN
            began = max(began, born)
        ended = int(life.end // cell_s) if life is not None and life.ended else None
        if ended is not None:
            _limit(cells, ended + 1 - first, len(cells), ENDED)
        _limit(cells, 0, began - first, UNKNOWN)
        _limit(cells, last + 1 - first, len(cells), UNKNOWN)
        for start, end in timeline.gaps:
            if start < (first + len(cells)) * cell_s and end > first * cell_s:
                # those whose middle lies in the gap
                _limit(cells, floor(start / cell_s - 0.5) + 1 - first, ceil(end / cell_s - 0.5) - first, UNKNOWN)
        return cells


def _limit(cells: list[Cell], start: int, end: int, what: Cell) -> None:
    """Put `what` in the place of idle cells from `start` on, before `end`."""
    for place in range(max(start, 0), min(end, len(cells))):
        if cells[place] is IDLE:
            cells[place] = what


def around(timeline: Timeline, start: float, end: float) -> list[Span]:
    """Return the spans in that time, the longest first."""
    found = [
        span
        for source in (timeline.open, timeline.ended_after(start))
        for span in source
        if span.start < end and span.end >= start
    ]
    return sorted(found, key=lambda span: span.start - span.end)


def of_row(span: Span, by: By, row: Hashable) -> bool:
    return (span.process if by == "worker" else span.lock) == row


def _union(some: dict[Thing, int], others: dict[Thing, int], window: int) -> dict[Thing, int]:
    """Return the union of both, within the window."""
    union = {lock: bits & window for lock, bits in some.items() if bits & window}
    for lock, bits in others.items():
        if bits & window:
            union[lock] = union.get(lock, 0) | (bits & window)
    return union


def _either(masks: dict[Thing, int]) -> int:
    either = 0
    for bits in masks.values():
        either |= bits
    return either


def _word(bits: int, first: int, count: int) -> str:
    """`count` of the bits as the digits 0 and 1, the first one first."""
    return f"{(bits >> first) & ((1 << count) - 1):0{count}b}"[::-1]


def _part(old: Shares, new: Shares, place: int) -> float:
    return min(old.parts.get(place, 0.0) + new.parts.get(place, 0.0), 1.0)
