"""Track how long threads of a server have been asleep, by the kernel's account of each."""

from __future__ import annotations

import time
from collections.abc import Iterable

from semtrace.linux.futex import run_time_ns
from semtrace.linux.sleep import slept_s
from semtrace.model import ProcessId
from semtrace.observe.history.history import Asleep

Thread = tuple[ProcessId, int]


class Sleepers:
    def __init__(self) -> None:
        self._asleep: Asleep[Thread] = Asleep(_slept_since)

    def update(self, began_s: float, threads: Iterable[Thread]) -> None:
        """Sample the present threads, and forget the others. The snapshot of this sample began at `began_s`."""
        ran_ns = {thread: run_time_ns(thread[0].pid, thread[1]) for thread in set(threads)}
        self._asleep.update(began_s, time.monotonic(), ran_ns)

    def seconds(self, thread: Thread) -> float | None:
        """Return how long it has slept, None if it has run since the sample began or its time is not known."""
        return self._asleep.seconds(thread)

    def ran_ns(self, thread: Thread) -> int | None:
        """Return how long it had been on a processor at the last sample, None if that is not known."""
        return self._asleep.ran_ns(thread)


def _slept_since(thread: Thread, ran_ns: int) -> float | None:
    """Return the time of CLOCK_MONOTONIC, never too early: the time of now is taken last."""
    seconds = slept_s(thread[0].pid, thread[1], ran_ns)
    return None if seconds is None else time.monotonic() - seconds
