"""The list of servers, when there are several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from semtrace.model import Server
from semtrace.tui.commands import COMMANDS, hint, hint_of, keys_of, shown
from semtrace.tui.health import Examine, HealthBook
from semtrace.tui.messages import Broken, Examined, Failed, Listed
from semtrace.tui.poller import Poller
from semtrace.tui.screens.view import View
from semtrace.tui.text import rows
from semtrace.tui.text.header import failed_banner, servers_title
from semtrace.tui.text.line import Item
from semtrace.tui.widgets.bar import Bar
from semtrace.tui.widgets.table import Table

REFRESH_S, EXAMINE_S = 2.0, 0.2
NO_SERVER = "No server runs any more."


class ChooserScreen(View):
    """Lists the servers, again every two seconds while it is on top. Other keys do nothing before there is a server."""

    has_verdict = False
    AUTO_FOCUS: ClassVar[str | None] = "#servers"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "app.quit", show=False)]
    asks = True

    class Picked(Message):
        def __init__(self, server: Server) -> None:
            super().__init__()
            self.server = server

    def __init__(
        self,
        servers: Sequence[Server],
        find: Callable[[], Sequence[Server]],
        clock: Callable[[], float],
        examine: Examine | None = None,
    ) -> None:
        super().__init__()
        self._servers = servers
        self._find = find
        self._clock = clock
        self._book = HealthBook(lambda: self._servers, examine) if examine is not None else None
        self._health: rows.Health | None = {} if examine is not None else None
        self._poller: Poller[Sequence[Server]] | None = None
        self._examiner: Poller[rows.Health] | None = None

    def compose(self) -> ComposeResult:
        yield Bar(id="header")
        yield Table(rows.SERVERS, id="servers")
        yield from self.foot()

    def on_mount(self) -> None:
        self.bar("header").say_text("semtrace", "brand")
        self.show_keys()
        self._show(NO_SERVER)

    def keys(self) -> Sequence[str]:
        return ("filter", "sort")

    def hints(self) -> Sequence[Item]:
        keymap = self.app._keymap
        leaving = " ".join(shown(keys_of(name, keymap)[0]) for name in ("back", "quit"))
        return [hint_of("choose", keymap, word="open"), hint(leaving, COMMANDS["quit"], "quit")]

    def leave(self) -> None:
        self.call_later(self.app.run_action, "quit")

    def on_screen_resume(self) -> None:
        self._poller = Poller(lambda: nullcontext(self._find), Listed, self.post_message, REFRESH_S)
        self._poller.start()
        if (book := self._book) is not None:
            self._examiner = Poller(lambda: nullcontext(book.look), Examined, self.post_message, EXAMINE_S)
            self._examiner.start()

    def on_screen_suspend(self) -> None:
        self._stop()

    def on_unmount(self) -> None:
        self._stop()

    def on_listed(self, message: Listed) -> None:
        self._servers = message.servers
        self._show(NO_SERVER)

    def on_examined(self, message: Examined) -> None:
        self._health = message.health
        self._show(NO_SERVER)

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
        self.query_one(Table).show(rows.server_rows(self._servers, now, self._health), title, [nothing], now)

    def _stop(self) -> None:
        for poller in (self._poller, self._examiner):
            if poller is not None:
                poller.stop()
