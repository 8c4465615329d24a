"""The line in which a filter is typed: `/` shows it, Enter and Esc hide it, so that letters are keys otherwise."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input


class FilterInput(Input):
    """Says each change, and with `Closed` that it is no longer needed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave(False)", show=False),
        Binding("enter,down,tab", "leave(True)", show=False),
    ]

    class Closed(Message):
        """`keep` is False when Esc was pressed: the filter is to be cleared."""

        def __init__(self, keep: bool) -> None:
            super().__init__()
            self.keep = keep

    def __init__(self) -> None:
        super().__init__(placeholder="text anywhere in a row, !text for the others", compact=True, id="filter")
        self.cursor_blink = False
        self.display = False

    def open(self, value: str) -> None:
        with self.prevent(Input.Changed):
            self.value = value
        self.cursor_position = len(value)
        self.display = True

    def action_leave(self, keep: bool) -> None:
        self.post_message(self.Closed(keep))
