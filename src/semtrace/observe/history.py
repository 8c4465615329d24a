"""What a series of snapshots knows beyond each one: since when, how busy, and which counts are left over from
before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from semtrace.linux.process import TICKS_PER_S
from semtrace.model import ProcessId
from semtrace.observe.verdict import Claim

K = TypeVar("K", bound=Hashable)

# The kernel counts CPU time in ticks of 10 ms: over less than this, one tick more or less is several per cent.
_CPU_WINDOW_S = 1.0


class Since(Generic[K]):
    """For how long each of a set of things has been seen, refresh after refresh."""

    def __init__(self) -> None:
        self._first: dict[K, float] = {}

    def update(self, now_s: float, present: Iterable[K]) -> None:
        """Starts the clock of what is new and forgets what is gone."""
        self._first = {key: self._first.get(key, now_s) for key in present}

    def seconds(self, now_s: float, key: K) -> float | None:
        """None when it is seen for the first time: nothing was measured yet."""
        first = self._first.get(key, now_s)
        return now_s - first if first < now_s else None


class Asleep(Generic[K]):
    """For how long threads are known not to have run: the kernel counts the time that a thread was on a processor, and
    whoever wakes, however shortly, adds to it.
    """

    def __init__(self) -> None:
        self._seen: dict[K, tuple[float, int]] = {}
        self._now_s = 0.0

    def update(self, now_s: float, ran_ns: Mapping[K, int | None]) -> None:
        """Takes in the times of those that there are now, and forgets the others."""
        before, self._now_s = self._seen, now_s
        self._seen = {
            key: before[key] if key in before and before[key][1] == ran else (now_s, ran)
            for key, ran in ran_ns.items()
            if ran is not None
        }

    def seconds(self, key: K) -> float | None:
        """None for one that has run since the last look, or whose time is not known."""
        since_s = self._seen.get(key, (self._now_s, 0))[0]
        return self._now_s - since_s if since_s < self._now_s else None


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


class LeftOver:
    """Counts that stand while a lock is free: copied by a fork, or left by one who took what another released.

    Only what stands unchanged in two looks at a free lock, `APART_S` or more apart, is believed: between the post and
    the decrement of a release a count is too high for an instant. `lowest` are the lowest counts seen below zero.
    """

    APART_S = 0.5

    def __init__(self) -> None:
        self.counts: dict[ProcessId, int] = {}
        self.handed_over = False
        self.lowest: dict[ProcessId, int] = {}
        self._seen: dict[ProcessId, int] = {}
        self._looked_s = float("-inf")

    def due(self, now_s: float) -> bool:
        return now_s - self._looked_s >= self.APART_S

    def look(self, now_s: float, claims: Iterable[Claim]) -> None:
        """Takes in the claims that stood on the lock while it was free."""
        now = {c.process: c.count for c in claims if c.count}
        known = (self._seen, self.counts)
        self.counts = {p: count for p, count in now.items() if any(before.get(p) == count for before in known)}
        self._seen, self._looked_s = now, now_s

    def inherit(self, claims: Iterable[Claim]) -> None:
        """Takes in claims that a fork had copied from a holder: they are no hold when that one has ended either."""
        for c in claims:
            self.counts[c.process] = self.counts.get(c.process, 0) + c.count

    def note(self, claims: Iterable[Claim]) -> None:
        """Takes in all claims as they are read. A count that fell below what was left over is a new beginning. A
        negative one shows that processes release what others took: then counts never prove who holds it, or that
        nobody does.
        """
        for c in claims:
            if c.count < self.counts.get(c.process, 0):
                self.counts[c.process] = max(c.count, 0)
            self.handed_over = self.handed_over or c.count < 0
            if c.count < self.lowest.get(c.process, 0):
                self.lowest[c.process] = c.count
