"""Counters of traced locks that never fall while a server lives. Pure.

Statistics are of single semaphores, which come and go; a series is of all semaphores with one name. What a semaphore
had counted when it was last seen is kept in its series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import zip_longest

from semtrace.lazydata import dataclass
from semtrace.metrics.grouping import Key
from semtrace.model import Durations, Lock, SemId, Statistics

# Upper bounds of the buckets in seconds: 10 µs, 30 µs, … 100 s. tracing.histogram.coarse counts by the same steps.
BOUNDS = (*(float(f"{step}e{power}") for power in range(-5, 2) for step in (1, 3)), 100.0)
# As many lines of a lock have statistics of their own (tracing.traced); with all of them a sum is complete.
_MOST_SITES = 20
_ROUNDED = 1 + 1e-9


@dataclass(frozen=True)
class Spread:
    """Durations by bucket, the last without a bound. `total_s` is None where it is not known of all of them."""

    buckets: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    total_s: float | None = 0.0

    def plus(self, other: Spread) -> Spread:
        buckets = tuple(mine + theirs for mine, theirs in zip_longest(self.buckets, other.buckets, fillvalue=0))
        return Spread(buckets, None if self.total_s is None or other.total_s is None else self.total_s + other.total_s)


@dataclass(frozen=True)
class Counts:
    """The counters of a traced lock. `wait` and `hold` cover only the events that were seen."""

    acquired: int = 0
    contended: int = 0
    failed: int = 0
    wait: Spread = Spread()
    hold: Spread = Spread()

    def plus(self, other: Counts) -> Counts:
        return Counts(
            self.acquired + other.acquired,
            self.contended + other.contended,
            self.failed + other.failed,
            self.wait.plus(other.wait),
            self.hold.plus(other.hold),
        )

    def has_fallen_from(self, before: Counts) -> bool:
        """Return True if it began again: a count is lower than it was."""
        mine = (self.acquired, self.contended, self.failed, sum(self.wait.buckets), sum(self.hold.buckets))
        theirs = (before.acquired, before.contended, before.failed, sum(before.wait.buckets), sum(before.hold.buckets))
        return any(now < then for now, then in zip(mine, theirs, strict=True))


class Traced:
    """Add up the statistics of one server's locks, snapshot by snapshot."""

    def __init__(self) -> None:
        self._kept: dict[Key, Counts] = {}
        self._last: dict[SemId, tuple[Key, Counts]] = {}

    def add(self, groups: Mapping[Key, Iterable[Lock]]) -> dict[Key, Counts]:
        """Take in one snapshot and return the counts of each series that has any."""
        now: dict[SemId, tuple[Key, Counts]] = {}
        for key, locks in groups.items():
            now |= {lock.id: (key, counts_of(lock.statistics)) for lock in locks if lock.statistics is not None}
        for semaphore, (key, counts) in self._last.items():
            again = now.get(semaphore)
            if again is None or again[0] != key or again[1].has_fallen_from(counts):
                self._kept[key] = self._kept.get(key, Counts()).plus(counts)
        self._last = now
        self._kept = {key: counts for key, counts in self._kept.items() if key in groups}
        found = dict(self._kept)
        for key, counts in now.values():
            found[key] = found.get(key, Counts()).plus(counts)
        return found


def counts_of(statistics: Statistics) -> Counts:
    sites = [each for _, each in statistics.sites]
    return Counts(
        statistics.acquired,
        statistics.contended,
        statistics.failed,
        _spread(statistics.wait, [each.wait for each in sites]),
        _spread(statistics.hold, [each.hold for each in sites]),
    )


def _spread(durations: Durations, by_site: list[Durations]) -> Spread:
    buckets = [0] * (len(BOUNDS) + 1)
    for bound_s, count in durations.spread:
        buckets[bisect_left(BOUNDS, bound_s / _ROUNDED)] += count
    total_s = sum(each.total_s for each in by_site) if len(by_site) < _MOST_SITES else None
    return Spread(tuple(buckets), total_s)
