"""Reads one server for as long as it is viewed, and hands each snapshot to the state that the screens share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from textual.message import Message

from semtrace.errors import SemtraceError
from semtrace.model import Snapshot
from semtrace.tui.messages import Pictured
from semtrace.tui.poller import Poller, faster, slower
from semtrace.tui.source import Source, opened
from semtrace.tui.state import ViewState


class Engine:
    """`deliver` takes messages from the reading thread: Pictured, Failed, Broken. What follows happens in the app's
    own thread.
    """

    def __init__(
        self, view_state: ViewState, open_source: Callable[[], Source], deliver: Callable[[Message], object]
    ) -> None:
        self.view_state = view_state
        self._poller: Poller[Snapshot] = Poller(
            partial(opened, open_source), Pictured, deliver, view_state.settings.interval
        )

    def start(self) -> None:
        self._poller.start()

    def stop(self) -> None:
        self._poller.stop()

    def take(self, snapshot: Snapshot) -> bool:
        """Collect what was read. Return True if that was the last: of a server that has ended, not of a recording."""
        self.view_state.collect(snapshot)
        is_last = not snapshot.alive and self.view_state.tools.player is None
        if is_last:
            self._poller.stop()
        return is_last

    def fail(self, error: SemtraceError) -> None:
        self.view_state.trouble = error

    # ---- how often

    def read_now(self) -> None:
        self._poller.set_interval(self.view_state.interval_s)

    def slower(self) -> None:
        self._set_interval(slower(self.view_state.interval_s))

    def faster(self) -> None:
        self._set_interval(faster(self.view_state.interval_s))

    def _set_interval(self, interval_s: float) -> None:
        self.view_state.interval_s = interval_s
        self._poller.set_interval(interval_s)
        self.view_state.meter.restart()
