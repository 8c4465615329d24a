"""The two parts of the timeline's screen: the rows, and below them what the cursor reads out."""

from __future__ import annotations

from textual import events
from textual.message import Message

from semtrace.tui.widgets.line_widget import LineWidget


class Readout(LineWidget):
    """The lines below the rows."""

    DEFAULT_CSS = "Readout { height: 1fr; }"

    class Resized(Message):
        """The size has changed, so the lines have to be drawn again."""

    def on_resize(self, event: events.Resize) -> None:
        self.post_message(self.Resized())


class Chart(LineWidget, can_focus=True):
    """Draws its lines, and posts where the mouse clicked."""

    class Touched(Message):
        def __init__(self, x: int, y: int, twice: bool) -> None:
            super().__init__()
            self.x, self.y, self.twice = x, y, twice

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Touched(event.x, event.y, event.chain > 1))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.screen.call_later(self.screen.run_action, "row(1)")

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.screen.call_later(self.screen.run_action, "row(-1)")
