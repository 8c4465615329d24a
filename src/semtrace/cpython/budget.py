"""When a walk has to stop, however much the target has to show, and however little of a processor is left for us."""

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


class Budget:
    """Ends with the allowance or after `objects` were looked at; then `reason` says so."""

    def __init__(self, seconds: float, objects: int) -> None:
        self._allowance = Allowance(seconds)
        self._objects = objects
        self.looked_at = 0
        self.reason: str | None = None

    def spent(self) -> bool:
        if self.reason is None:
            if self.looked_at >= self._objects:
                self.reason = f"stopped after {self.looked_at} objects"
            elif not self._allowance.lasts():
                self.reason = f"out of time after {self.looked_at} objects"
        return self.reason is not None
