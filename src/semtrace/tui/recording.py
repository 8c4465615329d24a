"""`C`: start or stop a recording of the server under view, and report its outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable

from textual.message import Message

from semtrace.errors import SemtraceError
from semtrace.model import Snapshot
from semtrace.tui.state import Recorder

NEWS_S = 1.0


class Notice(Message):
    """A message of the recorder, to be shown on the screen that is there then."""

    def __init__(self, text: str, style: str = "strong") -> None:
        super().__init__()
        self.text = text
        self.style = style


class Recording:
    """Starts and stops a recorder in a thread: to stop takes as long as its last snapshot."""

    def __init__(self, recorder: Recorder | None, post: Callable[[Message], object]) -> None:
        self._recorder = recorder
        self._post = post
        self._busy = threading.Lock()

    @property
    def running(self) -> bool:
        return self._recorder is not None and self._recorder.running

    def toggle(self, snapshot: Snapshot | None) -> None:
        recorder = self._recorder
        if recorder is None or snapshot is None:
            self._post(Notice("nothing is recorded from this view"))
        elif recorder.running:
            self._in_thread(recorder.stop)
        elif not snapshot.alive:
            self._post(Notice("the server has ended"))
        else:
            self._in_thread(lambda: recorder.start(snapshot.server.pid, snapshot.tracing is not None))

    def look(self) -> None:
        """Show a notice if the recorder has ended by itself."""
        if self._recorder is not None and not self._recorder.running:
            self._in_thread(self._recorder.news)

    def _in_thread(self, act: Callable[[], str]) -> None:
        def run() -> None:
            if not self._busy.acquire(blocking=False):
                return
            try:
                if notice := act():
                    self._post(Notice(notice))
            except SemtraceError as error:
                self._post(Notice(f"{error}: {error.remedy}", "warning"))
            finally:
                self._busy.release()

        threading.Thread(target=run, name="semtrace-recording", daemon=True).start()
