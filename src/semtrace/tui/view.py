"""What all screens that look at a server have in common: filter, copy, a word in passing, the keys at the bottom."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input

from semtrace.tui import commands
from semtrace.tui.bar import Bar
from semtrace.tui.filtering import FilterInput
from semtrace.tui.line import Item
from semtrace.tui.table import Table

PASSING_S = 2.5


class Open(Message):
    """Everything about this row is wanted."""

    def __init__(self, row: Hashable) -> None:
        super().__init__()
        self.row = row


class Reveal(Message):
    """This row of the overview is wanted."""

    def __init__(self, row: Hashable) -> None:
        super().__init__()
        self.row = row


class View(Screen[None]):
    """`renew` draws the picture that is shown now. `asks` is True of a screen that wants an answer first: the keys that
    lead elsewhere do nothing there.
    """

    BINDINGS: ClassVar[list[BindingType]] = commands.bindings("filter", "back")
    asks: ClassVar[bool] = False
    key = ""  # the command that leads here

    def __init__(self) -> None:
        super().__init__()
        self._filtered: Table | None = None
        self._in_passing = False

    @property
    def is_current(self) -> bool:
        """Only while nothing covers it: else Textual (8.2.8) repaints all at each message of a covered screen."""
        return super().is_current and self.app.screen is self

    def on_screen_resume(self) -> None:
        """Its picture is as old as its last time on top."""
        self.renew()

    # ---- what subclasses say

    def renew(self) -> None:
        """Draws what is shown now."""

    def keys(self) -> Sequence[str]:
        """The commands for the footer."""
        return ("back", "help")

    def hints(self) -> Sequence[Item]:
        """What else the footer says, before those."""
        return ()

    def settle(self) -> None:
        """The filter's line has come or gone."""

    def copied(self) -> str:
        """What `y` copies."""
        table = self.table
        return table.selected_text if table is not None else ""

    # ---- what they use

    def foot(self) -> ComposeResult:
        """The last lines of the screen."""
        yield FilterInput()
        yield Bar(id="keys")

    def say_keys(self) -> None:
        if self._in_passing:
            return
        items = commands.footer(self.keys(), self.app._keymap, self.hints())
        self.bar("keys").say(partial(commands.footer_line, items))

    def say(self, text: str, style: str = "strong") -> None:
        """A word in passing, where the keys are."""
        self._in_passing = True
        self.bar("keys").say_text(text, style)
        self.set_timer(PASSING_S, self._said)

    def _said(self) -> None:
        self._in_passing = False
        self.say_keys()

    def bar(self, name: str) -> Bar:
        return self.query_one(f"#{name}", Bar)

    @property
    def table(self) -> Table | None:
        """The one with the focus, or the first."""
        if isinstance(self.focused, Table):
            return self.focused
        return self._filtered or next(iter(self.query(Table)), None)

    # ---- keys

    def action_back(self) -> None:
        """Leaves the innermost thing: the filter, then the screen."""
        table = self.table
        if table is not None and table.view.filter:
            table.set_filter("")
        else:
            self.leave()

    def leave(self) -> None:
        self.dismiss(None)

    def action_filter(self) -> None:
        self._filtered = self.table
        if self._filtered is None:
            return
        self.filter_box.open(self._filtered.view.filter)
        self.settle()
        self.set_focus(self.filter_box)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a filter is typed, `/` is a letter."""
        return action != "filter" or not (self.filter_box.display or self.table is None)

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._filtered is not None:
            self._filtered.set_filter(event.value)

    def on_filter_input_closed(self, event: FilterInput.Closed) -> None:
        table, self._filtered = self.table, None
        self.filter_box.display = False
        self.settle()
        if table is not None:
            if not event.keep:
                table.set_filter("")
            self.set_focus(table)

    @property
    def filter_box(self) -> FilterInput:
        return self.query_one(FilterInput)
