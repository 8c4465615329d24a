"""A sheet of text that can be scrolled, renewed while it is open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from semtrace.text import counted
from semtrace.tui.screens.view import View
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.line import Line, Span, text_of
from semtrace.tui.text.wrapping import sheet_lines
from semtrace.tui.widgets.bar import Bar
from semtrace.tui.widgets.line_widget import LineWidget

LEAST_FOR_MORE = 4  # lines, below which each is needed for the text itself
Content = Callable[[], Iterable[Entry]]


class Page(LineWidget, can_focus=True):
    """The lines from `top` on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "shift(-1)", show=False),
        Binding("down,j", "shift(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "shift(-1_000_000)", show=False),
        Binding("end,G", "shift(1_000_000)", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="page")
        self._content: list[Line] = []
        self._top = 0

    @property
    def text(self) -> str:
        return "\n".join(text_of(line).rstrip() for line in self._content)

    def show(self, lines: list[Line]) -> None:
        self._content = lines
        self.action_shift(0)

    def action_shift(self, by: int) -> None:
        height = self.size.height
        self._top = max(min(self._top + by, len(self._content) - height), 0)
        lines = self._content[self._top : self._top + height]
        below = len(self._content) - self._top - height
        if below > 0 and height >= LEAST_FOR_MORE:
            lines[-1] = (Span(f" ▼ {counted(below + 1, 'more line')}: PgDn", "key"),)
        self.draw(lines)

    def action_top(self) -> None:
        self.action_shift(-self._top)

    def action_page(self, by: int) -> None:
        self.action_shift(by * max(self.size.height - 2, 1))

    def on_resize(self, event: events.Resize) -> None:
        self.action_shift(0)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.action_shift(2)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.action_shift(-2)


class Sheet(View):
    """Covers the panes whole: a translucent one would have all of them drawn at every picture.

    `content` is asked again by `renew`: what is shown is as fresh as the panes would be.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,enter", "leave", show=False)]

    def __init__(self, title: str | Callable[[], str], content: Content) -> None:
        super().__init__()
        self._heading = title
        self._content = content
        self._from_top = False

    def compose(self) -> ComposeResult:
        yield from self.head()
        yield Bar(id="sheet-title")
        yield Page()
        yield from self.foot()

    def on_mount(self) -> None:
        self.show_keys()

    def opened(self) -> None:
        self._from_top = True

    def on_resize(self, event: events.Resize) -> None:
        self.renew()

    def action_leave(self) -> None:
        self.leave()

    def copied(self) -> str:
        return self.query_one(Page).text

    def renew(self) -> None:
        heading = self._heading
        self.bar("sheet-title").say_text(heading if isinstance(heading, str) else heading(), "title.focus")
        page = self.query_one(Page)
        page.show(list(sheet_lines(self._content(), self.size.width)))
        if self._from_top:
            self._from_top = False
            page.action_top()
