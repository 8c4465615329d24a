"""Question at the end of the view: stop the server that semtrace started, or leave it running?"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from semtrace.tui.child import Child
from semtrace.tui.screens.sheets import Page
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.line import Item, Span, spread
from semtrace.tui.text.wrapping import sheet_lines
from semtrace.tui.widgets.bar import Bar

KEYS = (("s", "stop the server"), ("l", "leave it running"), ("Esc", "stay"))


class Leaving(Screen[str]):
    """Answers "stop", "leave" or, to stay, nothing. No other key answers: what stops a server is meant, not hit."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "dismiss('stop')", show=False),
        Binding("l", "dismiss('leave')", show=False),
        Binding("escape,q,f10", "dismiss('')", show=False),
    ]

    def __init__(self, child: Child) -> None:
        super().__init__()
        self._child = child

    def compose(self) -> ComposeResult:
        yield Bar(id="sheet-title")
        yield Page()
        yield Bar(id="keys")

    def on_mount(self) -> None:
        self.query_one("#sheet-title", Bar).say_text("The server still runs", "title.focus")
        items = [Item(0, (Span(key, "key"), Span(f" {word}", "dim"))) for key, word in KEYS]
        self.query_one("#keys", Bar).say(lambda width: spread(items, (), width))

    def on_resize(self) -> None:
        entries = [
            Entry("", f"semtrace started process {self._child.pid}. Stop it or leave it running?"),
            Entry("", ""),
            Entry("s", "stop it with TERM, as Ctrl-C would: it finishes its requests"),
            Entry("l", f"leave it running; its output goes on into {self._child.log}"),
            Entry("Esc", "stay here"),
        ]
        self.query_one(Page).show(list(sheet_lines(entries, self.size.width)))
