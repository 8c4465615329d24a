"""Complaints of the libraries under `semtrace serve`, on stderr: cleaned, and at most a few lines per minute.

Every client can cause complaints, so these must not fill the disk that stderr goes to.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST_LINES = 40
WINDOW_S = 60.0
_LONGEST = 300
_LOGGERS = ("asyncio", "aiohttp", "semtrace.web", "textual-serve")


class Complaints(logging.Handler):
    """`say` takes a line, and cleans it."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._say = say
        self._clock = clock
        self._began_s = clock()
        self._lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.lines(self.format(record))
        except (ValueError, TypeError):
            self.handleError(record)

    def lines(self, text: str) -> None:
        """Print the lines until there were too many in this minute."""
        now_s = self._clock()
        if now_s - self._began_s >= WINDOW_S:
            self._began_s, self._lines = now_s, 0
        for line in text.splitlines()[: MOST_LINES + 1]:
            if self._lines == MOST_LINES:
                self._say("further lines are dropped until the next minute")
            self._lines += 1
            if self._lines > MOST_LINES:
                return
            self._say(line[:_LONGEST])


class Stream(io.TextIOBase):
    """A place for `print` that hands everything to the complaints."""

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints

    def write(self, text: str) -> int:
        self._complaints.lines(text)
        return len(text)


@contextmanager
def heard(complaints: Complaints) -> Iterator[None]:
    """Until the end of the block the libraries' loggers speak through these complaints alone."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [each.propagate for each in loggers]
    for logger in loggers:
        logger.addHandler(complaints)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(complaints)
            logger.propagate = propagate
