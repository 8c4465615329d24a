"""The output of a server that semtrace started, in a pane below the others."""

from __future__ import annotations

from collections import deque
from itertools import count

from semtrace.tui.child import Child
from semtrace.tui.text.log_rows import KEPT_LINES, OUTPUT, output_rows, output_title
from semtrace.tui.widgets.log import Log

LEAST = 8


class Output:
    """Makes rows only when the pane is shown. The output is always read: the pane is up to date when it opens."""

    def __init__(self, child: Child | None) -> None:
        self.pane = Log(OUTPUT, id="output", sortable=False)
        self._child = child
        self._lines: deque[tuple[int, str]] = deque(maxlen=KEPT_LINES)
        self._numbers = count(1)

    def toggle(self) -> None:
        """Show or hide the pane; do nothing for a server that semtrace did not start: its output is not known."""
        if self._child is not None:
            self.pane.toggle()

    def read(self) -> str:
        """Take in what the server has written since; return the last line of all that is not blank."""
        if self._child is not None:
            self._lines.extend(zip(self._numbers, self._child.output(), strict=False))
        return next((line.strip() for _, line in reversed(self._lines) if line.strip()), "")

    def show(self) -> None:
        if self._child is None:
            return
        self.read()
        if self.pane.shown:
            title = output_title(self._child.running, str(self._child.log))
            self.pane.show(output_rows(self._lines), title, ["It has written nothing yet."], 0.0)

    def wanted(self, height: int) -> int:
        """A third of the screen: it could fill any."""
        return max(LEAST, height // 3) * self.pane.shown
