"""The list of servers, when there are several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from semtrace.model import Server
from semtrace.tui import rows
from semtrace.tui.bar import Bar
from semtrace.tui.commands import footer, footer_line
from semtrace.tui.header import failed_banner, servers_title
from semtrace.tui.messages import Broken, Failed, Listed
from semtrace.tui.poller import Poller
from semtrace.tui.table import Table

REFRESH_S = 2.0
FOOTER = ("choose", "sort", "quit")


class ChooserScreen(Screen[None]):
    """Looks again every two seconds while it is on top."""

    AUTO_FOCUS = "#servers"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,escape", "app.quit", show=False)]

    class Picked(Message):
        def __init__(self, server: Server) -> None:
            super().__init__()
            self.server = server

    def __init__(
        self, servers: Sequence[Server], find: Callable[[], Sequence[Server]], clock: Callable[[], float]
    ) -> None:
        super().__init__()
        self._servers = servers
        self._find = find
        self._clock = clock
        self._poller: Poller[Sequence[Server]] | None = None

    def compose(self) -> ComposeResult:
        yield Bar(id="header")
        yield Table(rows.SERVERS, id="servers")
        yield Bar(id="keys")

    def on_mount(self) -> None:
        self._bar("header").say_text("semtrace", "brand")
        self._bar("keys").say(partial(footer_line, footer(FOOTER, self.app._keymap)))
        self._show("No server runs any more.")

    def on_screen_resume(self) -> None:
        self._poller = Poller(lambda: nullcontext(self._find), Listed, self.post_message, REFRESH_S)
        self._poller.start()

    def on_screen_suspend(self) -> None:
        self._stop()

    def on_unmount(self) -> None:
        self._stop()

    def on_listed(self, message: Listed) -> None:
        self._servers = message.servers
        self._show("No server runs any more.")

    def on_failed(self, message: Failed) -> None:
        self._servers = ()
        self._show(failed_banner(message.error))

    def on_broken(self, message: Broken) -> None:
        raise message.error

    def on_table_chosen(self, event: Table.Chosen) -> None:
        server = next((each for each in self._servers if each.id == event.row), None)
        if server is not None:
            self.post_message(self.Picked(server))

    def _show(self, nothing: str) -> None:
        title = servers_title(len(self._servers))
        now = self._clock()
        self.query_one(Table).show(rows.server_rows(self._servers, now), title, [nothing], now)

    def _stop(self) -> None:
        if self._poller is not None:
            self._poller.stop()

    def _bar(self, name: str) -> Bar:
        return self.query_one(f"#{name}", Bar)
