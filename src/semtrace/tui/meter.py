"""Load of the view itself: pictures a second, and how much of a core semtrace uses. Both over a second or more."""

from __future__ import annotations

import time
from collections.abc import Callable

WINDOW_S = 1.5


class Meter:
    """Measures `rate` and `cpu_percent`, which stay as they are for `WINDOW_S`: flickering figures cannot be read."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, cpu_clock: Callable[[], float] = time.process_time
    ) -> None:
        self.rate: float | None = None
        self.cpu_percent: float | None = None
        self._clock = clock
        self._cpu_clock = cpu_clock
        self.restart()

    def restart(self) -> None:
        """Forgets the frames so far: the interval has changed, or the view was paused."""
        self.rate = None
        self._frames = 0
        self._since = self._clock()
        self._cpu_since = self._cpu_clock()

    def frame(self) -> None:
        """A picture was shown."""
        self._frames += 1
        passed = self._clock() - self._since
        if passed < WINDOW_S:
            return
        self.rate = self._frames / passed
        self.cpu_percent = 100 * (self._cpu_clock() - self._cpu_since) / passed
        self._frames = 0
        self._since = self._clock()
        self._cpu_since = self._cpu_clock()
