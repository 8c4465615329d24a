"""Limit how long something may take, however little of a processor is left for us."""

from __future__ import annotations

import time

# A machine that computes gives us a small part of a processor, so what has to be done then takes longer.
_MOST_TIMES = 6


class Allowance:
    """A limit of our own time on a processor. It ends not before as many seconds have passed, and at the latest after
    `most_times` as many.
    """

    def __init__(self, seconds: float, most_times: float = _MOST_TIMES) -> None:
        self._seconds, self._most_s = seconds, most_times * seconds
        self._began_s, self._ran_s = time.monotonic(), time.thread_time()

    def lasts(self) -> bool:
        passed_s = time.monotonic() - self._began_s
        if passed_s < self._seconds:
            return True
        return passed_s < self._most_s and time.thread_time() - self._ran_s < self._seconds
