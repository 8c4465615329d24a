"""Signals of a recorder, and its sleep: SIGINT, SIGTERM and SIGHUP end it, SIGUSR1 makes it write."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType, TracebackType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Asked:
    """A context in the main thread. `stop` is the signal that ends the recording; `write` is True once for each
    SIGUSR1.
    """

    def __init__(self) -> None:
        self.stop: int | None = None
        self._write = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __enter__(self) -> Asked:
        self._before = {number: signal.signal(number, self._came) for number in (*_ENDING, signal.SIGUSR1)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._wake)

    def _came(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self._write = True
        else:
            self.stop = number
        os.eventfd_write(self._wake, 1)

    def to_write(self) -> bool:
        """Return True if somebody has asked since the last time."""
        asked, self._write = self._write, False
        return asked

    def wait(self, seconds: float, fds: Iterable[int] = ()) -> set[int]:
        """Sleep for so long, or until a signal comes or some of the descriptors can be read: those are returned."""
        poll = select.poll()
        for fd in (self._wake, *fds):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(max(seconds, 0.0) * 1000)}
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        return ready
