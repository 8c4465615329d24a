"""Carries out the proof that a suspect lock is orphaned, refresh after refresh, until it is complete or
contradicted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from semtrace.lazydata import dataclass, replace
from semtrace.linux import futex
from semtrace.linux.process import TICKS_PER_S, Stat, read_stat
from semtrace.linux.sweep import Obstacle
from semtrace.model import SEM_VALUE_MAX, Lock, ProcessId, SemId
from semtrace.observe.evidence.foreign import ForeignUse
from semtrace.observe.evidence.proof import READINGS, ProcessSample, Sighting, Suspicion
from semtrace.observe.evidence.verdict import Reading, Verdict, judge, taken_by
from semtrace.observe.judge.baselines import Baselines
from semtrace.observe.judge.droppers import Droppers
from semtrace.observe.judge.outside import ask_outside
from semtrace.observe.watch.watched import Watched

# A suspect lock is read this often in one refresh, spread out, so that a busy lock does not look idle by chance.
_BURST = 12
_BURST_PAUSE_S = 0.0005
_SWEEP_EVERY_S = 2.0
_SWEEP_SHARE = 10  # a sweep that takes long is done less often
_TAKE_IN_S = 1.0
_LATELY_S = 10.0

_MEANS = {
    ForeignUse.UNSEARCHED: "its memory could not be searched",
    ForeignUse.OPENED: "it opened the semaphore more often than multiprocessing did",
    ForeignUse.MAPPED_AGAIN: "it maps the semaphore at a further address",
    ForeignUse.FUNCTION: "ctypes or cffi code looked up sem_wait",
    ForeignUse.REFERENCE: "a ctypes object has its address",
    ForeignUse.LINKED: "C code has its address and calls sem_wait",
}

# A thread that runs for a moment (a master that reaps a worker) is waited for in the same refresh: for longer once the
# proof was complete.
_SAMPLES_AGAIN, _MOST_SAMPLES_AGAIN = 4, 12
_BURST_AGAIN = 4

# A lock that is proved is sampled again in the same refresh only if that has shown nothing for so long.
_STALE_S = 0.5


@dataclass(frozen=True)
class Judged:
    """A lock as read and judged; `waiters` is glibc's count, an upper bound."""

    reading: Reading
    verdict: Verdict
    waiters: int

    @property
    def depends_on_openers(self) -> bool:
        """Return True if a process that has just opened it could have units that the verdict does not show."""
        return self.reading.maxvalue == SEM_VALUE_MAX and self.depends_on_newborn

    @property
    def depends_on_newborn(self) -> bool:
        """Return True if the verdict says who holds it, or that nobody does, and another process could change that. A
        lock with all its units is free, and a proof has its own way with newborn processes.
        """
        value, most = self.reading.value, self.reading.maxvalue
        stated = self.verdict.state not in ("unknown", "orphaned") and not self.verdict.doubtful
        return stated and value is not None and most is not None and (value < most or most == SEM_VALUE_MAX)


@dataclass(frozen=True)
class _Lack:
    """The part that a proof lacks; `under_way` if watching for longer may bring it."""

    text: str
    under_way: bool = False


_NEVER_PROVED = "locked, and no living process claims it; not proved orphaned before it ended"


class Prover:
    """Keep a Suspicion for each lock that is locked and claimed by nobody.

    `invite` has a process outside the server watched like one of the server's, from the next refresh on. It returns
    False if the process cannot be read. `parent_of` returns the parent of a process, if that is watched.
    """

    def __init__(
        self,
        judge_now: Callable[[SemId], Judged],
        baselines: Mapping[SemId, Baselines],
        linked: Callable[[], Collection[SemId]],
        invite: Callable[[int], bool] = lambda pid: False,
        parent_of: Callable[[Watched], Watched | None] = lambda watched: None,
    ) -> None:
        self.unproved = False
        self._strict = False
        self._sweep_took_s = 0.0
        self._judge_now = judge_now
        self._baselines = baselines
        self._linked = linked
        self._invite = invite
        self._droppers = Droppers(parent_of)
        self._suspicions: dict[SemId, Suspicion] = {}
        self._invited_s: dict[tuple[SemId, ProcessId], float] = {}
        self._waited: dict[SemId, dict[tuple[ProcessId, int], float]] = {}
        self._lost: dict[SemId, int] = {}  # how many units each suspicion is of; 0: all there are

    def wanted(self, mappers: Mapping[SemId, Sequence[Watched]]) -> dict[Watched, dict[SemId, float]]:
        """Return the semaphores to search each process for, with the time before which a search does not count."""
        wanted: dict[Watched, dict[SemId, float]] = {}
        for semaphore, suspicion in self._suspicions.items():
            for watched in _to_be_searched(suspicion, mappers.get(semaphore, ()), self._strict):
                wanted.setdefault(watched, {})[semaphore] = suspicion.since_s
        return wanted

    def prove(self, now_s: float, judged: dict[SemId, Judged], mappers: Mapping[SemId, Sequence[Watched]]) -> None:
        """Continue every proof and put its outcome into `judged`. A proof is about a lock that nobody holds, or in the
        same way about some units of a semaphore that nobody holds.
        """
        judged.update({s: self._without_newborn(s, judged[s]) for s in self._suspicions.keys() & judged.keys()})
        suspect = {s for s, j in judged.items() if j.verdict.doubtful}
        self._suspicions = {s: known for s, known in self._suspicions.items() if s in suspect}
        self._lost = {s: lost for s, lost in self._lost.items() if s in suspect}
        self._invited_s = {each: since_s for each, since_s in self._invited_s.items() if each[0] in suspect}
        for semaphore in suspect:
            self._suspect(now_s, semaphore, judged[semaphore])
        self._read_suspects(judged, mappers)
        self._find_takers(judged, mappers)
        if self._sweep(now_s, mappers) > _STALE_S:
            self._read_suspects(judged, mappers)  # the earlier samples are old by now
        self.unproved = False
        for semaphore in self._suspicions:
            verdict = self._conclude(now_s, semaphore, mappers[semaphore], judged[semaphore])
            decided = verdict.state == "orphaned" or verdict.proved or verdict.dropper is not None
            self.unproved |= not (decided or verdict.proof_needs_rights)
            judged[semaphore] = replace(judged[semaphore], verdict=verdict)
        if self._droppers.due(now_s):
            self._droppers.note(now_s, {semaphore: each.verdict for semaphore, each in judged.items()}, mappers)

    def forget(self) -> None:
        """Begin every proof again: earlier samples no longer count, and from now on each must be complete in every
        sample.
        """
        self._suspicions.clear()
        self._strict = True

    def _without_newborn(self, semaphore: SemId, judged: Judged) -> Judged:
        """Judge as if processes did not exist that were born into the suspicion and cannot be read yet."""
        suspicion, unread = self._suspicions[semaphore], judged.reading.blind
        if not unread or not all(self._may_be_unread(suspicion, process) for process in unread):
            return judged
        baselines = self._baselines[semaphore]
        verdict = judge(replace(judged.reading, blind=()), baselines.known, baselines.handed_over)
        return replace(judged, verdict=verdict) if verdict.doubtful else judged

    def _may_be_unread(self, suspicion: Suspicion, process: ProcessId) -> bool:
        stat = read_stat(process.pid)
        return stat is None or stat.id != process or suspicion.is_young(process, stat.threads, _now_ticks())

    def _suspect(self, now_s: float, semaphore: SemId, judged: Judged) -> None:
        """Begin a suspicion, or continue it while it is about the same units and nobody has had them."""
        known = self._suspicions.get(semaphore)
        same = known is not None and self._lost.get(semaphore) == judged.verdict.lost
        if known is None or not same or _was_acquired(known, judged):
            known = self._suspicions[semaphore] = Suspicion(now_s, _now_ticks())
            _was_acquired(known, judged)
        self._lost[semaphore] = judged.verdict.lost

    def _read_suspects(self, judged: dict[SemId, Judged], mappers: Mapping[SemId, Sequence[Watched]]) -> None:
        """Read the suspect locks many times more, all of them between two pauses, and sample the threads."""
        suspects = set(self._suspicions)
        burst = _BURST if any(self._matters(semaphore, mappers[semaphore]) for semaphore in suspects) else _BURST_AGAIN
        for turn in range(_MOST_SAMPLES_AGAIN):
            if not suspects:
                return
            for _ in range(burst):
                time.sleep(_BURST_PAUSE_S)
                suspects -= {semaphore for semaphore in suspects if not self._is_still(semaphore, judged)}
            for semaphore in suspects:
                self._suspicions[semaphore].add_readings(time.monotonic(), burst + (turn == 0))
            self._see_threads(suspects, judged, mappers)
            suspects = {s for s in suspects if self._samples_again(self._suspicions[s], turn)}
            burst = _BURST_AGAIN

    def _matters(self, semaphore: SemId, mappers: Sequence[Watched]) -> bool:
        """Return False while nothing but the search of memory can bring the proof on. It takes long on a machine that
        computes, where each pause of a burst costs many milliseconds.
        """
        return self._suspicions[semaphore].readings < READINGS or not self.is_searching(semaphore, mappers)

    def _samples_again(self, suspicion: Suspicion, turn: int) -> bool:
        if suspicion.proved_ticks is None:
            return turn < _SAMPLES_AGAIN and suspicion.unsettled is not None
        stale = self._strict or time.monotonic() - suspicion.sampled_s > _STALE_S
        return suspicion.is_shaken or (stale and suspicion.unsettled is not None)

    def _is_still(self, semaphore: SemId, judged: dict[SemId, Judged]) -> bool:
        """One reading more, which ends the suspicion if it is not suspect of the same."""
        judged[semaphore] = self._without_newborn(semaphore, self._judge_now(semaphore))
        verdict = judged[semaphore].verdict
        if not verdict.doubtful or verdict.lost != self._lost[semaphore]:
            del self._suspicions[semaphore]
            return False
        before = self._suspicions[semaphore]
        self._suspect(time.monotonic(), semaphore, judged[semaphore])
        return self._suspicions[semaphore] is before

    def _see_threads(
        self, semaphores: Collection[SemId], judged: Mapping[SemId, Judged], mappers: Mapping[SemId, Sequence[Watched]]
    ) -> None:
        """Take one sample of all threads, once all memory was searched; of processes that are dying nothing need be
        shown.
        """
        ready = [s for s in semaphores if not _unsearched(s, self._suspicions[s], mappers[s], self._strict)]
        everybody = dict.fromkeys(watched for semaphore in ready for watched in mappers[semaphore])
        seen = {watched: list(watched.sightings()) for watched in everybody}
        living = {watched for watched in everybody if not watched.dying}
        now_s, now_ticks = time.monotonic(), _now_ticks()
        for semaphore in ready:
            suspicion = self._suspicions[semaphore]
            suspicion.wanted |= any(_waits(semaphore, each, s) for each in mappers[semaphore] for s in seen[each])
            if ran := _waiter_that_ran(semaphore, mappers[semaphore], seen):
                suspicion.skip_sample(now_s, ran)
                continue
            samples = (
                _process_sample(suspicion, each, seen[each], now_ticks) for each in mappers[semaphore] if each in living
            )
            suspicion.add_sample(now_s, list(samples))
            if judged[semaphore].verdict.lost and self._judge_now(semaphore).reading != judged[semaphore].reading:
                suspicion.discard_samples("other units of it are acquired or released all the time")

    def note_waiters(self, now_s: float, locks: Iterable[Lock]) -> None:
        """Take in who waits for which lock: of these threads some will have it next."""
        for lock in locks:
            if lock.waiters or lock.id in self._waited:
                before = {who: at_s for who, at_s in self._waited.get(lock.id, {}).items() if now_s - at_s < _LATELY_S}
                self._waited[lock.id] = {**before, **{(w.process, w.tid): now_s for w in lock.waiters}}
        self._waited = {semaphore: waited for semaphore, waited in self._waited.items() if waited}

    def _find_takers(self, judged: dict[SemId, Judged], mappers: Mapping[SemId, Sequence[Watched]]) -> None:
        """Find threads that were granted a lock and have not counted it, as they wait for the interpreter lock or a
        processor. On a busy server these hold most of the locks that nobody claims. A process that may have either of
        two is not named.
        """
        asked = [s for s in self._suspicions if not self._lost[s] and self._may_have_taker(s, mappers[s])]
        for semaphore in self._suspicions.keys() - set(asked):
            self._suspicions[semaphore].taker = None  # the last one may have ended long ago
        everybody = dict.fromkeys(watched for semaphore in asked for watched in mappers[semaphore])
        now_ticks = _now_ticks()
        seen = {watched: list(watched.sightings()) for watched in everybody}
        found = {}
        for semaphore in asked:
            suspicion = self._suspicions[semaphore]
            samples = [_process_sample(suspicion, each, seen[each], now_ticks) for each in mappers[semaphore]]
            found[semaphore] = suspicion.takers(samples, self._waited.get(semaphore, ()))
        named = Counter(process for takers in found.values() for process in takers)
        for semaphore, takers in found.items():
            if self._is_still(semaphore, judged):
                alone = len(takers) == 1 and not any(named[process] > 1 for process in takers)
                self._suspicions[semaphore].taker = next(iter(takers)) if alone else None

    def _may_have_taker(self, semaphore: SemId, mappers: Sequence[Watched]) -> bool:
        return self._suspicions[semaphore].proved_ticks is None and self._lacks(semaphore, mappers) is not None

    def _sweep(self, now_s: float, mappers: Mapping[SemId, Sequence[Watched]]) -> float:
        """Ask the rest of the machine once the rest of a proof is there, and again now and then. Return how many
        seconds that took: on a busy machine with large processes it may be some.
        """
        due = {s: each for s, each in self._suspicions.items() if self._sweep_due(now_s, s, mappers[s])}
        if not due:
            return 0.0
        began_s = time.monotonic()
        found = ask_outside({semaphore: mappers[semaphore] for semaphore in due}, self._linked())
        for semaphore, suspicion in due.items():
            known = {watched.id.pid for watched in mappers[semaphore] if suspicion.was_sampled(watched.id)}
            strangers = list(_strangers(suspicion, found[semaphore].strangers, known))
            self._take_in(now_s, semaphore, suspicion, strangers)
            obstacle = next((each for each in found[semaphore].obstacles if each.why != "maps"), None)
            if obstacle is not None and suspicion.outsider is None:
                suspicion.outsider = str(obstacle)
            suspicion.proof_needs_rights = obstacle is not None and obstacle.rights_help and not strangers
        self._sweep_took_s = time.monotonic() - began_s
        return self._sweep_took_s

    def _take_in(self, now_s: float, semaphore: SemId, suspicion: Suspicion, strangers: Sequence[Stat]) -> None:
        """Watch those outside the server, and sweep again once they are watched. The proof does not wait for processes
        that were born after it. Nor does it wait for one that cannot be read or does not turn out to map the semaphore
        as others do.
        """
        unread = [stat for stat in strangers if not self._is_taken_in(now_s, semaphore, stat)]
        old = [s for s in strangers if self._strict or not suspicion.is_younger_than_proof(s.id)]
        first = next(iter(unread or old), None)
        suspicion.outsider = str(Obstacle("maps", first.id.pid)) if first else None
        suspicion.swept_s = None if old and not unread else now_s

    def _is_taken_in(self, now_s: float, semaphore: SemId, stat: Stat) -> bool:
        """Return False for one that was invited some time ago, and is still a stranger."""
        since_s = self._invited_s.setdefault((semaphore, stat.id), now_s)
        return now_s - since_s <= _TAKE_IN_S and self._invite(stat.id.pid)

    def obstacle(self, semaphore: SemId, mappers: Sequence[Watched]) -> Obstacle | None:
        """Ask the rest of the machine now, whenever it was asked last: for an act that comes next."""
        return next(iter(ask_outside({semaphore: mappers}, self._linked())[semaphore].obstacles), None)

    def is_searching(self, semaphore: SemId, mappers: Sequence[Watched]) -> bool:
        """Return True while the proof waits for the search of memory."""
        suspicion = self._suspicions.get(semaphore)
        return suspicion is not None and bool(_unsearched(semaphore, suspicion, mappers, self._strict))

    def _sweep_due(self, now_s: float, semaphore: SemId, mappers: Sequence[Watched]) -> bool:
        swept_s = self._suspicions[semaphore].swept_s
        if swept_s is not None:
            return now_s - swept_s >= max(_SWEEP_EVERY_S, _SWEEP_SHARE * self._sweep_took_s)
        return self._lacks(semaphore, mappers) is None

    def _lacks(self, semaphore: SemId, mappers: Sequence[Watched]) -> _Lack | None:
        """Return what the proof lacks within the server."""
        suspicion = self._suspicions[semaphore]
        if not futex.KNOWN:
            return _Lack("where threads wait cannot be read on this processor")
        if self._baselines[semaphore].handed_over:
            return _Lack("processes release what others took, so counts do not show who holds it")
        unsearched = _unsearched(semaphore, suspicion, mappers, self._strict)
        if not unsearched and (foreign := _foreign(semaphore, _to_be_searched(suspicion, mappers, self._strict))):
            return _Lack(foreign)
        missing = suspicion.missing(unsearched, self._strict)
        return _Lack(missing, under_way=True) if missing else None

    def _conclude(self, now_s: float, semaphore: SemId, mappers: Sequence[Watched], judged: Judged) -> Verdict:
        suspicion, verdict = self._suspicions[semaphore], judged.verdict
        within = self._lacks(semaphore, mappers)
        others = suspicion.lacks_others
        lacks = within or (_Lack(others, under_way=suspicion.outsider is None) if others else None)
        if verdict.lost:
            end = f"so in all {suspicion.readings} samples over {suspicion.span_s:.1f} s, every thread accounted for"
            return replace(
                verdict,
                proved=lacks is None,
                reason=f"{verdict.reason}; {end if lacks is None else f'not proved: {lacks.text}'}",
            )
        if lacks is not None and suspicion.taker is not None:
            return taken_by(judged.reading, suspicion.taker)
        if lacks is None and suspicion.proved_ticks is None:
            suspicion.proved_ticks = _now_ticks()
            suspicion.proved_with = frozenset(watched.id for watched in mappers)
        needs_rights = suspicion.proof_needs_rights and within is None
        dropper = self._droppers.find(semaphore, mappers, self._linked) if lacks is None or needs_rights else None
        may_have = f"PID {dropper.pid} lives, and may have held it when it dropped it" if dropper else None
        if may_have and not suspicion.wanted:
            reason = f"locked, and no living process claims it; not proved orphaned: {may_have}"
            return Verdict("unknown", reason=reason, dropper=dropper)
        if lacks is not None:
            return Verdict(
                "unknown",
                reason=f"locked, and no living process claims it; not proved orphaned: {lacks.text}",
                if_ended=_NEVER_PROVED if lacks.under_way else None,
                proof_needs_rights=needs_rights,
            )
        shown = f"locked in all {suspicion.readings} samples over {suspicion.span_s:.1f} s; {_all(len(mappers))}, "
        shown += "every thread accounted for, holds it"
        return Verdict("orphaned", reason=f"{shown}; {may_have}" if may_have else shown, dropper=dropper)


def _now_ticks() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS_PER_S)


def _all(mappers: int) -> str:
    return f"none of the {mappers} processes that map it" if mappers > 1 else "not even the one process that maps it"


def _was_acquired(suspicion: Suspicion, judged: Judged) -> bool:
    """Units that are not lost are acquired all the time."""
    claims = () if judged.verdict.lost else judged.reading.claims
    return suspicion.was_acquired({claim.process: claim.last_tid for claim in claims})


def _foreign(semaphore: SemId, searched: Iterable[Watched]) -> str | None:
    """Return which process may hold it without a count that shows it, and how."""
    for watched in searched:
        use = watched.foreign_users(semaphore)
        if use is not None and not watched.dying:
            return f"PID {watched.id.pid} may hold it by other means than multiprocessing ({_MEANS[use]})"
    return None


def _process_sample(
    suspicion: Suspicion, watched: Watched, sightings: Sequence[Sighting], now_ticks: int
) -> ProcessSample:
    threads = max(watched.stat.threads, len(sightings))
    return ProcessSample(watched.id, sightings, suspicion.is_young(watched.id, threads, now_ticks))


def _waiter_that_ran(
    semaphore: SemId, mappers: Sequence[Watched], seen: Mapping[Watched, Sequence[Sighting]]
) -> str | None:
    """Return the waiter that has run since it was seen, None without one. The sample of many processes takes its time:
    one that was seen waiting may get the lock from one that was seen, with nothing, only after that.
    """
    for watched in mappers:
        for each in seen[watched]:
            tid = each.thread.tid
            if _waits(semaphore, watched, each) and futex.run_time(watched.id.pid, tid) != each.ran:
                return f"thread {tid} of PID {watched.id.pid} waits for it and ran while all threads were sampled"
    return None


def _waits(semaphore: SemId, watched: Watched, sighting: Sighting) -> bool:
    return sighting.thread.futex is not None and sighting.thread.futex == watched.semaphores.get(semaphore)


def _to_be_searched(suspicion: Suspicion, mappers: Collection[Watched], strict: bool) -> Iterator[Watched]:
    """Yield those whose memory the proof rests on.

    A newborn process has a copy of its parent's state of the lock, and the parent must be searched itself. Its objects
    are known, and only an older process could have handed it the lock. `strict`: only while it is young.
    """
    now_ticks = _now_ticks()
    pids = {watched.id.pid for watched in mappers}
    for watched in mappers:
        young = suspicion.is_young(watched.id, watched.stat.threads, now_ticks)
        copied = not strict and suspicion.is_copied(watched.id, watched.stat.forked) and watched.stat.ppid in pids
        known = young or copied or watched.id in suspicion.proved_with
        if not (known or suspicion.is_younger_than_proof(watched.id)):
            yield watched


def _unsearched(semaphore: SemId, suspicion: Suspicion, mappers: Collection[Watched], strict: bool) -> list[ProcessId]:
    which = _to_be_searched(suspicion, mappers, strict)
    return [watched.id for watched in which if watched.searched_s.get(semaphore, 0.0) < suspicion.since_s]


def _strangers(suspicion: Suspicion, stats: Iterable[Stat], known: Collection[int]) -> Iterator[Stat]:
    """Yield the processes that are not known. A newborn child of a known one is a copy of a thread with no claim."""
    now_ticks = _now_ticks()
    for stat in stats:
        if not (stat.ppid in known and suspicion.is_young(stat.id, stat.threads, now_ticks)):
            yield stat
