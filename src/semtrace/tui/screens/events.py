"""`e`: the events of traced locks as they come, followed until one moves up; Enter opens the lock of an event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from semtrace.model import TracedEvent
from semtrace.tui.screens.view import Open, View
from semtrace.tui.state import ViewState
from semtrace.tui.text.log_rows import EVENTS, NOT_TRACED, event_rows, events_title
from semtrace.tui.widgets.log import Log
from semtrace.tui.widgets.table import Table

FOOTER = ("back", "choose", "filter", "sort", "pause", "copy", "help")


class EventsScreen(View):
    AUTO_FOCUS: ClassVar[str | None] = "#events"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "back", show=False)]

    def __init__(self, view_state: ViewState) -> None:
        super().__init__()
        self._view_state = view_state

    def compose(self) -> ComposeResult:
        yield from self.head()
        yield Log(EVENTS, id="events")
        yield from self.foot()

    def on_mount(self) -> None:
        self.show_keys()

    def on_resize(self, event: events.Resize) -> None:
        self.renew()

    def keys(self) -> Sequence[str]:
        return FOOTER

    def on_table_moved(self, event: Table.Moved) -> None:
        self.renew()

    def on_table_chosen(self, event: Table.Chosen) -> None:
        chosen = next((each for each in self._events() if (each.process, each.sequence) == event.row), None)
        if chosen is not None:
            self.post_message(Open(chosen.lock or chosen.process))

    def renew(self) -> None:
        snapshot = self._view_state.snapshot
        if snapshot is None:
            return
        log = self.query_one(Log)
        notice = ["No event yet."] if snapshot.tracing else NOT_TRACED
        log.show(event_rows(snapshot), events_title(snapshot.tracing, log.following), notice, snapshot.monotonic_s)

    def _events(self) -> tuple[TracedEvent, ...]:
        snapshot = self._view_state.snapshot
        return snapshot.tracing.recent if snapshot and snapshot.tracing else ()
