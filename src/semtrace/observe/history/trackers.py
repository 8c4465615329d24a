"""Facts about a lock that are kept from one snapshot to the next, for the findings: its last holder, stray counts, and
how much was waited for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from semtrace.lazydata import dataclass
from semtrace.model import (
    RECURSIVE_MUTEX,
    SEM_VALUE_MAX,
    Holder,
    LastHolder,
    LockState,
    ProcessId,
    SemId,
    Stray,
)
from semtrace.observe.evidence.verdict import Reading
from semtrace.observe.history.history import Since
from semtrace.observe.judge.baselines import Baselines
from semtrace.observe.judge.prover import Judged

# Nothing is known about a gap between two samples that is longer than this.
_LONGEST_GAP_S = 1.0

_FREE: tuple[LockState, ...] = ("free",)


class Lives:
    """The times when each process was last seen to live, and first found to be gone. The latest of the dead are
    remembered.
    """

    MOST_DEAD = 1000

    def __init__(self) -> None:
        self._alive: dict[ProcessId, float] = {}
        self._gone: dict[ProcessId, tuple[float, float]] = {}

    def update(self, now_s: float, living: Iterable[ProcessId]) -> None:
        before, self._alive = self._alive, dict.fromkeys(living, now_s)
        self._gone.update(
            (process, (seen_s, now_s)) for process, seen_s in before.items() if process not in self._alive
        )
        while len(self._gone) > self.MOST_DEAD:
            del self._gone[next(iter(self._gone))]

    def end_of(self, now_s: float, process: ProcessId) -> tuple[float, float] | None:
        """Return how long ago it was last seen alive and first found to be gone; None if its end was not seen."""
        known = self._gone.get(process)
        return None if known is None else (now_s - known[0], now_s - known[1])


class LastHolders:
    """The last holder that was seen of each lock that has none now, and since when that process is missing."""

    def __init__(self) -> None:
        self._last: dict[SemId, tuple[float, Holder, float | None]] = {}
        self._missed_s: dict[SemId, float] = {}

    def update(
        self,
        now_s: float,
        seen: Mapping[SemId, tuple[LockState, Sequence[Holder]]],
        living: Collection[ProcessId],
        beats: Mapping[ProcessId, float | None] | None = None,
    ) -> None:
        """Update the holders. A lock that is seen free was released by its holder: later states are due to others. The
        `asleep_s` of a holder is here for how long it surely was one hold; `beats` says how old the workers' heartbeats
        are.
        """
        self._last = {semaphore: last for semaphore, last in self._last.items() if semaphore in seen}
        for semaphore, (state, holders) in seen.items():
            if holders:
                holder = max(holders, key=lambda holder: holder.since_s or 0.0)
                self._last[semaphore] = (now_s, holder, (beats or {}).get(holder.process))
            elif state in _FREE or (state == "orphaned" and self._lives_on(semaphore, living)):
                self._last.pop(semaphore, None)
        dead = {semaphore for semaphore, (_, holder, _) in self._last.items() if holder.process not in living}
        self._missed_s = {semaphore: self._missed_s.get(semaphore, now_s) for semaphore in dead}

    def _lives_on(self, semaphore: SemId, living: Collection[ProcessId]) -> bool:
        """Return True if the last holder lives: it has released the lock, and must not be blamed when it ends later."""
        return semaphore in self._last and self._last[semaphore][1].process in living

    def of(self, now_s: float, semaphore: SemId) -> LastHolder | None:
        """Return the last holder. None for a lock that is held now, and where the last that was seen lives on: it has
        released it.
        """
        seen_s, holder, silent_s = self._last.get(semaphore, (now_s, None, None))
        if holder is None or seen_s >= now_s or semaphore not in self._missed_s:
            return None
        ended_s = now_s - self._missed_s[semaphore]
        return LastHolder(
            holder.process, holder.tid, now_s - seen_s, holder.since_s, ended_s, holder.asleep_s, silent_s
        )


class OrphanedSince:
    """Since when each lock has been orphaned: proved so once, and neither seen free nor in anybody's hands since."""

    def __init__(self) -> None:
        self._first: dict[SemId, float] = {}

    def update(self, now_s: float, judged: Mapping[SemId, Judged]) -> None:
        proved = {semaphore for semaphore, each in judged.items() if each.verdict.state == "orphaned"}
        doubted = {s for s, each in judged.items() if each.verdict.is_doubt and each.reading.steady}
        self._first = {s: first for s, first in self._first.items() if s in doubted | proved}
        self._first |= {semaphore: self._first.get(semaphore, now_s) for semaphore in proved}

    def seconds(self, now_s: float, semaphore: SemId) -> float | None:
        """None for one that is not."""
        first = self._first.get(semaphore)
        return None if first is None else now_s - first


class Floors:
    """Processes whose count of a lock never came down to 0 though more was claimed than can be taken, in many samples.

    On a busy lock the counts change all the time; but one that is too high since the fork stays so, independent of the
    holder. A count that is only late, for an instant at a release, is found at 0 by one of so many samples. It is never
    seen while the process sleeps, and no other sample counts.
    """

    STANDS_S = 1.0
    SAMPLES = 10

    def __init__(self) -> None:
        self._floors: dict[SemId, dict[ProcessId, _Floor]] = {}

    def update(self, now_s: float, judged: Mapping[SemId, Judged], running: Collection[ProcessId] = ()) -> None:
        self._floors = {s: self._next(now_s, s, each.reading, running) for s, each in judged.items()}

    def of(self, now_s: float, semaphore: SemId, judged: Judged) -> list[Stray]:
        """Not `certain` where all that can be taken may be among them."""
        standing = {
            process: floor
            for process, floor in self._floors.get(semaphore, {}).items()
            if now_s - floor.since_s >= self.STANDS_S and floor.samples >= self.SAMPLES
        }
        units = _units(judged.reading, (floor.count for floor in standing.values()))
        certain = units <= (judged.reading.maxvalue or 0)
        return [Stray(process, floor.count, certain) for process, floor in standing.items()]

    def _next(
        self, now_s: float, semaphore: SemId, reading: Reading, running: Collection[ProcessId]
    ) -> dict[ProcessId, _Floor]:
        before = self._floors.get(semaphore, {})
        counts = {claim.process: claim.count for claim in reading.claims}
        kept = {process: floor for process, floor in before.items() if counts.get(process, 1) > 0}
        if not reading.steady or reading.maxvalue in (None, SEM_VALUE_MAX) or reading.value is None:
            return kept
        if _units(reading, counts.values()) <= reading.maxvalue - reading.value:
            return kept
        for process, count in counts.items():
            if count > 0 and process not in running:
                kept[process] = kept.get(process, _Floor(now_s, count, 0)).seen(count)
        return kept


@dataclass(frozen=True)
class _Floor:
    """The lowest count of one process, since when it has been above 0, and in how many samples too much was claimed."""

    since_s: float
    count: int
    samples: int

    def seen(self, count: int) -> _Floor:
        return _Floor(self.since_s, min(self.count, count), self.samples + 1)


def _units(reading: Reading, counts: Iterable[int]) -> int:
    """An RLock's count is its depth: however deep, it took one unit."""
    return sum(min(count, 1) if reading.kind == RECURSIVE_MUTEX else count for count in counts if count > 0)


class Strays:
    """Stray counts, which are not holds, once they have stood long enough: a count is too high for an instant at every
    release. A process that takes a lock again and again and leaves no other in is found in such an instant in every
    sample. So a count stands only while its process sleeps. Below zero a count never is by itself, and often not for
    long.
    """

    def __init__(self, baselines: Mapping[SemId, Baselines]) -> None:
        self._baselines = baselines
        self._standing: Since[tuple[SemId, Stray]] = Since()
        self._floors = Floors()
        self._now: dict[SemId, list[Stray]] = {}

    def update(self, now_s: float, judged: Mapping[SemId, Judged], running: Collection[ProcessId] = ()) -> None:
        self._floors.update(now_s, judged, running)
        seen = {semaphore: self._strays(semaphore, each) for semaphore, each in judged.items()}
        asleep = ((s, stray) for s, all_ in seen.items() for stray in all_ if stray.process not in running)
        self._standing.update(now_s, asleep)
        self._now = {
            semaphore: [stray for stray in all_ if stray.count < 0 or self._stands(now_s, semaphore, stray)]
            for semaphore, all_ in seen.items()
        }
        for semaphore, each in judged.items():
            if not self._is_handed_over(semaphore):
                known = {stray.process for stray in self._now[semaphore]}
                floors = self._floors.of(now_s, semaphore, each)
                self._now[semaphore] += [stray for stray in floors if stray.process not in known]

    def of(self, semaphore: SemId) -> tuple[Stray, ...]:
        return tuple(sorted(self._now.get(semaphore, ()), key=lambda stray: stray.process))

    def _stands(self, now_s: float, semaphore: SemId, stray: Stray) -> bool:
        return (self._standing.seconds(now_s, (semaphore, stray)) or 0.0) >= Baselines.APART_S

    def _is_handed_over(self, semaphore: SemId) -> bool:
        known = self._baselines.get(semaphore)
        return known is not None and known.handed_over

    def _strays(self, semaphore: SemId, judged: Judged) -> list[Stray]:
        """Return the stray counts. Where processes release units that others took, a count above zero proves nothing:
        only those below zero are returned.
        """
        known = self._baselines.get(semaphore)
        if known is not None and known.handed_over:
            return [Stray(process, count) for process, count in known.lowest.items()]
        rivals = [Stray(claim.process, claim.count, certain=False) for claim in judged.verdict.rivals]
        left = known.left_over.items() if known is not None else ()
        return rivals + [Stray(process, count) for process, count in left if count > 0]


class Waited:
    """Thread-seconds of waiting, by lock, according to the samples."""

    def __init__(self) -> None:
        self._seconds: dict[SemId, float] = {}
        self._last_s: float | None = None

    def update(self, now_s: float, waiting: Mapping[SemId, int]) -> None:
        """Count the present waiters as waiting since the last sample; `waiting` names every lock that there is."""
        gap_s = 0.0 if self._last_s is None else min(now_s - self._last_s, _LONGEST_GAP_S)
        self._last_s = now_s
        self._seconds = {
            semaphore: self._seconds.get(semaphore, 0.0) + count * gap_s for semaphore, count in waiting.items()
        }

    def seconds(self, semaphore: SemId) -> float:
        return self._seconds.get(semaphore, 0.0)
