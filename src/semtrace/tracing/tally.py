"""Counters of a lock: how often it was acquired, how long threads waited for it and held it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from semtrace.model import Durations, SemId
from semtrace.tracing.histogram import coarse, quantiles
from semtrace.wire.statefile import LockBook
from semtrace.wire.totals import Total

# Bounds for what a hostile server could make grow: a lock of an honest one has some ten lines of a hundred buckets.
MOST_BUCKETS = 1 << 18
MOST_SPREADS = 256

_SHARES = (0.5, 0.95, 0.99)


@dataclass(slots=True)
class Tally:
    """Counts of one lock. `waits` and `holds` are histograms by `histogram.bucket`; waits are of contended acquires
    only. Times are in ns.
    """

    acquired: int = 0
    contended: int = 0
    failed: int = 0
    released: int = 0
    wait_total: int = 0
    wait_max: int = 0
    hold_total: int = 0
    hold_max: int = 0
    waits: dict[int, int] = field(default_factory=dict)
    holds: dict[int, int] = field(default_factory=dict)

    def copy(self) -> Tally:
        return Tally().add(self)

    def add(self, other: Tally | LockBook | Total) -> Tally:
        """Add the other's counts and return this tally. A state file has no histograms."""
        self.acquired += other.acquired
        self.contended += other.contended
        self.failed += other.failed
        self.released += other.released
        if isinstance(other, (LockBook, Total)):
            self._add_times(other.wait_total_ns, other.wait_max_ns, other.hold_total_ns, other.hold_max_ns)
            return self
        self._add_times(other.wait_total, other.wait_max, other.hold_total, other.hold_max)
        for mine, theirs in ((self.waits, other.waits), (self.holds, other.holds)):
            if not mine:
                mine.update(theirs)
                continue
            for bucket, count in theirs.items():
                mine[bucket] = mine.get(bucket, 0) + count
        return self

    def _add_times(self, wait_total: int, wait_max: int, hold_total: int, hold_max: int) -> None:
        self.wait_total += wait_total
        self.hold_total += hold_total
        self.wait_max = max(self.wait_max, wait_max)
        self.hold_max = max(self.hold_max, hold_max)


def bounded(tallies: dict[SemId, Mapping[int, Tally]]) -> dict[SemId, Mapping[int, Tally]]:
    """The tallies by lock and site with no more than MOST_BUCKETS in all: the largest lose their sites, then their
    histograms. The counts stay.
    """
    sizes = {
        lock: sum(len(each.waits) + len(each.holds) + 1 for each in sites.values()) for lock, sites in tallies.items()
    }
    left = sum(sizes.values())
    if left <= MOST_BUCKETS:
        return tallies
    kept = dict(tallies)
    for lock in sorted(sizes, key=lambda lock: -sizes[lock]):
        if left <= MOST_BUCKETS:
            break
        summed = total(tallies[lock].values())
        if len(summed.waits) + len(summed.holds) > MOST_BUCKETS // MOST_SPREADS:
            summed.waits, summed.holds = {}, {}
        kept[lock] = {0: summed}
        left -= sizes[lock] - len(summed.waits) - len(summed.holds) - 1
    return kept


def total(tallies: Iterable[Tally | LockBook | Total]) -> Tally:
    summed = Tally()
    for tally in tallies:
        summed.add(tally)
    return summed


def waiting_times(counts: Tally, spread: Tally) -> Durations:
    """Return the waits of contended acquires. The quantiles are from `spread`, which may have seen fewer of them."""
    return _durations(counts.wait_total, counts.wait_max, counts.contended, spread.waits)


def holding_times(counts: Tally, spread: Tally) -> Durations:
    return _durations(counts.hold_total, counts.hold_max, counts.released, spread.holds)


def _durations(total_ns: int, max_ns: int, count: int, spread: dict[int, int]) -> Durations:
    if not count:
        return Durations()
    found = quantiles(spread, _SHARES)
    # The middle of the last bucket may be above what was ever measured.
    p50, p95, p99 = (min(each, max_ns) / 1e9 for each in found) if found else (None, None, None)
    below = tuple((bound / 1e9, number) for bound, number in coarse(spread))
    return Durations(count, total_ns / 1e9, total_ns / count / 1e9, max_ns / 1e9, p50, p95, p99, below)
