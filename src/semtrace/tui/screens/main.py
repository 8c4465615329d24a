"""The screen that is always there: header, workers, locks, and a sentence about the selected row."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from semtrace.errors import SemtraceError
from semtrace.model import Snapshot, Target
from semtrace.rules.headline import Headline, headline
from semtrace.timelines.raster import By
from semtrace.tui import commands
from semtrace.tui.screens.view import Open, Return, View
from semtrace.tui.state import ViewState
from semtrace.tui.terminal.capabilities import too_small
from semtrace.tui.text import brief, header, minute, minute_chart, panes, private, rows, sentences, subjects
from semtrace.tui.text import timeline_rows as lines
from semtrace.tui.text.attention import Flags, lock_attention, private_attention, worker_attention
from semtrace.tui.text.grid import Row
from semtrace.tui.text.line import Span
from semtrace.tui.text.marks import Marks
from semtrace.tui.text.threads import threaded, with_threads, with_two_threads
from semtrace.tui.text.timeline_chart import TimelineChart, Window
from semtrace.tui.widgets.bar import Bar
from semtrace.tui.widgets.foot import Foot
from semtrace.tui.widgets.output import Output
from semtrace.tui.widgets.replay_bar import SeekInput
from semtrace.tui.widgets.table import Table

SENTENCE_HEIGHT = 14  # below it, the line goes to the panes
STRIP_HEIGHT = 20
IDENTITY_HEIGHT = 20  # below it, the answer has the first line for itself
LOW_HEIGHT = 16
STRIP_S = 60.0
MINUTE_WIDTH = 100
MOST_MINUTES = 40
PRIVATE_STATE = 0
ONE_LINE_EACH = frozenset(("-banner", "-sentence", "-introduction", "-replay"))
FOOTER = (
    "timeline",
    "blocking",
    "findings",
    "events",
    "choose",
    "filter",
    "next",
    "sort",
    "pause",
    "copy",
    "settings",
    "problems",
    "signals",
    "layout",
    "lower",
    "about",
    "save",
    "record",
    "palette",
    "help",
    "quit",
)


class MainScreen(View):
    """The overview of one server."""

    has_verdict = False
    topic = "panes"
    BINDINGS: ClassVar[list[BindingType]] = [
        *commands.bindings("signals", "output", "layout", "lower"),
        Binding("backspace", "back", show=False),
    ]
    shows_pause = False  # the header does

    def __init__(self, view_state: ViewState) -> None:
        super().__init__()
        self.view_state = view_state
        self.came_from = ""  # the view that one of its rows was wanted from
        self._signals = view_state.settings.signals
        self._output = Output(view_state.child)
        self._layout = panes.layout_called(view_state.remembered.layout(view_state.server.kind))
        self._lower = panes.lower_called(view_state.remembered.lower(view_state.server.kind))
        self._has_private = False
        self._strip = TimelineChart(view_state.timeline, "server")
        self._chart = minute_chart.MinuteChart(view_state.timeline)
        self._panes: dict[str, Table] = {}
        self._feet: dict[str, Foot] = {}
        self._lock_rows = rows.LockRows()
        self._minutes: dict[By, minute.Minutes] = {}  # what the tables' last column is made of
        self._answer: Headline | None = None  # whether the server moves; None before the first picture and at its end

    @property
    def snapshot(self) -> Snapshot | None:
        return self.view_state.snapshot

    def compose(self) -> ComposeResult:
        yield Bar(id="headline")
        yield Bar(id="header")
        yield Table((*rows.WORKERS, minute.COLUMN), id="workers")
        yield Table((*rows.LOCKS, minute.COLUMN), id="locks")
        yield Table(private.COLUMNS, id="private")
        yield self._output.pane
        yield Foot(id="brief", command="findings")
        yield Foot(id="minute", command="timeline")
        yield Bar(id="strip", base="")
        yield Bar(id="sentence", base="")
        yield from self.foot()
        yield Bar(id="too-small", base="")

    def on_mount(self) -> None:
        self.settle()
        # not AUTO_FOCUS: that waits for a terminal that has the focus
        self.set_focus(self._pane("workers" if panes.LOCKS in self._layout.hidden else "locks"))
        self.show_keys()
        self.bar("too-small").say_text("terminal too small")
        self._say_notice([f"Reading process {self.view_state.server.pid} …"])
        self._say_header()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(too_small(*event.size), "-too-small")
        self.set_class(event.size.height >= SENTENCE_HEIGHT, "-sentence")
        self.set_class(event.size.height < IDENTITY_HEIGHT, "-one-line")
        self.settle()
        self._say_strip()
        self._say_header()

    # ---- what the app reports

    def explain_end(self) -> None:
        """Open the output of a server that semtrace started and that failed: it shows why."""
        child = self.view_state.child
        if child is not None and not child.running and child.exit_code:
            self.view_state.last_output = self._output.read()
            if not self._output.pane.shown:
                self._output.toggle()

    def explain_failure(self, error: SemtraceError) -> None:
        """Say why there are no pictures yet."""
        self._say_notice([text for text in (f"{error}.", error.remedy) if text])

    def report_pace(self) -> None:
        """Show the changed interval, or that the view is paused."""
        self._say_header()

    # ---- keys

    def jump(self, history: Sequence[Snapshot]) -> None:
        """Go to another moment of a recording."""
        self.view_state.jump(history)
        self._strip = TimelineChart(self.view_state.timeline, "server")
        self._chart = minute_chart.MinuteChart(self.view_state.timeline)
        self._minutes.clear()

    def action_signals(self) -> None:
        self._signals = not self._signals
        self.renew()

    def action_layout(self) -> None:
        """The next layout; the focus goes where there is something to see."""
        self._layout = panes.next_layout(self._layout)
        self.view_state.remembered.keep_layout(self.view_state.server.kind, self._layout.name)
        self.settle()
        if self.focused is None or not self.focused.display:
            self.set_focus(self._pane("workers" if panes.LOCKS in self._layout.hidden else "locks"))
        self._say_strip()
        self._say_sentence()
        self.say(f"layout: {self._layout.words}; {commands.shown(self._key_of('layout'))} shows the next")

    def action_lower(self) -> None:
        """Show something else below the tables."""
        self._lower = panes.next_lower(self._lower)
        self.view_state.remembered.keep_lower(self.view_state.server.kind, self._lower.name)
        self.settle()
        self._say_strip()
        self.say(f"below: {self._lower.words}; {commands.shown(self._key_of('lower'))} shows the next")

    def action_output(self) -> None:
        if self.view_state.child is None:
            self.say("semtrace did not start this server: its output goes where it was started")
            return
        self._output.toggle()
        self.renew()
        self.set_focus(self._output.pane if self._output.pane.shown else self._pane("locks"))

    def reveal(self, row: Hashable) -> None:
        """Puts the cursor on the row, in whatever pane it is."""
        for table in self.query(Table):
            if table.has(row):
                if not table.display:
                    self._layout = panes.LAYOUTS[0]
                    self.settle()
                self.set_focus(table)
                table.select(row)

    def leave(self) -> None:
        """Back to the finding that led here, else to the list of servers."""
        if self.came_from:
            name, self.came_from = self.came_from, ""
            self.post_message(Return(name))
        elif self.view_state.several:
            self.dismiss(None)
        else:
            self.say(f"there is nothing to go back to; {commands.shown(self._key_of('quit'))} quits")

    def on_table_moved(self, event: Table.Moved) -> None:
        """The cursor, the focus or a filter has changed."""
        self.settle()
        self._say_sentence()

    def on_table_chosen(self, event: Table.Chosen) -> None:
        # The lines of the output are about nothing that has details, a lock without a name about its owner process.
        row = event.row.process if isinstance(event.row, Target) else event.row
        if self.snapshot is not None and subjects.find(row, self.snapshot) is not None:
            self.post_message(Open(row))

    # ---- drawing

    def renew(self) -> None:
        snapshot = self.snapshot
        if snapshot is None:
            return
        now = snapshot.monotonic_s
        answer = headline(snapshot)
        self._answer = answer if snapshot.alive else None
        self.set_class(snapshot.alive, "-headline")
        marks, flags = Marks(snapshot), Flags(snapshot)
        shown = rows.shown_locks(snapshot, self._signals)
        workers = self._pane("workers")
        title = header.workers_title(snapshot, answer.workers)
        processes = with_two_threads(rows.worker_rows(snapshot), snapshot)
        processes = worker_attention(self._with_minute(processes, "worker", now), snapshot.locks, flags)
        workers.show(processes, title, ["No process is left."], now)
        locks = self._pane("locks")
        notice = [] if shown.locks else sentences.no_locks(snapshot, shown)
        found = with_threads(self._lock_rows.of(snapshot, shown.locks, marks), shown.locks, threaded(snapshot))
        found = lock_attention(self._with_minute(found, "lock", now), shown.locks, flags)
        locks.show(found, header.locks_title(shown, marks), notice, now)
        waits = private.private_waits(snapshot)
        self._has_private = bool(snapshot.thread_locks or waits.nameless)
        count = len(snapshot.thread_locks) + len(waits.nameless)
        pane = self._pane("private")
        mine = private_attention(private.private_rows(snapshot, waits, marks), PRIVATE_STATE, flags)
        pane.show(mine, header.private_title(snapshot, count), (), now)
        self._output.show()
        self.settle()
        self._say_header()
        self._say_strip()
        self._say_sentence()

    def _with_minute(self, table: Sequence[Row], by: By, now_s: float) -> list[Row]:
        """The column costs a little at each snapshot, so it is made only where it has room."""
        snapshot = self.snapshot
        if self.size.width < MINUTE_WIDTH or snapshot is None or len(table) > MOST_MINUTES:
            return minute.without_minute(table)
        if by not in self._minutes:
            self._minutes[by] = minute.Minutes(self.view_state.timeline, by)
        return self._minutes[by].of(table, now_s)

    def _say_notice(self, notice: Sequence[str]) -> None:
        """Before there is a picture."""
        self._pane("workers").show((), header.bare_title("Workers"), (), 0.0)
        self._pane("locks").show((), header.bare_title("Locks"), notice, 0.0)
        self.settle()

    def settle(self) -> None:
        """Shares the height. Sets only what changes: every change of a height is a layout."""
        tables = [self._pane(name) for name in ("workers", "locks", "private", "output")]
        height = self.size.height
        low = height < LOW_HEIGHT  # the locks are the last to go
        private_wanted = self._has_private and not low
        output = self._output.wanted(height)
        wanted = [
            (tables[0].wanted_height + 1) * (not (low and output)),
            tables[1].wanted_height + (private_wanted or bool(output)),
            tables[2].wanted_height * private_wanted,
            output,
        ]
        shown = self.classes
        bars = 2 + len(shown & ONE_LINE_EACH) + self.query_one(SeekInput).display + self.filter_box.display
        bars += "-headline" in shown and "-one-line" not in shown
        strip = height >= STRIP_HEIGHT
        room = height - bars - strip
        wanted = [0 if pane in self._layout.hidden else want for pane, want in enumerate(wanted)]
        findings, chart = self._share_foot(room - sum(wanted) + strip)
        self.set_class(strip and not chart, "-strip")
        left = room - findings - chart + (strip and chart > 0)
        for table, share in zip(tables, panes.arrange(left, wanted, self._layout), strict=True):
            table.set_height(share)

    def _share_foot(self, room: int) -> tuple[int, int]:
        """Give the room below the tables to the findings and the timeline, which takes the line of the strip as well.
        Return their heights.
        """
        snapshot, lower = self.snapshot, self._lower.name
        found = snapshot.findings if snapshot is not None and self.size.height >= IDENTITY_HEIGHT else ()
        strip = self.size.height >= STRIP_HEIGHT
        findings = brief.wanted_height(found, room - strip if lower == "finding" else 0)
        needed = min(brief.needed_height(found, room, self.size.width), findings)
        chart = room - needed
        if snapshot is not None and strip and lower != "nothing" and chart >= minute_chart.LEAST_HEIGHT:
            findings = needed
        else:
            chart = 0
        foot, minute_pane = self._foot("brief"), self._foot("minute")
        foot.set_height(findings)
        minute_pane.set_height(chart)
        if found:
            findings_key = commands.shown(self._key_of("findings"))
            foot.show(lambda width, height: brief.brief_lines(found, height, width, findings_key))
        if chart and snapshot is not None:
            by: By = "worker" if self.focused is self._pane("workers") else "lock"
            listed, key = (self._listed("workers"), self._listed("locks")), commands.shown(self._key_of("timeline"))
            draw = partial(self._chart.draw, snapshot, listed, paused=self.view_state.paused, first=by, key=key)
            minute_pane.show(lambda width, height: draw((width, height)))
        return findings, chart

    def keys(self) -> Sequence[str]:
        return FOOTER if self.view_state.child is None else (*FOOTER[:4], "output", *FOOTER[4:])

    def _say_header(self) -> None:
        view_state, snapshot, answer = self.view_state, self.snapshot, self._answer
        meter, recorder = view_state.meter, view_state.tools.recorder
        replay = " recording " if view_state.tools.player is not None else ""
        if recorder is not None and recorder.running:
            replay = " ● REC "
        gauge = header.Gauge(view_state.interval_s, meter.rate, meter.cpu_percent, view_state.paused, replay)
        alone = answer is None or snapshot is None
        self.bar("header").say(partial(header.header_line, view_state.server, snapshot, gauge, alone=alone))
        if answer is not None and snapshot is not None:
            one_line = self.has_class("-one-line")
            draw = partial(header.headline_line, answer, view_state.server, snapshot, gauge, alone=one_line)
            self.bar("headline").say(draw)

    def _say_strip(self) -> None:
        """The last minute of all locks together."""
        count = lines.strip_cells(self.size.width)
        if self.snapshot is None or not self.has_class("-strip") or count < 1:
            return
        cell_s = STRIP_S / count
        window = Window(int(self.snapshot.monotonic_s // cell_s) + 1 - count, count, cell_s)
        (cells,), ages = self._strip.cells([None], window), self._strip.ages(window).get(None, ())
        self.bar("strip").say(lambda width: lines.strip_line(cells, ages))

    def _say_sentence(self) -> None:
        row = self.table.selected if self.table else None
        text = subjects.sentence(row, self.snapshot) if self.snapshot else ""
        self.bar("sentence").say(lambda width: (Span(" " + sentences.shortened(text, width - 2), "dim"),))

    def _key_of(self, command: str) -> str:
        return commands.keys_of(command, self.app._keymap)[0]

    def _listed(self, pane: str) -> list[Hashable]:
        """Return the rows of a table, none of one that the layout hides."""
        hidden = {"workers": panes.WORKERS, "locks": panes.LOCKS}[pane] in self._layout.hidden
        return [] if hidden else self._pane(pane).listed

    def _foot(self, name: str) -> Foot:
        foot = self._feet.get(name)
        if foot is None:
            foot = self._feet[name] = self.query_one(f"#{name}", Foot)
        return foot

    def _pane(self, name: str) -> Table:
        pane = self._panes.get(name)
        if pane is None:
            pane = self._panes[name] = self.query_one(f"#{name}", Table)
        return pane
