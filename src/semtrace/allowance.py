"""How long something may take, however little of a processor is left for us."""

from __future__ import annotations

import time

# A machine that computes gives us a small part of a processor, so what has to be done then takes longer.
_MOST_TIMES = 6


class Allowance:
    """Lasts for so many seconds of a processor; of time at least as long, and at most `_MOST_TIMES` as long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began_s, self._ran_s = time.monotonic(), time.thread_time()

    def lasts(self) -> bool:
        passed_s = time.monotonic() - self._began_s
        if passed_s < self._seconds:
            return True
        return passed_s < _MOST_TIMES * self._seconds and time.thread_time() - self._ran_s < self._seconds
