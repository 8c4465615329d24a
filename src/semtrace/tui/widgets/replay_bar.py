"""The bar of a recording, and the line in which a user types a time.

The bar shows the present place, how many threads waited when, and where findings began and processes died.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from semtrace.timelines.overview import Cell
from semtrace.tui.state import Player
from semtrace.tui.text.line import Line, Span, fill
from semtrace.tui.text.signs import PAUSED, WARNING
from semtrace.tui.widgets.bar import Bar

PLAYING = "▸"
DIED = "†"
BROKEN = "✖"
_NOBODY, _UNKNOWN = "·", " "
_LEVELS = "▁▂▃▄▅▆▇█"
_LEAST_CELLS = 10


def replay_line(playing: bool, words: str, part: float, cells_of: Callable[[int], Sequence[Cell]], width: int) -> Line:
    """Return the bar: the words, then the whole recording with the cursor where it is."""
    left = f" {PLAYING if playing else PAUSED} {words} "
    count = width - cell_len(left) - 1
    if count < _LEAST_CELLS:
        return fill((Span(left, "strong"),), width)
    several = cells_of(count)
    most = max((cell.waiters or 0 for cell in several), default=0)
    at = min(int(part * count), count - 1)
    spans = [_span(cell, most, " cursor" if place == at else "") for place, cell in enumerate(several)]
    return fill((Span(left, "strong"), *spans, Span(" ")), width)


def first_cell(words: str) -> int:
    """Return the column of the first cell."""
    return cell_len(f" {PAUSED} {words} ")


def _span(cell: Cell, most: int, cursor: str) -> Span:
    if cell.severity == "error" and cell.begins:
        return Span(BROKEN, f"bad{cursor}")
    if cell.died:
        return Span(DIED, f"bad{cursor}")
    if cell.severity == "warning" and cell.begins:
        return Span(WARNING, f"warning{cursor}")
    if cell.waiters is None:
        return Span(_UNKNOWN, cursor)
    style = {"error": "bad", "warning": "warning", None: "waiting" if cell.waiters else "dim", "note": "dim"}
    level = _LEVELS[(cell.waiters * len(_LEVELS) - 1) // most] if cell.waiters else _NOBODY
    return Span(level, f"{style[cell.severity]}{cursor}")


class ReplayBar(Bar):
    """The bar, hidden without a recording. A click goes to that time."""

    class Went(Message):
        """`part` of the recording lies before where it is to go."""

        def __init__(self, part: float) -> None:
            super().__init__()
            self.part = part

    def __init__(self) -> None:
        super().__init__(id="replay", base="")
        self._words = ""

    def tell(self, player: Player) -> None:
        self._words = player.words()
        self.say(partial(replay_line, player.playing, self._words, player.part(), player.cells))

    async def on_click(self, event: events.Click) -> None:
        first = first_cell(self._words)
        count = self.size.width - first - 1
        if count >= _LEAST_CELLS and first <= event.x < first + count:
            self.post_message(self.Went((event.x - first) / count))


class SeekInput(Input):
    """Takes a time while it is shown; `Typed` has it, or nothing after Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close('')", show=False),
        Binding("enter", "go", show=False),
    ]

    class Typed(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self) -> None:
        super().__init__(placeholder="go to a time: 14:03:20, +90s from the start, -5m", compact=True, id="seek")
        self.cursor_blink = False
        self.display = False

    def ask(self) -> None:
        self.value = ""
        self.display = True
        self.focus()

    def action_go(self) -> None:
        self.action_close(self.value)

    def action_close(self, text: str) -> None:
        self.display = False
        self.post_message(self.Typed(text))
