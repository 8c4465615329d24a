"""The last minute of the rows of the tables, a line each, for the room below them. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from semtrace.model import Snapshot
from semtrace.timelines.raster import By
from semtrace.timelines.timeline import Timeline
from semtrace.tui.text import timeline_rows as lines
from semtrace.tui.text.attention import Flags
from semtrace.tui.text.line import Line, Span, fill
from semtrace.tui.text.minute import EVERY_S, MINUTE_S
from semtrace.tui.text.timeline_chart import TimelineChart, Window

ABOVE = 2  # an empty line, and the axis with the title
LEAST_HEIGHT = ABOVE + 3


class MinuteChart:
    """Draws once a second: at the usual widths a cell is half of one, and a whole chart at each snapshot costs more
    than the tables.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._charts = (TimelineChart(timeline, "worker"), TimelineChart(timeline, "lock"))
        self._timeline = timeline
        self._drawn_s: float | None = None
        self._made_of: object = None
        self._lines: list[Line] = []

    def draw(
        self,
        snapshot: Snapshot,
        listed: tuple[Sequence[Hashable], Sequence[Hashable]],
        size: tuple[int, int],
        paused: bool = False,
        first: By = "worker",
        key: str = "t",
    ) -> list[Line]:
        """Return the lines for columns and lines. `listed` are the processes and the locks as the tables have them.

        Where room is short, the rows of `first` come before the others. `key` leads to the timeline's screen.
        """
        made_of = (size, paused, first, key, snapshot.alive, *map(frozenset, listed))
        now_s = snapshot.monotonic_s
        if made_of != self._made_of or self._drawn_s is None or not 0 <= now_s - self._drawn_s < EVERY_S:
            self._made_of, self._drawn_s = made_of, now_s
            workers, locks = self._rows("worker", listed[0]), self._rows("lock", listed[1])
            shown = _fitting(workers, locks, first, size[1] - ABOVE)
            self._lines = self._chart_lines(shown, size[0], lines.now_of(snapshot, paused), Flags(snapshot), key)
        return self._lines

    def _rows(self, by: By, listed: Sequence[Hashable]) -> list[lines.TimelineRow]:
        """Return the rows in the order of the table. Those that neither hold nor wait as a rule are at the end."""
        there = {row.id: row for row in lines.labels(self._timeline, by)}
        return sorted((there[each] for each in listed if each in there), key=lambda row: row.leads)

    def _chart_lines(self, shown: Shown, width: int, now: lines.Now, flags: Flags, key: str) -> list[Line]:
        label = lines.label_width(width, (*shown.workers, *shown.locks))
        count = width - label - 2
        if count < 1:
            return []
        cell_s = MINUTE_S / count
        window = Window(int(now.at_s // cell_s) + 1 - count, count, cell_s)
        axis = lines.axis_line(window.first, count, cell_s, now, True, label)
        title = fill((Span(" Timeline", "title"), Span(f" ({key})", "dim")), label + 1)
        workers, locks = (
            [row.line for row in chart.draw(rows, window, label, flags).values()]
            for chart, rows in zip(self._charts, shown[:2], strict=True)
        )
        more: list[Line] = [(Span(f" and {shown.more} more", "dim"),)] if shown.more else []
        return [(), (*title, *axis[1:]), *workers, *[()] * shown.gap, *locks, *more]


class Shown(NamedTuple):
    """The rows that have room, and how many others there are; `gap` is between the two kinds."""

    workers: Sequence[lines.TimelineRow] = ()
    locks: Sequence[lines.TimelineRow] = ()
    more: int = 0
    gap: int = 0


def _fitting(workers: Sequence[lines.TimelineRow], locks: Sequence[lines.TimelineRow], first: By, room: int) -> Shown:
    total = len(workers) + len(locks)
    if total <= room:
        return Shown(workers, locks, gap=int(0 < len(workers) < total < room))
    left = max(room - 1, 0)
    kept_locks = locks[: left if first == "lock" else max(left - len(workers), 0)]
    kept_workers = workers[: left - len(kept_locks)]
    return Shown(kept_workers, kept_locks, total - len(kept_workers) - len(kept_locks))
