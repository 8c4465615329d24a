"""The screen one lives on: header, workers, locks, and what they say. It keeps the last snapshot and draws it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input

from semtrace.model import Lock, Server, Snapshot
from semtrace.tui import header, panes, rows, sentences, subjects
from semtrace.tui.bar import Bar
from semtrace.tui.child import Child
from semtrace.tui.detail import DetailSheet, TakeStacks
from semtrace.tui.entries import Entry, problem_entries
from semtrace.tui.filtering import FilterInput
from semtrace.tui.findings import FindingsSheet
from semtrace.tui.helping import help_entries
from semtrace.tui.log import Log
from semtrace.tui.logs import Logs
from semtrace.tui.messages import Broken, Failed, Pictured
from semtrace.tui.meter import Meter
from semtrace.tui.page import Sheet
from semtrace.tui.poller import Poller, faster, slower
from semtrace.tui.releasing import Release, ReleaseSheet, orphan
from semtrace.tui.source import Source, opened
from semtrace.tui.table import Table
from semtrace.tui.terminal import is_behind, too_small

BEHIND_S = 0.05
SENTENCE_HEIGHT = 14  # below it, the line goes to the panes


class MainScreen(Screen[None]):
    """One server. `back` says whether there is a list of servers to go back to."""

    AUTO_FOCUS = "#locks"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", show=False),
        Binding("plus,equals_sign", "slower", show=False),
        Binding("minus", "faster", show=False),
        # With priority it acts before the keys after it are on their way to the pane: what is typed ahead is text.
        Binding("slash", "filter", show=False, priority=True),
        Binding("question_mark,f1", "help", show=False),
        Binding("a", "signals", show=False),
        Binding("p", "problems", show=False),
        Binding("f", "findings", show=False),
        Binding("R", "release", show=False),
        Binding("e", "log('events')", show=False),
        Binding("o", "log('output')", show=False),
        Binding("escape", "escape", show=False),
        Binding("b", "back", show=False),
        Binding("q", "app.quit", show=False),
    ]

    def __init__(
        self,
        server: Server,
        open_source: Callable[[], Source],
        interval_s: float,
        meter: Meter,
        back: bool,
        child: Child | None = None,
        release: Release | None = None,
        stacks: TakeStacks | None = None,
    ) -> None:
        super().__init__()
        self.snapshot: Snapshot | None = None
        self.paused = False
        self._server = server
        self._back = back
        self._meter = meter
        self._release = release
        self._stacks = stacks
        self._signals = False
        self._logs = Logs(child)
        self._newest: Snapshot | None = None
        self._filtered: Table | None = None
        self._poller: Poller[Snapshot] = Poller(partial(opened, open_source), Pictured, self.post_message, interval_s)

    def compose(self) -> ComposeResult:
        yield Bar(id="header")
        yield Bar(id="banner", base="banner")
        yield Table(rows.WORKERS, id="workers")
        yield Table(rows.LOCKS, id="locks")
        yield Table(rows.PRIVATE, id="private")
        yield self._logs.events
        yield self._logs.output
        yield Bar(id="sentence", base="")
        yield FilterInput()
        yield Bar(id="keys")
        yield Bar(id="too-small", base="")

    def on_mount(self) -> None:
        self._say_keys()
        self._bar("too-small").say_text("terminal too small")
        self._say_notice([f"Looking at process {self._server.pid} …"])
        self._say_header()
        self._poller.start()

    def on_unmount(self) -> None:
        self._poller.stop()

    def on_screen_resume(self) -> None:
        self._show()

    @property
    def is_current(self) -> bool:
        """Only while nothing covers it: else Textual (8.2.8) repaints all at each message of a covered screen."""
        return super().is_current and self.app.screen is self

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(too_small(*event.size), "-too-small")
        self.set_class(event.size.height >= SENTENCE_HEIGHT, "-sentence")
        self._share_height()

    # ---- what the poller tells

    def on_pictured(self, message: Pictured) -> None:
        self._newest = message.snapshot
        if not message.snapshot.alive:
            self._poller.stop()
            self._say_banner(header.ended_banner(message.snapshot))
        elif self.has_class("-banner"):
            self._say_banner("")
        if not self.paused:
            self._catch_up()

    def on_failed(self, message: Failed) -> None:
        if self.snapshot is None:
            self._say_notice([text for text in (f"{message.error}.", message.error.remedy) if text])
        else:
            self._say_banner(header.failed_banner(message.error))

    def on_broken(self, message: Broken) -> None:
        raise message.error

    def _catch_up(self) -> None:
        """Shows the newest picture; a terminal that is behind gets it later, or a newer one instead."""
        if self._newest is self.snapshot or self.paused:
            return
        if is_behind(self.app._driver):
            self.set_timer(BEHIND_S, self._catch_up)
            return
        self.snapshot = self._newest
        self._meter.frame()
        if isinstance(self.app.screen, Sheet):
            self.app.screen.renew()
        else:
            self._show()

    # ---- keys

    def action_pause(self) -> None:
        self.paused = not self.paused
        self._meter.restart()
        self._catch_up()
        self._say_header()

    def action_slower(self) -> None:
        self._set_interval(slower(self._poller.interval_s))

    def action_faster(self) -> None:
        self._set_interval(faster(self._poller.interval_s))

    def action_signals(self) -> None:
        self._signals = not self._signals
        self._show()

    def action_log(self, name: str) -> None:
        log = self.query_one(f"#{name}", Log)
        shown = self._logs.toggle(log)
        self._show()
        self._share_height()
        self.set_focus(log if shown else self._table("locks"))

    def action_help(self) -> None:
        self.app.push_screen(Sheet("Keys and signs", help_entries))

    def action_problems(self) -> None:
        self.app.push_screen(Sheet("Problems: what could not be read", self._problem_entries))

    def action_findings(self) -> None:
        self.app.push_screen(FindingsSheet(lambda: self.snapshot, self._go_to))

    def _go_to(self, pane: str, row: Hashable) -> None:
        table = self._table(pane)
        self.set_focus(table)
        table.select(row)

    def action_release(self) -> None:
        lock = self._releasable()
        if lock is not None and self._release is not None:
            self.app.push_screen(ReleaseSheet(self._server, lock, lambda: self.snapshot, self._release))

    def _releasable(self) -> Lock | None:
        return orphan(self._focused_table().selected, self.snapshot) if self._release else None

    def action_back(self) -> None:
        if self._back:
            self.dismiss(None)

    def action_escape(self) -> None:
        """Leaves the innermost thing: the filter, then the server."""
        table = self._focused_table()
        if table.view.filter:
            table.set_filter("")
        else:
            self.action_back()

    def action_filter(self) -> None:
        self._filtered = self._focused_table()
        self._filter_box.open(self._filtered.view.filter)
        self._share_height()
        self.set_focus(self._filter_box)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a filter is typed, `/` is a letter."""
        return action != "filter" or not self._filter_box.display

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._filtered is not None:
            self._filtered.set_filter(event.value)

    def on_filter_input_closed(self, event: FilterInput.Closed) -> None:
        table = self._focused_table()
        self._filtered = None
        self._filter_box.display = False
        self._share_height()
        if not event.keep:
            table.set_filter("")
        self.set_focus(table)

    def on_table_moved(self, event: Table.Moved) -> None:
        self._say_sentence()
        self._say_keys()

    def on_table_chosen(self, event: Table.Chosen) -> None:
        # The rows of the event log and of the output are about nothing that has details.
        if self.snapshot is not None and subjects.find(event.row, self.snapshot) is not None:
            title = subjects.title(event.row, self.snapshot)
            self.app.push_screen(DetailSheet(title, event.row, lambda: self.snapshot, self._stacks))

    # ---- drawing

    def _show(self) -> None:
        snapshot = self.snapshot
        if snapshot is None:
            return
        now = snapshot.monotonic_s
        shown = rows.shown_locks(snapshot, self._signals)
        workers = self._table("workers")
        workers.show(rows.worker_rows(snapshot), header.workers_title(snapshot), ["No process is left."], now)
        locks = self._table("locks")
        notice = [] if shown.locks else sentences.no_locks(snapshot, shown)
        locks.show(rows.lock_rows(snapshot, shown.locks), header.locks_title(shown), notice, now)
        private = self._table("private")
        private.show(rows.private_rows(snapshot.thread_locks), header.private_title(snapshot), (), now)
        self._logs.show(snapshot)
        self._share_height()
        self._say_header()
        self._say_keys()
        self._say_sentence()

    def _say_notice(self, notice: Sequence[str]) -> None:
        """Before there is a picture."""
        self._table("workers").show((), header.bare_title("Workers"), (), 0.0)
        self._table("locks").show((), header.bare_title("Locks"), notice, 0.0)
        self._share_height()

    def _share_height(self) -> None:
        """Sets only what changes: every change of a height is a layout."""
        tables = [self._table(name) for name in ("workers", "locks", "private", "events", "output")]
        private_wanted = bool(self.snapshot and self.snapshot.thread_locks)
        logs = self._logs.wanted(self.size.height)
        wanted = [
            tables[0].wanted_height + 1,
            tables[1].wanted_height + (private_wanted or any(logs)),
            tables[2].wanted_height * private_wanted,
            *logs,
        ]
        bars = 2 + self.has_class("-banner") + self.has_class("-sentence") + self._filter_box.display
        for table, height in zip(tables, panes.share(self.size.height - bars, wanted), strict=True):
            table.set_height(height)

    def _say_header(self) -> None:
        gauge = header.Gauge(self._poller.interval_s, self._meter.rate, self._meter.cpu_percent, self.paused)
        self._bar("header").say(partial(header.header_line, self._server, self.snapshot, gauge))

    def _say_keys(self) -> None:
        release = () if self._releasable() is None else (header.RELEASE,)
        keys = (*release, *header.KEYS[:-2], *self._logs.keys(self.snapshot), *header.KEYS[-2:])
        self._bar("keys").say(partial(header.keys_line, keys))

    def _say_banner(self, text: str) -> None:
        self.set_class(bool(text), "-banner")
        self._bar("banner").say_text(text)
        self._share_height()

    def _say_sentence(self) -> None:
        row = self._focused_table().selected
        said = subjects.sentence(row, self.snapshot) if self.snapshot else ""
        self._bar("sentence").say_text(said, "dim")

    def _set_interval(self, interval_s: float) -> None:
        self._poller.set_interval(interval_s)
        self._meter.restart()
        self._say_header()

    def _problem_entries(self) -> Iterable[Entry]:
        problems = self.snapshot.problems if self.snapshot else ()
        return problem_entries(problems) if problems else [Entry("", "Everything could be read.", "dim")]

    def _focused_table(self) -> Table:
        return self.focused if isinstance(self.focused, Table) else self._filtered or self._table("locks")

    def _table(self, name: str) -> Table:
        return self.query_one(f"#{name}", Table)

    @property
    def _filter_box(self) -> FilterInput:
        return self.query_one(FilterInput)

    def _bar(self, name: str) -> Bar:
        return self.query_one(f"#{name}", Bar)
