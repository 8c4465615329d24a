"""Facts that only a series of snapshots shows: since when, and how busy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from semtrace.lazydata import dataclass, replace
from semtrace.linux.process import TICKS_PER_S
from semtrace.model import ProcessId

K = TypeVar("K", bound=Hashable)

# The kernel counts CPU time in ticks of 10 ms: over less than this, one tick more or less is several per cent.
_CPU_WINDOW_S = 1.0


class Since(Generic[K]):
    """Track how long each of a set of things has been seen, refresh after refresh."""

    def __init__(self) -> None:
        self._first: dict[K, float] = {}

    def update(self, now_s: float, present: Iterable[K]) -> None:
        """Start the clocks of new things and forget those that are gone."""
        self._first = {key: self._first.get(key, now_s) for key in present}

    def seconds(self, now_s: float, key: K) -> float | None:
        """None when it is seen for the first time: nothing was measured yet."""
        first = self._first.get(key, now_s)
        return now_s - first if first < now_s else None


class Asleep(Generic[K]):
    """Track how long threads have been asleep: the kernel counts the time that a thread was on a processor, and each
    thread that wakes, however shortly, adds to it.

    The scheduler knows how long a thread had slept before its first sample. That costs, so it is asked in the first
    sample of all, and for later threads once they are seen to sleep.
    """

    MOST_ASKED = 256  # in one sample

    def __init__(self, slept_since: Callable[[K, int], float | None] = lambda key, ran_ns: None) -> None:
        """`slept_since` returns since when (CLOCK_MONOTONIC) a thread has not run, None where that is not known."""
        self._slept_since = slept_since
        self._seen: dict[K, _Rest] | None = None
        self._now_s = 0.0

    def update(self, began_s: float, now_s: float, ran_ns: Mapping[K, int | None]) -> None:
        """Take in the times of the present threads, and forget the others. The sample began at `began_s`: a thread that
        has run since then may have changed what was read in it.
        """
        before, self._now_s = self._seen, now_s
        self._seen, asked = {}, 0
        for key, ran in ran_ns.items():
            if ran is None:
                continue
            last = before.get(key) if before else None
            rest = last if last and last.ran_ns == ran else _Rest(now_s, ran, asked=False)
            if not rest.asked and (rest is last or before is None) and asked < self.MOST_ASKED:
                rest, asked = self._ask(key, rest, began_s), asked + 1
            self._seen[key] = rest

    def _ask(self, key: K, rest: _Rest, began_s: float) -> _Rest:
        since_s = self._slept_since(key, rest.ran_ns)
        if since_s is None:
            return replace(rest, asked=True)
        return _Rest(min(since_s, rest.since_s), rest.ran_ns, asked=True) if since_s < began_s else rest

    def seconds(self, key: K) -> float | None:
        """Return how long it has slept, None if it has run since the sample began or its time is not known."""
        rest = self._seen.get(key) if self._seen else None
        return self._now_s - rest.since_s if rest and rest.since_s < self._now_s else None

    def ran_ns(self, key: K) -> int | None:
        """Return how long it had run at its last sample, None if that is not known."""
        rest = self._seen.get(key) if self._seen else None
        return rest.ran_ns if rest else None


@dataclass(frozen=True)
class _Rest:
    """The time since which a thread has not run, and how long it had run then; `asked`: the scheduler knows no more."""

    since_s: float
    ran_ns: int
    asked: bool


def longer(seen_s: float | None, slept_s: float | None) -> float | None:
    """Return the longer duration: a thread has done the same at least for as long as it has not run."""
    return max((each for each in (seen_s, slept_s) if each is not None), default=None)


class CpuMeter:
    """Per cent of one core, over the last second or what there is of it."""

    def __init__(self) -> None:
        self._samples: dict[ProcessId, deque[tuple[float, int]]] = {}

    def percent(self, process: ProcessId, now_s: float, ticks: int) -> float | None:
        samples = self._samples.setdefault(process, deque())
        samples.append((now_s, ticks))
        while len(samples) > 2 and now_s - samples[1][0] >= _CPU_WINDOW_S:
            samples.popleft()
        first_s, first_ticks = samples[0]
        if now_s <= first_s:
            return None
        return max(ticks - first_ticks, 0) / TICKS_PER_S / (now_s - first_s) * 100

    def keep(self, living: Iterable[ProcessId]) -> None:
        alive = set(living)
        self._samples = {process: samples for process, samples in self._samples.items() if process in alive}
