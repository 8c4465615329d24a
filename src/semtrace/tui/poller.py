"""Reading at an interval, in a daemon thread: one that hangs in a read never keeps the program from ending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from textual.message import Message

from semtrace.errors import SemtraceError
from semtrace.tui.messages import Broken, Failed

RETRY_S = 1.0
INTERVALS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

T = TypeVar("T")


class Poller(Generic[T]):
    """Opens a reader and calls it every `interval_s`; what it returns goes to `deliver` as `message(value)`."""

    def __init__(
        self,
        open_reader: Callable[[], AbstractContextManager[Callable[[], T]]],
        message: Callable[[T], Message],
        deliver: Callable[[Message], object],
        interval_s: float,
    ) -> None:
        self.interval_s = interval_s
        self._open_reader = open_reader
        self._message = message
        self._deliver = deliver
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="semtrace-poller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def set_interval(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._wake.set()

    def stop(self, wait_s: float = 0.3) -> None:
        """Ends the thread, and waits a moment so that the reader is closed; a read that hangs is left behind."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(wait_s)

    def _run(self) -> None:
        while not self._stopped:
            try:
                with self._open_reader() as read:
                    self._poll(read)
            except SemtraceError as error:
                self._tell(Failed(error))
                self._pause(RETRY_S)
            except Exception as error:  # noqa: BLE001  a thread's traceback would be lost: the app raises it
                self._tell(Broken(error))
                return

    def _poll(self, read: Callable[[], T]) -> None:
        while not self._stopped:
            due = time.monotonic() + self.interval_s
            try:
                self._tell(self._message(read()))
            except SemtraceError as error:
                self._tell(Failed(error))
                due = time.monotonic() + max(self.interval_s, RETRY_S)
            self._pause(due - time.monotonic())

    def _pause(self, seconds: float) -> None:
        self._wake.wait(max(seconds, 0.0))
        self._wake.clear()

    def _tell(self, message: Message) -> None:
        if self._stopped:
            return
        try:
            self._deliver(message)
        except RuntimeError:  # the event loop was closed meanwhile
            self._stopped = True


def slower(interval_s: float) -> float:
    return next((each for each in INTERVALS_S if each > interval_s * 1.001), INTERVALS_S[-1])


def faster(interval_s: float) -> float:
    return next((each for each in reversed(INTERVALS_S) if each < interval_s / 1.001), INTERVALS_S[0])
