"""Carries out the proof that a suspect lock is orphaned, refresh after refresh, until it is complete or
contradicted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from semtrace.linux import futex
from semtrace.linux.process import TICKS_PER_S
from semtrace.linux.sweep import Obstacle
from semtrace.model import SemId
from semtrace.observe.baselines import Baselines
from semtrace.observe.foreign import ForeignUse
from semtrace.observe.outside import ask_outside
from semtrace.observe.proof import NOT_SWEPT, Suspicion
from semtrace.observe.verdict import Reading, Verdict, judge
from semtrace.observe.watched import Watched

# A suspect lock is read this often in one refresh, spread out, so that a busy lock does not look idle by chance.
_BURST = 12
_BURST_PAUSE_S = 0.0005
_SWEEP_EVERY_S = 2.0

_MEANS = {
    ForeignUse.UNSEARCHED: "its memory could not be searched",
    ForeignUse.OPENED: "it opened the semaphore more often than multiprocessing did",
    ForeignUse.MAPPED_AGAIN: "it maps the semaphore at a further address",
    ForeignUse.FUNCTION: "Python code has sem_wait of the C library",
    ForeignUse.REFERENCE: "an object that is no SemLock has its address",
    ForeignUse.LINKED: "C code has its address and calls sem_wait",
}

# Once it is proved, a thread that runs for a moment (a master that reaps a worker) is waited for in the same refresh.
_LOOKS_AGAIN = 12
_BURST_AGAIN = 4


@dataclass(frozen=True, slots=True)
class Judged:
    """A lock as read and judged; `waiters` is glibc's count, an upper bound."""

    reading: Reading
    verdict: Verdict
    waiters: int


class Prover:
    """Keeps a Suspicion for each lock that is locked and claimed by nobody."""

    def __init__(
        self,
        look_at: Callable[[SemId], Judged],
        baselines: Mapping[SemId, Baselines],
        linked: Callable[[], Collection[SemId]],
    ) -> None:
        self.unproved = False
        self._strict = False
        self._look_at = look_at
        self._baselines = baselines
        self._linked = linked
        self._suspicions: dict[SemId, Suspicion] = {}
        self._lost: dict[SemId, int] = {}  # how many units each suspicion is of; 0: all there are

    def wanted(self, mappers: Mapping[SemId, Sequence[Watched]]) -> dict[Watched, dict[SemId, float]]:
        """What each process must be searched for, with the time before which a search does not count."""
        wanted: dict[Watched, dict[SemId, float]] = {}
        for semaphore, suspicion in self._suspicions.items():
            for watched in _concerned(suspicion, mappers.get(semaphore, ())):
                wanted.setdefault(watched, {})[semaphore] = suspicion.since_s
        return wanted

    def prove(self, now_s: float, judged: dict[SemId, Judged], mappers: Mapping[SemId, Sequence[Watched]]) -> None:
        """Goes on with every proof and puts its outcome into `judged`: of a lock that nobody holds, and in the same way
        of units that nobody holds, of a semaphore that has others.
        """
        judged.update({s: self._without_newborn(now_s, s, judged[s]) for s in self._suspicions.keys() & judged.keys()})
        suspect = {s for s, j in judged.items() if j.verdict.doubtful}
        self._suspicions = {s: known for s, known in self._suspicions.items() if s in suspect}
        self._lost = {s: lost for s, lost in self._lost.items() if s in suspect}
        for semaphore in suspect:
            self._suspect(now_s, semaphore, judged[semaphore], mappers[semaphore])
        self._look_hard(now_s, judged, mappers)
        self._sweep(now_s, mappers)
        self.unproved = False
        for semaphore in self._suspicions:
            verdict = self._conclude(now_s, semaphore, mappers[semaphore], judged[semaphore])
            self.unproved |= not (verdict.state == "orphaned" or verdict.proved or verdict.barred)
            judged[semaphore] = replace(judged[semaphore], verdict=verdict)

    def forget(self) -> None:
        """Begins every proof anew: what was seen so far counts no more, and from now on each must be complete at every
        look.
        """
        self._suspicions.clear()
        self._strict = True

    def _without_newborn(self, now_s: float, semaphore: SemId, judged: Judged) -> Judged:
        """Of a lock that was proved orphaned: as if those were not there who were born since and cannot be read yet."""
        suspicion, unread = self._suspicions[semaphore], judged.reading.blind
        if self._strict or not unread or suspicion.proved_ticks is None or any(map(suspicion.concerns, unread)):
            return judged
        baselines = self._baselines[semaphore]
        verdict = judge(replace(judged.reading, blind=()), baselines.known, baselines.handed_over)
        return replace(judged, verdict=verdict) if verdict.suspect and suspicion.is_patient(now_s) else judged

    def _suspect(self, now_s: float, semaphore: SemId, judged: Judged, mappers: Sequence[Watched]) -> None:
        if self._lost.get(semaphore) != judged.verdict.lost:
            self._suspicions.pop(semaphore, None)  # what was shown of some units shows nothing of others
        self._lost[semaphore] = judged.verdict.lost
        self._suspicions.setdefault(semaphore, Suspicion(now_s)).keep(watched.id for watched in mappers)

    def _look_hard(self, now_s: float, judged: dict[SemId, Judged], mappers: Mapping[SemId, Sequence[Watched]]) -> None:
        """Reads the suspect locks many times more, all of them between two pauses, and looks where the threads are."""
        looked_at, burst = set(self._suspicions), _BURST
        for _ in range(_LOOKS_AGAIN):
            if not looked_at:
                return
            for _ in range(burst):
                time.sleep(_BURST_PAUSE_S)
                looked_at -= {semaphore for semaphore in looked_at if not self._is_still(now_s, semaphore, judged)}
            for semaphore in looked_at:
                self._suspicions[semaphore].add_readings(time.monotonic(), burst + (burst == _BURST))
            self._see_threads(looked_at, judged, mappers)
            proved = {s for s in looked_at if self._suspicions[s].proved_ticks is not None}
            looked_at = {s for s in proved if self._suspicions[s].shaken}
            burst = _BURST_AGAIN

    def _is_still(self, now_s: float, semaphore: SemId, judged: dict[SemId, Judged]) -> bool:
        """One reading more, which ends the suspicion if it is not suspect of the same."""
        judged[semaphore] = self._without_newborn(now_s, semaphore, self._look_at(semaphore))
        verdict = judged[semaphore].verdict
        if verdict.doubtful and verdict.lost == self._lost[semaphore]:
            return True
        del self._suspicions[semaphore]
        return False

    def _see_threads(
        self, semaphores: Collection[SemId], judged: Mapping[SemId, Judged], mappers: Mapping[SemId, Sequence[Watched]]
    ) -> None:
        """One look at where all threads are; of those that are dying nothing need be shown."""
        everybody = dict.fromkeys(watched for semaphore in semaphores for watched in mappers[semaphore])
        seen = {watched: (list(watched.sightings()), watched.dying) for watched in everybody}
        for semaphore in semaphores:
            suspicion = self._suspicions[semaphore]
            for watched in mappers[semaphore]:
                sightings, dying = seen[watched]
                if dying:
                    suspicion.leave_out(watched.id)
                else:
                    suspicion.look_at(watched.id, sightings)
            if judged[semaphore].verdict.lost and self._look_at(semaphore).reading != judged[semaphore].reading:
                suspicion.clear = dict.fromkeys(suspicion.clear, 0)  # others came or went: this look shows nothing

    def _sweep(self, now_s: float, mappers: Mapping[SemId, Sequence[Watched]]) -> None:
        """Asks the rest of the machine once the rest of a proof is there, and again now and then."""
        due = {s: suspicion for s, suspicion in self._suspicions.items() if self._sweep_due(now_s, s, mappers[s])}
        if not due:
            return
        found = ask_outside({semaphore: mappers[semaphore] for semaphore in due}, self._linked())
        for semaphore, suspicion in due.items():
            if not self._strict and suspicion.is_first_seen(found[semaphore].mapped_by):
                continue
            obstacle = next(iter(found[semaphore].obstacles), None)
            suspicion.swept_s = now_s
            suspicion.outsider = None if obstacle is None else str(obstacle)
            suspicion.barred = obstacle is not None and obstacle.rights_help

    def obstacle(self, semaphore: SemId, mappers: Sequence[Watched]) -> Obstacle | None:
        """Ask the rest of the machine now, whenever it was asked last: for whoever is about to act."""
        return next(iter(ask_outside({semaphore: mappers}, self._linked())[semaphore].obstacles), None)

    def _sweep_due(self, now_s: float, semaphore: SemId, mappers: Sequence[Watched]) -> bool:
        swept_s = self._suspicions[semaphore].swept_s
        if swept_s is not None:
            return now_s - swept_s >= _SWEEP_EVERY_S
        return self._lacks(semaphore, mappers) == NOT_SWEPT

    def _may_wait(self, now_s: float, semaphore: SemId, mappers: Sequence[Watched]) -> bool:
        """Whether nothing is lacking but what newborn processes have not shown yet."""
        suspicion = self._suspicions[semaphore]
        if self._strict or suspicion.proved_ticks is None:
            return False
        return self._lacks(semaphore, mappers, suspicion.without_newborn()) is None and suspicion.is_patient(now_s)

    def _lacks(self, semaphore: SemId, mappers: Sequence[Watched], suspicion: Suspicion | None = None) -> str | None:
        suspicion = suspicion or self._suspicions[semaphore]
        if not futex.KNOWN:
            return "where threads wait cannot be told on this processor"
        if self._baselines[semaphore].handed_over:
            return "processes release what others took, so counts do not show who holds it"
        unsearched = [
            w.id for w in _concerned(suspicion, mappers) if w.searched_s.get(semaphore, 0.0) < suspicion.since_s
        ]
        return (
            suspicion.missing(unsearched)
            if unsearched
            else _foreign(semaphore, suspicion, mappers) or (suspicion.missing(()))
        )

    def _conclude(self, now_s: float, semaphore: SemId, mappers: Sequence[Watched], judged: Judged) -> Verdict:
        suspicion, verdict = self._suspicions[semaphore], judged.verdict
        lacks = self._lacks(semaphore, mappers)
        if lacks is None and not judged.reading.blind:
            suspicion.unseen_since_s = None
        elif self._may_wait(now_s, semaphore, mappers):
            lacks = None
        if verdict.lost:
            end = f"so in {suspicion.readings} readings over {suspicion.span_s:.1f} s, every thread accounted for"
            return replace(
                verdict,
                proved=lacks is None,
                reason=f"{verdict.reason}; {end if lacks is None else f'not proved: {lacks}'}",
            )
        if lacks is not None:
            return Verdict(
                "unknown",
                reason=f"locked, and no living process claims it; not proved orphaned: {lacks}",
                barred=suspicion.barred and lacks == suspicion.outsider,
            )
        if suspicion.proved_ticks is None:
            suspicion.proved_ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS_PER_S)
        return Verdict(
            "orphaned",
            reason=f"locked in {suspicion.readings} readings over {suspicion.span_s:.1f} s; {_all(len(mappers))}, "
            "every thread accounted for, holds it",
        )


def _all(mappers: int) -> str:
    return f"none of the {mappers} processes that map it" if mappers > 1 else "not even the one process that maps it"


def _concerned(suspicion: Suspicion, mappers: Sequence[Watched]) -> list[Watched]:
    return [w for w in mappers if suspicion.concerns(w.id)]


def _foreign(semaphore: SemId, suspicion: Suspicion, mappers: Sequence[Watched]) -> str | None:
    """Which process may hold it without a count that shows it, and how."""
    for watched in _concerned(suspicion, mappers):
        use = watched.foreign_users(semaphore)
        if use is not None and not watched.dying:
            return f"PID {watched.id.pid} may hold it by other means than multiprocessing ({_MEANS[use]})"
    return None
