"""The two logs below the panes: events of traced locks, and the output of a server that semtrace started."""

from __future__ import annotations

from collections import deque
from itertools import count

from semtrace.model import Snapshot
from semtrace.tui.child import Child
from semtrace.tui.log import Log
from semtrace.tui.logrows import (
    EVENTS,
    KEPT_LINES,
    NOT_TRACED,
    OUTPUT,
    event_rows,
    events_title,
    output_rows,
    output_title,
)

LEAST = 8
KEYS = ((2, "e", "events"), (3, "o", "output"))


class Logs:
    """Rows are made only of what is shown; output is read all the same, for it is no longer in the file's way then."""

    def __init__(self, child: Child | None) -> None:
        self.events = Log(EVENTS, id="events")
        self.output = Log(OUTPUT, id="output")
        self._child = child
        self._lines: deque[tuple[int, str]] = deque(maxlen=KEPT_LINES)
        self._numbers = count(1)

    def keys(self, snapshot: Snapshot | None) -> tuple[tuple[int, str, str], ...]:
        """The keys that have something to show."""
        events = KEYS[:1] if snapshot is not None and snapshot.tracing is not None else ()
        return events + (KEYS[1:] if self._child is not None else ())

    def toggle(self, log: Log) -> bool:
        """Whether it is shown now; there is no output of a server that was there before us."""
        if log is self.events or self._child is not None:
            log.toggle()
        return log.shown

    def show(self, snapshot: Snapshot) -> None:
        if self._child is not None:
            self._lines.extend(zip(self._numbers, self._child.output(), strict=False))
            if self.output.shown:
                title = output_title(self._child.running, str(self._child.log))
                self.output.show(output_rows(self._lines), title, ["It has written nothing yet."], 0.0)
        if self.events.shown:
            notice = ["No event yet."] if snapshot.tracing else NOT_TRACED
            title = events_title(snapshot.tracing, self.events.following)
            self.events.show(event_rows(snapshot), title, notice, snapshot.monotonic_s)

    def wanted(self, height: int) -> list[int]:
        """A third of the screen for each: a log could fill any."""
        return [max(LEAST, height // 3) * log.shown for log in (self.events, self.output)]
