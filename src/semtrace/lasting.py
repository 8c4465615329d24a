"""What is remembered of a lock from one snapshot to the next, for the findings: its last holder, counts that are no
hold, and how much was waited for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from semtrace.history import LeftOver, Since
from semtrace.model import Holder, LastHolder, LockState, ProcessId, SemId, Stray
from semtrace.prover import Judged

# A gap longer than this between two looks says nothing about what was in it.
_LONGEST_GAP_S = 1.0

_FREE: tuple[LockState, ...] = ("free",)


class Lives:
    """When each process was last seen to live, and first found to be gone. Of the dead the last are remembered."""

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
        """How long ago it was last seen alive and first found to be gone; None if its end was not seen."""
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
        """A lock that is seen free had its holder let go of it: what comes after is another's doing. The `asleep_s` of
        a holder is here for how long it surely was one hold; `beats` says how old the workers' heartbeats are.
        """
        self._last = {semaphore: last for semaphore, last in self._last.items() if semaphore in seen}
        for semaphore, (state, holders) in seen.items():
            if holders:
                holder = max(holders, key=lambda holder: holder.since_s or 0.0)
                self._last[semaphore] = (now_s, holder, (beats or {}).get(holder.process))
            elif state in _FREE:
                self._last.pop(semaphore, None)
        dead = {semaphore for semaphore, (_, holder, _) in self._last.items() if holder.process not in living}
        self._missed_s = {semaphore: self._missed_s.get(semaphore, now_s) for semaphore in dead}

    def of(self, now_s: float, semaphore: SemId) -> LastHolder | None:
        """None for a lock that is held now."""
        seen_s, holder, silent_s = self._last.get(semaphore, (now_s, None, None))
        if holder is None or seen_s >= now_s:
            return None
        ended_s = now_s - self._missed_s[semaphore] if semaphore in self._missed_s else None
        return LastHolder(
            holder.process, holder.tid, now_s - seen_s, holder.since_s, ended_s, holder.asleep_s, silent_s
        )


class Strays:
    """Counts that are no hold, once they have stood long enough: a count is too high for an instant at every release.
    Below zero it never is by itself, and often not for long.
    """

    def __init__(self, left_over: Mapping[SemId, LeftOver]) -> None:
        self._left_over = left_over
        self._standing: Since[tuple[SemId, Stray]] = Since()
        self._now: dict[SemId, list[Stray]] = {}

    def update(self, now_s: float, judged: Mapping[SemId, Judged]) -> None:
        self._now = {semaphore: self._strays(semaphore, each) for semaphore, each in judged.items()}
        self._standing.update(now_s, ((semaphore, stray) for semaphore, all_ in self._now.items() for stray in all_))

    def of(self, now_s: float, semaphore: SemId) -> tuple[Stray, ...]:
        return tuple(
            stray
            for stray in self._now.get(semaphore, ())
            if stray.count < 0 or (self._standing.seconds(now_s, (semaphore, stray)) or 0.0) >= LeftOver.APART_S
        )

    def _strays(self, semaphore: SemId, judged: Judged) -> list[Stray]:
        """Where processes release what others took, a count above zero says nothing: only those below are told."""
        known = self._left_over.get(semaphore)
        if known is not None and known.handed_over:
            return [Stray(process, count) for process, count in known.lowest.items()]
        rivals = [Stray(claim.process, claim.count, certain=False) for claim in judged.verdict.rivals]
        left = known.counts.items() if known is not None else ()
        return rivals + [Stray(process, count) for process, count in left if count > 0]


class Waited:
    """Thread-seconds of waiting, by lock, as the looks show it."""

    def __init__(self) -> None:
        self._seconds: dict[SemId, float] = {}
        self._last_s: float | None = None

    def update(self, now_s: float, waiting: Mapping[SemId, int]) -> None:
        """Those who wait now are taken to have waited since the last look."""
        gap_s = 0.0 if self._last_s is None else min(now_s - self._last_s, _LONGEST_GAP_S)
        self._last_s = now_s
        for semaphore, count in waiting.items():
            self._seconds[semaphore] = self._seconds.get(semaphore, 0.0) + count * gap_s

    def seconds(self, semaphore: SemId) -> float:
        return self._seconds.get(semaphore, 0.0)
