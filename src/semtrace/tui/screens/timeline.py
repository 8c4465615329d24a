"""`t`: the last minute, a row for each worker or lock. The cursor shows who held what, from when to when."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from semtrace.model import Snapshot
from semtrace.timelines.raster import UNKNOWN, By, Cell
from semtrace.tui import commands
from semtrace.tui.screens.view import Open, View
from semtrace.tui.state import ViewState
from semtrace.tui.text import timeline_rows as lines
from semtrace.tui.text.attention import Flags
from semtrace.tui.text.line import Item, Line, Span, spread, text_of
from semtrace.tui.text.timeline_chart import Cursor, TimelineChart, Window
from semtrace.tui.text.timeline_readout import tell
from semtrace.tui.widgets.bar import Bar
from semtrace.tui.widgets.timeline_panes import Chart, Readout

WINDOWS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FOOTER = ("back", "choose", "worst", "pause", "copy", "help")
OTHER_LINES = 3  # title, legend, keys
ROOMY = 8  # from so many lines on, one stays free above what is read out


class TimelineScreen(View):
    """`_until_s` lies in the last cell that is shown, `_at_s` in the cursor's: so they survive another zoom or size.
    None while it follows the time. `_order` is that of the rows since they were last sorted.
    """

    AUTO_FOCUS: ClassVar[str | None] = "Chart"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "back", show=False),
        Binding("up,k", "row(-1)", show=False),
        Binding("down,j", "row(1)", show=False),
        *commands.bindings(
            *(
                "rows",
                "closer",
                "wider",
                "earlier",
                "later",
                "leap_back",
                "leap_on",
                "beginning",
                "now",
                "worst",
                "choose",
            )
        ),
    ]

    def __init__(self, view_state: ViewState) -> None:
        super().__init__()
        self._view_state = view_state
        self._by: By = "worker"
        self._window_s = 60.0
        self._until_s: float | None = None
        self._at_s: float | None = None
        self._row: Hashable = None
        self._top = 0
        self._picked = False  # the row was chosen by hand
        self._rows: list[lines.TimelineRow] = []
        self._order: list[Hashable] | None = None
        self._label = lines.LEAST_LABEL
        self._height = 0
        self._readout_lines: list[Line] = []
        self._drawn: list[Line] = []
        self._chart = TimelineChart(view_state.timeline, self._by)

    def compose(self) -> ComposeResult:
        yield from self.head()
        yield Bar(id="sheet-title")
        yield Chart(id="chart")
        yield Readout(id="readout")
        yield Bar(id="legend", base="")
        yield from self.foot()

    def on_mount(self) -> None:
        self.show_keys()

    def on_screen_suspend(self) -> None:
        """Forget the order of the rows if the screen was left, not covered: they are sorted when it is opened again."""
        if self not in self.app.screen_stack:
            self._order = None

    def on_readout_resized(self, event: Readout.Resized) -> None:
        self.renew()

    def on_resize(self, event: events.Resize) -> None:
        self._label = lines.LEAST_LABEL
        self.call_after_refresh(self.renew)

    def keys(self) -> Sequence[str]:
        return FOOTER

    def hints(self) -> Sequence[Item]:
        keymap = self.app._keymap
        return [
            *commands.footer(("rows",), keymap),
            commands.pair("closer", "wider", keymap),
            commands.pair("earlier", "later", keymap),
            *commands.footer(("now",), keymap),
        ]

    def copied(self) -> str:
        """Return the text on the screen: the rows with their axis, and the readout of the cursor."""
        return "\n".join(text_of(line).rstrip() for line in (*self._drawn, (), *self._readout_lines))

    # ---- keys

    def opened(self) -> None:
        """Go to now: the timeline may have stood still at another time."""
        self._until_s = self._at_s = None

    def action_switch(self) -> None:
        self._by = "lock" if self._by == "worker" else "worker"
        self._row, self._top, self._order, self._label = None, 0, None, lines.LEAST_LABEL
        self.renew()

    def action_worst(self) -> None:
        if self._rows:
            self._order = self._sorted()
            self.renew()
            self.say("the worst first")

    def action_zoom(self, by: int) -> None:
        """Change the width of the window; the time at the cursor stays where it is on the screen."""
        before = self._window_s
        place = WINDOWS_S.index(before) + by
        self._window_s = WINDOWS_S[max(0, min(place, len(WINDOWS_S) - 1))]
        if self._until_s is not None and self._at_s is not None:
            self._until_s = self._at_s + (self._until_s - self._at_s) * self._window_s / before
        self.action_cell(0)

    def action_cell(self, by: int) -> None:
        """Move the cursor. The window stands still while the cursor is in the past, and moves with it at its edges."""
        newest, count = self._newest(), self._count()
        cursor = self._cursor() + by
        if cursor >= newest or count < 1:
            self.action_follow()
            return
        cursor = max(cursor, min(self._since(), self._first()))
        last = min(max(self._last(), cursor), cursor + count - 1, newest)
        self._at_s, self._until_s = self._middle(cursor), self._middle(last)
        self.renew()

    def action_tenth(self, by: int) -> None:
        self.action_cell(by * max(self._count() // 10, 1))

    def action_first(self) -> None:
        self.action_cell(self._since() - self._cursor())

    def action_follow(self) -> None:
        self._until_s = self._at_s = None
        self.renew()

    def action_row(self, by: int) -> None:
        places = [row.id for row in self._rows]
        if places:
            at = places.index(self._row) if self._row in places else 0
            self._row, self._picked = places[max(0, min(at + by, len(places) - 1))], True
            self.renew()

    def action_choose(self) -> None:
        subject = lines.subject_of(self._row)
        if subject is not None:
            self.post_message(Open(subject))

    def on_chart_touched(self, event: Chart.Touched) -> None:
        place = self._top + event.y - 1
        if 0 <= place < len(self._rows):
            self._row, self._picked = self._rows[place].id, True
        cell = event.x - self._label - 1
        if 0 <= cell < self._count():
            self.action_cell(self._first() + cell - self._cursor())
        if event.twice:
            self.action_choose()
        self.renew()

    # ---- drawing

    def renew(self) -> None:
        snapshot, chart = self._view_state.snapshot, self.query_one(Chart)
        if snapshot is None or not chart.size.height:
            return
        rows = lines.labels(self._view_state.timeline, self._by)
        self._label = max(self._label, lines.label_width(self.size.width, rows))
        if self._count() < 1:
            return
        timeline = self._view_state.timeline
        if self._chart.by != self._by or self._chart.timeline is not timeline:
            self._chart = TimelineChart(timeline, self._by)
        self._rows = rows = lines.in_window(rows, self._first() * self._cell_s(), self._row if self._picked else None)
        if self._order is None:
            self._order = self._sorted() if self._by == "lock" else [row.id for row in rows]
        self._rows = lines.arranged(rows, self._order)
        self._order = [row.id for row in self._rows]
        if self._row not in self._order or (not self._picked and self._row in {row.id for row in rows if row.gone}):
            aside = {row.id for row in rows if row.leads or row.gone}
            self._row, self._picked = next(iter(sorted(self._sorted(), key=lambda row: row in aside)), None), False
        self._settle()
        self._draw(snapshot, chart)

    def _draw(self, snapshot: Snapshot, chart: Chart) -> None:
        first, count, cursor = self._first(), self._count(), self._cursor()
        room = self._height - 1
        self._scroll(room)
        shown = self._rows[self._top : self._top + room]
        now = lines.now_of(snapshot, self._view_state.paused)
        pointer = Cursor(self._row, cursor - first, self._at_s is not None)
        rows = self._chart.draw(shown, self._window(), self._label, Flags(snapshot), pointer)
        pointed_at = UNKNOWN
        if self._row in rows and 0 <= cursor - first < count:
            pointed_at = rows[self._row].covers[cursor - first]
        axis = lines.axis_line(first, count, self._cell_s(), now, self._until_s is None, self._label)
        self._drawn = [axis, *(row.line for row in rows.values())]
        chart.draw(self._drawn)
        self._say_title(now, room)
        seen: frozenset[Cell] = frozenset().union(*(row.distinct for row in rows.values()))
        notes = lines.notes(self._view_state.timeline, seen, first * self._cell_s(), snapshot)
        self._read_out(snapshot, notes, pointed_at != UNKNOWN)
        self.bar("legend").say(partial(lines.legend_line, seen, self._by))

    def _sorted(self) -> list[Hashable]:
        """The rows, the worst of what is in the window first."""
        there = [row.id for row in self._rows]
        cells = dict(zip(there, self._chart.seen_cells(there, self._window()), strict=True))
        return sorted(there, key=lambda row: lines.worst(cells[row]))

    def _read_out(self, snapshot: Snapshot, notes: Sequence[str], known: bool) -> None:
        pane, cell_s = self.query_one(Readout), self._cell_s()
        width, height = pane.size
        times = self._cursor() * cell_s, (self._cursor() + 1) * cell_s
        label = next((row.label for row in self._rows if row.id == self._row), "")
        above: list[Line] = [()] * (height > ROOMY)
        room = width, max(height - len(above) - bool(notes), 1)
        self._readout_lines = tell(self._view_state.timeline, snapshot, self._by, self._row, times, room, label, known)
        blank: list[Line] = [()] * (room[1] - len(self._readout_lines))
        below: list[Line] = [(Span(f" {'; '.join(notes)}", "dim"),)] if notes else []
        pane.draw([*above, *self._readout_lines, *blank, *below])

    def _say_title(self, now: lines.Now, room: int) -> None:
        """Show how many of the rows are in view, and the key that goes on if the timeline stands still."""
        shown = (self._top + 1, min(self._top + room, len(self._rows)), len(self._rows))
        key = "" if self._until_s is None else commands.shown(commands.keys_of("now", self.app._keymap)[0])
        items = lines.title_items(self._by, self._window_s, self._cell_s(), now, shown, key)
        self.bar("sheet-title").say(partial(spread, items, ()))

    def _settle(self) -> None:
        """Share the height among the rows and the readout. Only a change costs a layout."""
        gone = sum(row.gone for row in self._rows)
        height = lines.chart_height(
            len(self._rows) - gone,
            gone,
            self.size.height - OTHER_LINES - self.has_class("-verdict") - self.has_class("-introduction"),
        )
        if height != self._height:
            self._height = height
            self.query_one(Chart).styles.height = height

    def _scroll(self, room: int) -> None:
        at = next((place for place, row in enumerate(self._rows) if row.id == self._row), 0)
        self._top = max(min(self._top, at, len(self._rows) - room), at - room + 1, 0)

    def _window(self) -> Window:
        return Window(self._first(), self._count(), self._cell_s())

    def _count(self) -> int:
        return self.size.width - self._label - 2

    def _cell_s(self) -> float:
        return self._window_s / max(self._count(), 1)

    def _newest(self) -> int:
        snapshot = self._view_state.snapshot
        return int((snapshot.monotonic_s if snapshot else 0.0) // self._cell_s())

    def _since(self) -> int:
        return int((self._view_state.timeline.since or 0.0) // self._cell_s())

    def _cursor(self) -> int:
        return self._newest() if self._at_s is None else int(self._at_s // self._cell_s())

    def _last(self) -> int:
        return self._newest() if self._until_s is None else int(self._until_s // self._cell_s())

    def _first(self) -> int:
        return self._last() + 1 - self._count()

    def _middle(self, cell: int) -> float:
        return (cell + 0.5) * self._cell_s()
