"""The proof of an orphan: each condition alone keeps it open."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support import wait_until

from semtrace.linux.futex import NO_SYSCALL, NUMBER, RunTime, Thread
from semtrace.linux.process import TICKS_PER_S
from semtrace.linux.sweep import Obstacle, Outside
from semtrace.model import SEMAPHORE, ProcessId, SemId
from semtrace.observe.evidence import proof
from semtrace.observe.evidence.proof import (
    NEWBORN_S,
    PATIENCE_S,
    READINGS,
    SAMPLES,
    SPAN_S,
    Gil,
    ProcessSample,
    Sighting,
    Suspicion,
)
from semtrace.observe.evidence.verdict import Claim, Reading, Verdict, judge
from semtrace.observe.judge import prover as proving
from semtrace.observe.judge.baselines import Baselines
from semtrace.observe.judge.prover import Judged, Prover

P, Q = ProcessId(11, 1000), ProcessId(12, 1000)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody outside the server maps anything."""
    monkeypatch.setattr(proving, "ask_outside", lambda mappers, linked: dict.fromkeys(mappers, Outside()))


SINCE_S, SINCE_TICKS = 100.0, 4000
BORN = ProcessId(13, SINCE_TICKS + 1)
READ = 0
POLL = 7
MS = 1_000_000


def asleep(tid: int = 11, address: int = 0x7000) -> Sighting:
    return Sighting(Thread(tid, NUMBER, address), stopped=False)


def acquiring(tid: int = 11) -> Sighting:
    return Sighting(Thread(tid, NUMBER, 0x5000), stopped=False, gil=Gil.ACQUIRING)


def perhaps(tid: int = 11, ns: int = 0, slices: int = 0) -> Sighting:
    """At the interpreter lock; whether inside acquire cannot be seen."""
    return Sighting(Thread(tid, NUMBER, 0x5000), stopped=False, ran=RunTime(ns, slices), gil=Gil.UNKNOWN)


def in_call(tid: int = 11, number: int = POLL) -> Sighting:
    return Sighting(Thread(tid, number), stopped=False)


def running(tid: int = 11, ns: int = 0, slices: int = 0) -> Sighting:
    return Sighting(Thread(tid, None), stopped=False, ran=RunTime(ns, slices))


def preempted(tid: int = 11, stopped: bool = False) -> Sighting:
    return Sighting(Thread(tid, NO_SYSCALL), stopped=stopped, ran=RunTime(0, 0))


def waking(tid: int = 11, stopped: bool = False) -> Sighting:
    """In a futex call that only wakes others, as one that has just been given the interpreter lock makes."""
    return Sighting(Thread(tid, NUMBER), stopped=stopped, ran=RunTime(0, 0))


def suspicion() -> Suspicion:
    """One whose proof is complete but for the threads."""
    found = Suspicion(SINCE_S, SINCE_TICKS)
    found.add_readings(SINCE_S + SPAN_S, READINGS)
    found.swept_s = SINCE_S
    return found


def look(found: Suspicion, *sightings: Sighting, of: ProcessId = P, at_s: float = SINCE_S, young: bool = False) -> None:
    found.add_sample(at_s, [ProcessSample(of, sightings, young)])


def missing(found: Suspicion, unsearched: Sequence[ProcessId] = ()) -> str | None:
    return found.missing(unsearched) or found.lacks_others


def complete() -> Suspicion:
    found = suspicion()
    for _ in range(SAMPLES):
        look(found, asleep())
    return found


def test_with_everything_shown_nothing_is_missing() -> None:
    assert missing(complete()) is None


def test_too_short_a_time_keeps_it_open() -> None:
    found = complete()
    found.last_s = found.since_s + SPAN_S - 0.01
    assert missing(found)


def test_too_few_readings_keep_it_open() -> None:
    found = complete()
    found.readings = READINGS - 1
    assert missing(found)


def test_unsearched_process_leaves_the_proof_open_and_is_named() -> None:
    what = missing(complete(), [Q])
    assert what
    assert str(Q.pid) in what


def test_without_a_look_at_the_other_processes_it_stays_open() -> None:
    found = complete()
    found.swept_s = None
    assert missing(found)


def test_a_process_outside_the_server_keeps_it_open() -> None:
    found = complete()
    found.outsider = "PID 99 outside this server maps it too"
    assert missing(found) == found.outsider
    found.swept_s = None
    assert missing(found) == found.outsider


@pytest.mark.parametrize(
    ("where", "sighting", "word"),
    [
        ("inside acquire", acquiring(), "interpreter lock"),
        ("perhaps inside acquire", perhaps(), "interpreter lock"),
        ("stopped outside a call", preempted(stopped=True), "stopped"),
        ("stopped while it woke others", waking(stopped=True), "stopped"),
        ("running, for how long is not known", Sighting(Thread(11, None), False, None), "running"),
        ("running, seen once", running(), "running"),
        ("waking others", waking(), "running"),
        ("off the processor in its own code", preempted(), "running"),
        ("running while the process is being stopped", Sighting(Thread(11, None), True, RunTime(0, 0)), "stopped"),
    ],
)
def test_thread_about_to_claim_leaves_the_proof_open(where: str, sighting: Sighting, word: str) -> None:
    found = suspicion()
    for _ in range(50):
        look(found, sighting)
    what = missing(found)
    assert what
    assert word in what
    assert str(P.pid) in what


@pytest.mark.parametrize("sighting", [asleep(), in_call(), in_call(number=READ)])
def test_a_thread_that_sleeps_elsewhere_does_not(sighting: Sighting) -> None:
    found = suspicion()
    for _ in range(SAMPLES):
        look(found, sighting)
    assert missing(found) is None


@pytest.mark.parametrize("seen", [running, perhaps])
@pytest.mark.parametrize(
    ("where", "ns", "slices", "clear"),
    [
        ("has a processor to itself", 10 * MS, 0, True),
        ("computes by turns with another", 5 * MS, 3, True),
        ("computes by turns with seven others", 10 * MS, 20, True),
        ("runs too little so far", 4 * MS, 1, False),
        ("is runnable and gets no processor", 0, 0, False),
        ("wakes up to ask for the interpreter lock", 5 * MS, 100, False),
        ("asks for it as often as it can", 30 * MS, 3300, False),
        ("wakes up on a slow machine", 10 * MS, 60, False),
    ],
)
def test_thread_is_clear_if_it_ran_as_no_waiter_does(
    seen: type[Sighting], where: str, ns: int, slices: int, clear: bool
) -> None:
    found = suspicion()
    for turn in range(SAMPLES + 1):
        look(found, seen(ns=turn * ns, slices=turn * slices))
    assert (missing(found) is None) == clear


def test_each_look_asks_for_a_run_of_its_own() -> None:
    found = suspicion()
    for ns in (0, 50 * MS, 51 * MS, 52 * MS):
        look(found, running(ns=ns))
    assert found.samples == 1


def test_what_ran_before_it_slept_does_not_count() -> None:
    found = suspicion()
    look(found, running(ns=0))
    look(found, asleep())
    look(found, running(ns=50 * MS))
    assert found.samples == 1


def test_thread_that_waited_elsewhere_is_judged_by_its_run_since() -> None:
    found = suspicion()
    for turn in range(SAMPLES):
        at = turn * 20 * MS
        look(found, replace(asleep(), ran=RunTime(at, 0)))
        look(found, running(ns=at + 4 * MS))
        look(found, running(ns=at + 6 * MS))
    assert found.samples == 2 * SAMPLES


def test_a_thread_of_which_nothing_is_shown_takes_nothing_back() -> None:
    found = complete()
    for _ in range(20):
        look(found, running(), at_s=SINCE_S + PATIENCE_S)
    assert missing(found) is None
    assert found.missing([], strict=True), "before an act it is not enough"
    look(found, running(), at_s=SINCE_S + PATIENCE_S + 0.1)
    assert missing(found)


def test_thread_about_to_claim_takes_all_samples_back() -> None:
    found = complete()
    look(found, acquiring())
    for _ in range(SAMPLES - 1):
        assert missing(found)
        look(found, asleep())
    assert missing(found)
    look(found, asleep())
    assert missing(found) is None


def test_all_processes_must_be_clear_in_the_same_look() -> None:
    found = suspicion()
    for turn in range(20):
        found.add_sample(
            SINCE_S,
            [
                ProcessSample(P, [asleep() if turn % 2 else running()]),
                ProcessSample(Q, [running() if turn % 2 else asleep()]),
            ],
        )
    assert found.samples == 0


def test_one_of_many_threads_is_enough_to_keep_it_open() -> None:
    found = suspicion()
    for _ in range(5):
        found.add_sample(
            SINCE_S,
            [
                ProcessSample(P, [*[asleep(tid) for tid in range(11, 75)], acquiring(75)]),
                ProcessSample(Q, [asleep(12)]),
            ],
        )
    what = missing(found)
    assert what
    assert "75" in what


def test_a_thread_that_ended_keeps_nothing_open() -> None:
    found = suspicion()
    look(found, asleep(11), acquiring(15))
    for _ in range(SAMPLES):
        look(found, asleep(11))
    assert missing(found) is None


def test_process_without_visible_threads_leaves_the_proof_open() -> None:
    """A worker that made itself undumpable after its memory was opened: its memory reads on, its threads do not."""
    found = suspicion()
    for _ in range(5):
        look(found)
    assert missing(found)


def test_newly_found_mapper_restarts_the_samples() -> None:
    """A process outside the server that was just found: it has been there all the while."""
    found = complete()
    both = [ProcessSample(P, [asleep(11)]), ProcessSample(Q, [asleep(12)])]
    found.add_sample(SINCE_S, both)
    assert missing(found)
    for _ in range(SAMPLES - 1):
        found.add_sample(SINCE_S, both)
    assert missing(found) is None


def test_one_born_into_the_suspicion_does_not_begin_them_anew() -> None:
    found = complete()
    found.add_sample(SINCE_S, [ProcessSample(P, [asleep(11)]), ProcessSample(BORN, [asleep(13)])])
    assert found.samples == SAMPLES + 1


@pytest.mark.parametrize(
    ("what", "start_ticks", "threads", "age_s", "young"),
    [
        ("just born", SINCE_TICKS + 1, 1, 0.1, True),
        ("born in the same tick, or before", SINCE_TICKS, 1, 0.1, False),
        ("has two threads", SINCE_TICKS + 1, 2, 0.1, False),
        ("lives on", SINCE_TICKS + 1, 1, NEWBORN_S + 0.1, False),
    ],
)
def test_who_is_young(what: str, start_ticks: int, threads: int, age_s: float, young: bool) -> None:
    now_ticks = start_ticks + int(age_s * TICKS_PER_S)
    assert suspicion().is_young(ProcessId(13, start_ticks), threads, now_ticks) is young


@pytest.mark.parametrize(
    ("sightings", "counts"),
    [((running(13),), True), ((), True), ((acquiring(13),), False), ((preempted(13, stopped=True),), False)],
)
def test_only_evidence_against_the_proof_counts_from_a_young_process(
    sightings: tuple[Sighting, ...], counts: bool
) -> None:
    found = suspicion()
    for _ in range(SAMPLES):
        found.add_sample(SINCE_S, [ProcessSample(P, [asleep()]), ProcessSample(BORN, sightings, young=True)])
    assert (missing(found) is None) == counts


def test_who_was_born_after_the_proof_is_younger_than_it() -> None:
    found = complete()
    assert not found.is_younger_than_proof(BORN)
    found.proved_ticks = BORN.start_ticks
    assert not found.is_younger_than_proof(BORN), "the same tick: it may have been before"
    assert found.is_younger_than_proof(ProcessId(14, BORN.start_ticks + 1))


def test_another_last_acquirer_shows_that_somebody_has_had_it() -> None:
    found = suspicion()
    assert not found.was_acquired({P: 7, Q: 0})
    assert not found.was_acquired({P: 7, BORN: 7})
    assert found.was_acquired({P: 7, Q: 9})
    assert not found.was_acquired({P: 7, Q: 9})


class Play:
    """A prover of one lock, and the processes that map it; `now` is what is read of it, always at the same time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *mappers: Mapper, proved: bool = True) -> None:
        self.semaphore, self.mappers = SEM, mappers
        self.now_s, self.ticks = time.monotonic(), 10_000
        self.now = Reading(0, SEMAPHORE, 1, (Claim(P, 0, 7),))
        self.stats: dict[int, SimpleNamespace] = {}
        self.invited: list[int] = []
        self.refused: set[int] = set()
        self.outside: list[int] = []
        self.readings = 0
        monkeypatch.setattr(proving, "_now_ticks", lambda: self.ticks)
        monkeypatch.setattr(proving, "read_stat", self.stats.get)
        monkeypatch.setattr(proving, "ask_outside", lambda *_: {SEM: self._outside()})
        self.prover = Prover(self._judged, {self.semaphore: Baselines()}, lambda: (), self._invite)
        if proved:
            wait_until(lambda: self.state() == "orphaned", what="the proof")

    def _outside(self) -> Outside:
        strangers = tuple(self.stats[pid] for pid in self.outside)
        obstacles = tuple(Obstacle("maps", pid) for pid in self.outside)
        return Outside(tuple(self.outside), strangers, obstacles=obstacles)  # type: ignore[arg-type]

    def _judged(self, _: SemId) -> Judged:
        self.readings += 1
        return Judged(self.now, judge(self.now, {}), 0)

    def _invite(self, pid: int) -> bool:
        self.invited.append(pid)
        return pid not in self.refused

    def verdict(self, later_s: float = 0.0) -> Verdict:
        judged = {self.semaphore: self._judged(self.semaphore)}
        self.prover.prove(self.now_s + later_s, judged, {self.semaphore: self.mappers})  # type: ignore[dict-item]
        return judged[self.semaphore].verdict

    def state(self, later_s: float = 0.0) -> str:
        return self.verdict(later_s).state

    def born(self, pid: int, ppid: int = 1, threads: int = 1) -> ProcessId:
        """One that is born now."""
        process = ProcessId(pid, self.ticks + 1)
        self.ticks += 2
        self.stats[pid] = SimpleNamespace(id=process, ppid=ppid, threads=threads, ended=False)
        return process

    def blind(self, *who: ProcessId) -> None:
        self.now = replace(self.now, blind=who)


SEM = SemId(0, 27, 1)


class Mapper:
    """A process of one thread, which sleeps but for so many samples."""

    dying, stat = False, SimpleNamespace(comm="gunicorn", threads=1, forked=True, ppid=1)

    def __init__(self, process: ProcessId = P) -> None:
        self.id = process
        self.searched_s = {SEM: float("inf")}
        self.runs_for = 0
        self.sightings_taken = 0
        self.semaphores: dict[SemId, int] = {}

    def still_maps(self, semaphore: SemId) -> bool:
        return True

    def foreign_users(self, semaphore: SemId) -> None:
        """Nobody else has it."""

    def sightings(self) -> list[Sighting]:
        self.runs_for -= 1
        self.sightings_taken += 1
        return [running(11) if self.runs_for >= 0 else asleep()]


@pytest.mark.parametrize(("ran_ns", "state"), [(500, "orphaned"), (501, "unknown")])
def test_look_counts_only_if_no_waiter_ran_meanwhile(monkeypatch: pytest.MonkeyPatch, ran_ns: int, state: str) -> None:
    """It may have been given the lock by one that was seen before, and be about to claim it."""
    monkeypatch.setattr(proving.futex, "run_time", lambda pid, tid: RunTime(ran_ns, 1))
    waiter = Mapper()
    waiter.semaphores = {SEM: 0x9000}
    monkeypatch.setattr(
        waiter, "sightings", lambda: [Sighting(Thread(11, NUMBER, 0x9000), stopped=False, ran=RunTime(500, 1))]
    )
    play = Play(monkeypatch, waiter, proved=False)
    for _ in range(3):
        play.state()
    time.sleep(SPAN_S)
    assert play.state() == state


class Waiter(Mapper):
    """It waits for the lock, and has run for `ran_ns` when it is seen."""

    def __init__(self, process: ProcessId = P) -> None:
        super().__init__(process)
        self.semaphores = {SEM: 0x9000}

    def sightings(self) -> list[Sighting]:
        self.sightings_taken += 1
        return [Sighting(Thread(11, NUMBER, 0x9000), stopped=False, ran=RunTime(500, 1))]


def test_sample_in_which_a_waiter_ran_is_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([501, 502])
    monkeypatch.setattr(proving.futex, "run_time", lambda pid, tid: RunTime(next(runs, 500), 1))
    play = Play(monkeypatch, Waiter(), proved=False)
    play.state()
    assert play.prover._suspicions[SEM].samples == 1


def test_waiter_that_always_runs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving.futex, "run_time", lambda pid, tid: RunTime(501, 1))
    play = Play(monkeypatch, Waiter(), proved=False)
    play.state()
    time.sleep(SPAN_S)
    assert f"thread 11 of PID {P.pid} waits for it and ran" in (play.verdict().reason or "")


def test_slow_sweep_after_a_look_takes_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that computes it takes seconds."""
    monkeypatch.setattr(proof, "PATIENCE_S", 0.05)
    play = Play(monkeypatch, Mapper(), proved=False)
    monkeypatch.setattr(proving, "ask_outside", lambda *_: time.sleep(0.1) or {SEM: Outside()})
    play.state()
    time.sleep(SPAN_S)
    assert [play.state(), play.state()] == ["unknown", "orphaned"], "in the refresh with the last look that it takes"


def test_takers_are_not_looked_for_once_all_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Mapper()
    play = Play(monkeypatch, worker, proved=False)
    play.state()
    time.sleep(SPAN_S)
    play.state()
    before = worker.sightings_taken
    assert play.state() == "orphaned"
    assert worker.sightings_taken - before == 1


def test_taker_is_forgotten_once_all_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have ended since, while the proof waits for a process outside the server."""
    worker = Mapper()
    play = Play(monkeypatch, worker, proved=False)
    play.outside, play.refused = [77], {77}
    play.stats[77] = SimpleNamespace(id=ProcessId(77, 1), ppid=1, threads=1, ended=False)
    play.prover._waited[SEM] = {(P, 11): play.now_s}
    for _ in range(SAMPLES - 1):
        play.state()
    time.sleep(SPAN_S)
    worker.runs_for = 1000
    assert [claim.process for claim in play.verdict().holders] == [P]
    worker.runs_for = 0
    found = play.verdict()
    assert (found.state, found.holders) == ("unknown", ())


def test_lock_is_read_less_often_while_memory_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the pauses between the readings is long on a machine that computes."""
    worker = Mapper()
    worker.searched_s = {}
    play = Play(monkeypatch, worker, proved=False)
    found = []
    for _ in range(4):
        before = play.readings
        play.state()
        found.append(play.readings - before)
    assert found[0] == found[1] > 2 * found[2] == 2 * found[3]
    assert play.prover._suspicions[SEM].readings >= READINGS


def test_briefly_running_thread_is_awaited_in_the_same_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Mapper()
    play = Play(monkeypatch, worker)
    play.prover.forget()
    wait_until(lambda: play.state() == "orphaned", what="the proof anew")
    worker.runs_for = 3
    assert play.state() == "orphaned"
    worker.runs_for = 1000
    assert play.state() == "unknown", "for whoever is about to act every look must be complete"


def test_what_was_proved_stays_so_while_a_thread_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Mapper()
    play = Play(monkeypatch, worker)
    worker.runs_for = 1000
    assert play.state() == "orphaned"


def test_nothing_is_proved_before_the_memory_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Mapper()
    worker.searched_s = {}
    play = Play(monkeypatch, worker, proved=False)
    for _ in range(20):
        assert play.state() == "unknown"
    worker.searched_s = {SEM: float("inf")}
    wait_until(lambda: play.state() == "orphaned", what="the proof")


def test_newborn_that_ages_after_the_proof_does_not_undo_it(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, Mapper(), proved=False)
    play.state()
    newborn = Mapper(play.born(920))
    newborn.searched_s = {}
    play.mappers = (*play.mappers, newborn)
    wait_until(lambda: play.state() == "orphaned", what="the proof")
    play.ticks += int(NEWBORN_S * TICKS_PER_S) + 1
    assert play.state() == "orphaned"


def test_child_forked_meanwhile_is_searched_only_for_an_act(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine it takes long to search all that are born, and each has a copy of its parent's memory."""
    play = Play(monkeypatch, Mapper(), proved=False)
    play.state()
    child, stranger = Mapper(play.born(920, ppid=P.pid)), Mapper(play.born(921, ppid=77))
    for each, ppid in ((child, P.pid), (stranger, 77)):
        each.searched_s = {}
        each.stat = SimpleNamespace(comm="gunicorn", threads=1, forked=True, ppid=ppid)
    play.mappers = (*play.mappers, child)
    play.ticks += int(NEWBORN_S * TICKS_PER_S) + 1
    wait_until(lambda: play.state() == "orphaned", what="the proof")
    play.prover.forget()
    time.sleep(SPAN_S)
    assert play.state() == "unknown"
    play = Play(monkeypatch, Mapper(), proved=False)
    play.state()
    play.mappers = (*play.mappers, stranger)
    time.sleep(SPAN_S)
    assert play.state() == "unknown"


def test_a_suspicion_goes_on_while_a_newborn_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, proved=False)
    play.state()
    play.blind(play.born(920))
    wait_until(lambda: play.state() == "orphaned", what="the proof")
    play.prover.forget()
    play.blind()
    play.state()
    play.blind(play.born(921))
    wait_until(lambda: play.state() == "orphaned", what="the proof anew, before an act")


def test_unreadable_newborn_that_has_ended_does_not_prevent_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    play.blind(ProcessId(920, 1))
    assert play.state() == "orphaned"


def test_newborn_that_stays_unreadable_is_not_awaited_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    play.blind(play.born(920))
    assert play.state() == "orphaned"
    play.ticks += int(NEWBORN_S * TICKS_PER_S) + 1
    assert play.state() == "unknown"
    assert play.state() == "unknown", "the proof begins anew, and he was there before it"


@pytest.mark.parametrize("threads", [1, 2])
def test_unreadable_process_that_is_not_newborn_ends_the_suspicion(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(monkeypatch)
    if threads == 1:
        play.stats[P.pid] = SimpleNamespace(id=P, ppid=1, threads=1, ended=False)
        play.blind(P, play.born(920))
    else:
        play.blind(play.born(920, threads=2))
    assert play.state() == "unknown"


def test_unreadable_newborn_excuses_neither_a_claim_nor_a_free_value(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    play.now = replace(play.now, blind=(play.born(920),), claims=(Claim(P, 1, 7),))
    assert play.state() == "held"
    play = Play(monkeypatch)
    play.now = replace(play.now, blind=(play.born(920),), value=1)
    assert play.state() == "free"


def test_another_last_acquirer_begins_the_proof_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, Mapper())
    play.now = replace(play.now, claims=(Claim(P, 0, 8),))
    assert play.state() == "unknown"
    wait_until(lambda: play.state() == "orphaned", what="the proof anew")


def test_a_process_outside_the_server_is_invited_and_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, Mapper(), proved=False)
    outsider = play.born(920)
    play.outside = [920]
    wait_until(lambda: play.state() and play.invited, what="the invitation")
    assert str(920) in (play.verdict().reason or "")
    play.mappers = (*play.mappers, Mapper(outsider))
    play.outside = []
    wait_until(lambda: play.state() == "orphaned", what="the proof")


def test_one_outside_that_cannot_be_read_keeps_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, Mapper(), proved=False)
    play.born(920)
    play.outside, play.refused = [920], {920}
    wait_until(lambda: play.state() and play.invited, what="the invitation")
    assert str(920) in (play.verdict().reason or "")
    assert play.state(later_s=10.0) == "unknown"


def test_a_newborn_child_of_a_known_process_is_no_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, Mapper(), proved=False)
    play.state()
    play.born(920, ppid=P.pid)
    play.outside = [920]
    wait_until(lambda: play.state() == "orphaned", what="the proof")
    assert not play.invited


def test_invited_stranger_born_after_the_proof_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, Mapper())
    play.born(920)
    play.outside = [920]
    assert play.state(later_s=10.0) == "orphaned"
    assert play.invited == [920]
    old = ProcessId(921, 1)
    play.stats[921] = SimpleNamespace(id=old, ppid=1, threads=1, ended=False)
    play.outside = [921]
    assert play.state(later_s=20.0) == "unknown"


def test_of_one_that_is_dying_nothing_need_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    dying = Mapper(Q)
    dying.dying, dying.runs_for = True, 1000
    assert Play(monkeypatch, Mapper(), dying).state() == "orphaned"


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_dropped_lock_needs_no_rights_and_no_proof(
    monkeypatch: pytest.MonkeyPatch, dropped: bool, hidden: bool
) -> None:
    play = Play(monkeypatch, Mapper(), proved=False)
    monkeypatch.setattr(play.prover._droppers, "find", lambda *_: Q if dropped else None)
    if hidden:
        outside = Outside((), (), obstacles=(Obstacle("hidden", 40),))
        monkeypatch.setattr(proving, "ask_outside", lambda *_: {SEM: outside})

    def decided() -> bool:
        verdict = play.verdict()
        return not play.prover.unproved and verdict.reason is not None

    wait_until(decided, what="all that can be known")
    verdict = play.verdict()
    assert verdict.state == ("unknown" if dropped or hidden else "orphaned")
    assert verdict.dropper == (Q if dropped else None)
    assert verdict.proof_needs_rights == (hidden and not dropped)


def test_what_was_shown_of_one_unit_shows_nothing_of_all() -> None:
    """A semaphore of two that has lost one, which its last living holder gives to another: all counts are 0 then."""
    semaphore = SemId(0, 27, 1)
    one = Reading(0, SEMAPHORE, 2, (Claim(P, 1, 7), Claim(Q, 0, 0)))
    none = replace(one, claims=(Claim(P, 0, 7), Claim(Q, 0, 0)))
    now = [one]

    def look(_: SemId) -> Judged:
        return Judged(now[0], judge(now[0], {}), 0)

    prover = Prover(look, {semaphore: Baselines()}, lambda: ())

    def verdict() -> Verdict:
        judged = {semaphore: look(semaphore)}
        prover.prove(time.monotonic(), judged, {semaphore: []})
        return judged[semaphore].verdict

    wait_until(lambda: verdict().proved, what="the proof that one is lost")
    assert [(claim.process, claim.count) for claim in verdict().holders] == [(P, 1)]
    now[0] = none
    assert verdict().state == "unknown"
    assert prover.unproved
    wait_until(lambda: verdict().state == "orphaned", what="a proof of its own")


def test_many_suspects_share_pauses_and_are_judged_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [SemId(0, 27, inode) for inode in range(100)]
    locked = Reading(0, SEMAPHORE, 1, (Claim(P, 0, 7),))
    now = dict.fromkeys(many, locked)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            now[many[5]] = replace(locked, claims=(Claim(P, 1, 7),))
            now[many[6]] = replace(locked, value=1)

    def look(semaphore: SemId) -> Judged:
        return Judged(now[semaphore], judge(now[semaphore], {}), 0)

    monkeypatch.setattr(time, "sleep", pause)
    prover = Prover(look, {each: Baselines() for each in many}, lambda: ())
    judged = {each: look(each) for each in many}
    prover.prove(100.0, judged, dict.fromkeys(many, ()))
    assert len(pauses) < 20
    assert [judged[each].verdict.state for each in many[4:8]] == ["unknown", "held", "free", "unknown"]
    assert len(prover._suspicions) == 98
