"""`t`: the last minute, a row for each worker or lock. The cursor tells who held what, from when to when."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from semtrace.raster import By, Raster, spans_at
from semtrace.text import age
from semtrace.tui import timeline_rows as lines
from semtrace.tui.bar import Bar
from semtrace.tui.drawn import Drawn
from semtrace.tui.line import Item, Line, Span
from semtrace.tui.looking import Looking
from semtrace.tui.view import Open, View

WINDOWS_S = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
READOUTS = 3
FOOTER = ("back", "choose", "pause", "copy", "help")
HINTS = (("l", "workers/locks"), ("< >", "zoom"), ("←→", "cursor"), ("End", "now"))


class Chart(Drawn, can_focus=True):
    """Draws what it is given, and says where the mouse was."""

    class Touched(Message):
        def __init__(self, x: int, y: int, twice: bool) -> None:
            super().__init__()
            self.x, self.y, self.twice = x, y, twice

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Touched(event.x, event.y, event.chain > 1))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.screen.call_later(self.screen.run_action, "row(1)")

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.screen.call_later(self.screen.run_action, "row(-1)")


class TimelineScreen(View):
    """`_until_s` lies in the last cell that is shown, `_at_s` in the cursor's: so they survive another zoom or size.
    None while it follows the time.
    """

    AUTO_FOCUS: ClassVar[str | None] = "Chart"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "back", show=False),
        Binding("l,tab", "switch", show=False),
        Binding("left,h", "cell(-1)", show=False),
        Binding("right", "cell(1)", show=False),
        Binding("shift+left,pageup", "tenth(-1)", show=False),
        Binding("shift+right,pagedown", "tenth(1)", show=False),
        Binding("home", "first", show=False),
        Binding("end,G", "follow", show=False),
        Binding("up,k", "row(-1)", show=False),
        Binding("down,j", "row(1)", show=False),
        Binding("less_than_sign,z", "zoom(-1)", show=False),
        Binding("greater_than_sign,Z", "zoom(1)", show=False),
        Binding("enter", "choose", show=False),
    ]

    def __init__(self, looking: Looking) -> None:
        super().__init__()
        self._looking = looking
        self._by: By = "worker"
        self._window_s = 60.0
        self._until_s: float | None = None
        self._at_s: float | None = None
        self._row: Hashable = None
        self._top = 0
        self._rows: list[tuple[Hashable, str]] = []
        self._raster: Raster | None = None

    def compose(self) -> ComposeResult:
        yield Bar(id="sheet-title")
        yield Chart(id="chart")
        for number in range(READOUTS):
            yield Bar(id=f"readout-{number}", base="")
        yield Bar(id="legend", base="")
        yield from self.foot()

    def on_mount(self) -> None:
        self.say_keys()
        self.bar("legend").say(lines.legend_line)

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self.renew)

    def keys(self) -> Sequence[str]:
        return FOOTER

    def hints(self) -> Sequence[Item]:
        return [Item(1, (Span(key, "key"), Span(f" {word}", "dim"))) for key, word in HINTS]

    def copied(self) -> str:
        return "\n".join(self._readouts())

    # ---- keys

    def action_switch(self) -> None:
        self._by = "lock" if self._by == "worker" else "worker"
        self._row, self._top, self._raster = None, 0, None
        self.renew()

    def action_zoom(self, by: int) -> None:
        """What the cursor is on stays where it is on the screen."""
        before = self._window_s
        place = WINDOWS_S.index(before) + by
        self._window_s = WINDOWS_S[max(0, min(place, len(WINDOWS_S) - 1))]
        if self._until_s is not None and self._at_s is not None:
            self._until_s = self._at_s + (self._until_s - self._at_s) * self._window_s / before
        self.action_cell(0)

    def action_cell(self, by: int) -> None:
        """The window stays where it is as soon as one looks back, and moves with the cursor at its edges."""
        newest, count = self._newest(), self._count()
        cursor = self._cursor() + by
        if cursor >= newest or count < 1:
            self.action_follow()
            return
        cursor = max(cursor, int((self._looking.timeline.since or 0.0) // self._cell_s()))
        last = min(max(self._last(), cursor), cursor + count - 1, newest)
        self._at_s, self._until_s = self._middle(cursor), self._middle(last)
        self.renew()

    def action_tenth(self, by: int) -> None:
        self.action_cell(by * max(self._count() // 10, 1))

    def action_first(self) -> None:
        self.action_cell(-(10**9))

    def action_follow(self) -> None:
        self._until_s = self._at_s = None
        self.renew()

    def action_row(self, by: int) -> None:
        places = [row for row, _ in self._rows]
        if places:
            at = places.index(self._row) if self._row in places else 0
            self._row = places[max(0, min(at + by, len(places) - 1))]
            self.renew()

    def action_choose(self) -> None:
        subject = lines.subject_of(self._row)
        if subject is not None:
            self.post_message(Open(subject))

    def on_chart_touched(self, event: Chart.Touched) -> None:
        place = self._top + event.y - 1
        if 0 <= place < len(self._rows):
            self._row = self._rows[place][0]
        cell = event.x - lines.label_width(self.size.width) - 1
        if 0 <= cell < self._count():
            self.action_cell(self._first() + cell - self._cursor())
        if event.twice:
            self.action_choose()
        self.renew()

    # ---- drawing

    def renew(self) -> None:
        snapshot, chart = self._looking.snapshot, self.query_one(Chart)
        if snapshot is None or not chart.size.height or self._count() < 1:
            return
        if self._raster is None or self._raster.cell_s != self._cell_s():
            self._raster = Raster(self._looking.timeline, self._by, self._cell_s())
        first, count = self._first(), self._count()
        rows = lines.labels(self._looking.timeline, self._by)
        covers = dict(zip(rows, lines.covers(self._raster, rows, first, count), strict=True))
        rows.sort(key=lambda row: lines.worst(covers[row]))
        self._rows = rows
        if self._row not in [row for row, _ in rows]:
            self._row = rows[0][0] if rows else None
        self._scroll(chart.size.height - 1)
        label = lines.label_width(self.size.width)
        cursor = self._cursor() - first
        drawn: list[Line] = [self._axis(first, count, label)]
        for row in rows[self._top : self._top + chart.size.height - 1]:
            chosen = row[0] == self._row
            pointed = cursor if chosen or self._at_s is not None else None
            drawn.append(lines.row_line(row[1], covers[row], label, pointed, chosen))
        chart.draw(drawn)
        self._say_title()
        notes = lines.notes(self._looking.timeline, covers.values(), first * self._cell_s(), snapshot)
        said = self._readouts()
        for number in range(READOUTS):
            if number < len(said):
                self.bar(f"readout-{number}").say_text(said[number])
            else:
                self.bar(f"readout-{number}").say_text("; ".join(notes) if number == READOUTS - 1 else "", "dim")

    def _readouts(self) -> list[str]:
        snapshot = self._looking.snapshot
        if snapshot is None:
            return []
        cell_s = self._cell_s()
        at = self._cursor() * cell_s
        timeline = self._looking.timeline
        spans = spans_at(timeline, self._by, self._row, at, at + cell_s)
        said = [lines.readout(span, snapshot, timeline) for span in spans[:READOUTS]]
        if self._by == "worker":
            met = [spans_at(timeline, "lock", span.lock, at, at + cell_s) for span in spans[:READOUTS]]
            said = [text + lines.others(*pair) for text, pair in zip(said, zip(spans, met, strict=False), strict=True)]
        clock = lines.clock(at, snapshot.monotonic_s, snapshot.taken_at)
        if not said:
            return [f"{clock}  nothing"]
        if len(spans) > READOUTS:
            said[-1] = f"and {len(spans) - READOUTS + 1} more at {clock}"
        return said

    def _say_title(self) -> None:
        items = [
            Span(f" {lines.title_of(self._by)}", "title.focus"),
            Span(f"  {age(self._window_s)} wide, a cell is {self._cell_s():.3g}s", "dim"),
        ]
        if self._until_s is not None:
            items.append(Span("  it stands still: End goes back to now", "warning"))
        if self._looking.paused:
            items.append(Span("  paused", "warning"))
        self.bar("sheet-title").say(lambda width: tuple(items))

    def _axis(self, first: int, count: int, indent: int) -> Line:
        snapshot = self._looking.snapshot
        assert snapshot is not None
        follows = self._until_s is None
        now, taken = snapshot.monotonic_s, snapshot.taken_at
        return lines.axis_line(first, count, self._cell_s(), now, taken, follows, indent)

    def _scroll(self, room: int) -> None:
        at = next((place for place, (row, _) in enumerate(self._rows) if row == self._row), 0)
        self._top = max(min(self._top, at, len(self._rows) - room), at - room + 1, 0)

    def _count(self) -> int:
        return self.size.width - lines.label_width(self.size.width) - 2

    def _cell_s(self) -> float:
        return self._window_s / max(self._count(), 1)

    def _newest(self) -> int:
        snapshot = self._looking.snapshot
        return int((snapshot.monotonic_s if snapshot else 0.0) // self._cell_s())

    def _cursor(self) -> int:
        return self._newest() if self._at_s is None else int(self._at_s // self._cell_s())

    def _last(self) -> int:
        return self._newest() if self._until_s is None else int(self._until_s // self._cell_s())

    def _first(self) -> int:
        return self._last() + 1 - self._count()

    def _middle(self, cell: int) -> float:
        return (cell + 0.5) * self._cell_s()
