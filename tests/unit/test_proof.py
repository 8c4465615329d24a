"""The proof of an orphan: each condition alone keeps it open."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support import wait_until

from semtrace.linux.futex import NO_SYSCALL, Thread
from semtrace.linux.sweep import Outside
from semtrace.model import SEMAPHORE, ProcessId, SemId
from semtrace.observe import prover
from semtrace.observe.baselines import Baselines
from semtrace.observe.proof import PATIENCE_S, READINGS, SPAN_S, Sighting, Suspicion
from semtrace.observe.prover import Judged, Prover
from semtrace.observe.verdict import Claim, Reading, Verdict, judge

P, Q = ProcessId(11, 1000), ProcessId(12, 1000)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody outside the server maps anything."""
    monkeypatch.setattr(prover, "ask_outside", lambda mappers, linked: dict.fromkeys(mappers, Outside()))


BORN = 5000
READ = 0
POLL = 7


def asleep(tid: int = 11, address: int = 0x7000) -> Sighting:
    return Sighting(Thread(tid, 202, address), in_runtime=False, stopped=False, ran_ns=None)


def wants_gil(tid: int = 11) -> Sighting:
    return Sighting(Thread(tid, 202, 0x5000), in_runtime=True, stopped=False, ran_ns=None)


def in_call(tid: int = 11, number: int = POLL) -> Sighting:
    return Sighting(Thread(tid, number), in_runtime=False, stopped=False, ran_ns=None)


def running(tid: int = 11, ran_ns: int | None = 0) -> Sighting:
    return Sighting(Thread(tid, None), in_runtime=False, stopped=False, ran_ns=ran_ns)


def preempted(tid: int = 11, ran_ns: int | None = 0, stopped: bool = False) -> Sighting:
    return Sighting(Thread(tid, NO_SYSCALL), in_runtime=False, stopped=stopped, ran_ns=ran_ns)


def suspicion() -> Suspicion:
    """One whose proof is complete but for the threads."""
    found = Suspicion(since_s=100.0)
    found.add_readings(100.0 + SPAN_S, READINGS)
    found.swept_s = 100.1
    return found


def complete() -> Suspicion:
    found = suspicion()
    for _ in range(5):  # as often as it may want to see them
        found.look_at(P, [asleep()])
    return found


def test_with_everything_shown_nothing_is_missing() -> None:
    assert complete().missing([]) is None


def test_too_short_a_time_keeps_it_open() -> None:
    found = complete()
    found.last_s = found.since_s + SPAN_S - 0.01
    assert found.missing([])


def test_too_few_readings_keep_it_open() -> None:
    found = complete()
    found.readings = READINGS - 1
    assert found.missing([])


def test_a_process_that_was_not_searched_keeps_it_open_and_is_named() -> None:
    missing = complete().missing([Q])
    assert missing
    assert str(Q.pid) in missing


def test_without_a_look_at_the_other_processes_it_stays_open() -> None:
    found = complete()
    found.swept_s = None
    assert found.missing([])


def test_a_process_outside_the_server_keeps_it_open() -> None:
    found = complete()
    found.outsider = "PID 99, which is not of this server, maps it too"
    assert found.missing([]) == found.outsider


@pytest.mark.parametrize(
    ("where", "sighting", "word"),
    [
        ("waits for the interpreter lock", wants_gil(), "interpreter lock"),
        ("stopped outside a call", preempted(stopped=True), "stopped"),
        ("running, for how long is not known", running(ran_ns=None), "running"),
        ("running, seen once", running(), "running"),
        ("off the processor in its own code", preempted(), "running"),
        ("running while the process is being stopped", Sighting(Thread(11, None), False, True, 0), "stopped"),
    ],
)
def test_a_thread_that_may_be_about_to_claim_keeps_it_open(where: str, sighting: Sighting, word: str) -> None:
    found = suspicion()
    for _ in range(50):
        found.look_at(P, [sighting])
    missing = found.missing([])
    assert missing
    assert word in missing
    assert str(P.pid) in missing


@pytest.mark.parametrize("sighting", [asleep(), in_call(), in_call(number=READ)])
def test_a_thread_that_sleeps_elsewhere_does_not(sighting: Sighting) -> None:
    found = suspicion()
    for _ in range(5):
        found.look_at(P, [sighting])
    assert found.missing([]) is None


def test_a_thread_that_computes_long_enough_does_not() -> None:
    found = suspicion()
    for ran_ns in range(0, 60_000_000, 4_000_000):
        found.look_at(P, [running(ran_ns=ran_ns)])
    assert found.missing([]) is None


def test_a_thread_that_is_runnable_but_gets_no_processor_keeps_it_open() -> None:
    found = suspicion()
    for _ in range(1000):
        found.look_at(P, [running(ran_ns=1_000_000)])
    assert found.missing([])


def test_running_after_waiting_for_the_interpreter_lock_keeps_it_open() -> None:
    """Its turns at the interpreter lock do not show that it has counted: it may have slept on its way."""
    found = suspicion()
    found.look_at(P, [wants_gil()])
    for ran_ns in range(0, 60_000_000, 4_000_000):
        found.look_at(P, [running(ran_ns=ran_ns)])
    assert found.missing([])


def test_one_of_many_threads_is_enough_to_keep_it_open() -> None:
    found = suspicion()
    for _ in range(5):
        found.look_at(P, [*[asleep(tid) for tid in range(11, 75)], wants_gil(75)])
        found.look_at(Q, [asleep(12)])
    missing = found.missing([])
    assert missing
    assert "75" in missing


def test_a_thread_that_ended_keeps_nothing_open() -> None:
    found = suspicion()
    found.look_at(P, [asleep(11), wants_gil(15)])
    for _ in range(5):
        found.look_at(P, [asleep(11)])
    assert found.missing([]) is None


def test_a_process_of_which_no_thread_could_be_seen_keeps_it_open() -> None:
    """A worker that made itself undumpable after its memory was opened: its memory reads on, its threads do not."""
    found = suspicion()
    for _ in range(5):
        found.look_at(P, [])
    assert found.missing([])


def test_a_sleeper_that_then_wants_the_interpreter_lock_keeps_it_open() -> None:
    """Seen asleep on the semaphore, then granted it between two looks, by one who took and released in between."""
    found = suspicion()
    found.look_at(P, [wants_gil(11)])
    found.look_at(Q, [asleep(12)])
    found.look_at(P, [in_call(11)])
    found.look_at(Q, [wants_gil(12)])
    assert found.missing([])


def test_who_was_born_into_the_suspicion_is_a_concern_as_all_others_are() -> None:
    """The holder who had not counted may have handed it on to him."""
    assert suspicion().concerns(ProcessId(11, BORN))


def test_who_was_born_after_the_proof_needs_one_look_and_no_search() -> None:
    found = complete()
    found.proved_ticks = BORN
    assert found.concerns(ProcessId(11, BORN))  # the same tick: it may have been before
    born_later = ProcessId(12, BORN + 1)
    assert not found.concerns(born_later)
    found.look_at(born_later, [wants_gil(12)])
    assert found.missing([])
    found.look_at(born_later, [asleep(12)])
    assert found.missing([]) is None


class Play:
    """A prover of one lock, and the processes that map it; `now` is what is read of it, always at the same time."""

    def __init__(self, *mappers: Mapper) -> None:
        self.semaphore, self.mappers = SEM, mappers
        self.now_s = time.monotonic()
        self.now = Reading(0, SEMAPHORE, 1, (Claim(P, 0, 7),))
        self.prover = Prover(self._look, {self.semaphore: Baselines()}, lambda: ())
        wait_until(lambda: self.state() == "orphaned", what="the proof")

    def _look(self, _: SemId) -> Judged:
        return Judged(self.now, judge(self.now, {}), 0)

    def state(self, later_s: float = 0.0) -> str:
        judged = {self.semaphore: self._look(self.semaphore)}
        self.prover.prove(self.now_s + later_s, judged, {self.semaphore: self.mappers})  # type: ignore[dict-item]
        return judged[self.semaphore].verdict.state

    def blind(self, *who: ProcessId) -> None:
        self.now = replace(self.now, blind=who)


NEWBORN = ProcessId(920, 1 << 60)
SEM = SemId(0, 27, 1)


class Mapper:
    """A process of one thread, which sleeps but for so many looks."""

    id, dying, stat = P, False, SimpleNamespace(comm="gunicorn")

    def __init__(self) -> None:
        self.searched_s = {SEM: float("inf")}
        self.runs_for = 0

    def foreign_users(self, semaphore: SemId) -> None:
        """Nobody else has it."""

    def sightings(self) -> list[Sighting]:
        self.runs_for -= 1
        return [running(11) if self.runs_for >= 0 else asleep()]


@pytest.mark.parametrize(("looks", "state"), [(3, "orphaned"), (1000, "unknown")])
def test_once_it_is_proved_a_thread_that_runs_for_a_moment_is_waited_for_in_the_same_refresh(
    looks: int, state: str
) -> None:
    worker = Mapper()
    play = Play(worker)
    worker.runs_for = looks
    assert play.state() == state


def test_what_was_proved_stays_so_while_a_newborn_cannot_be_read_yet() -> None:
    play = Play()
    play.blind(NEWBORN)
    assert [play.state(), play.state(PATIENCE_S - 0.5)] == ["orphaned", "orphaned"]
    play.blind()
    assert play.state() == "orphaned"


def test_one_that_never_can_be_read_is_not_awaited_for_ever() -> None:
    play = Play()
    play.blind(NEWBORN)
    assert play.state() == "orphaned"
    assert play.state(PATIENCE_S + 0.1) == "unknown"
    assert play.state() == "unknown", "the proof begins anew, and he was there before it"


def test_who_was_there_before_the_proof_and_cannot_be_read_ends_it() -> None:
    play = Play()
    play.blind(P, NEWBORN)
    assert play.state() == "unknown"


def test_a_newborn_that_cannot_be_read_excuses_no_claim_and_no_free_value() -> None:
    play = Play()
    play.now = replace(play.now, blind=(NEWBORN,), claims=(Claim(P, 1, 7),))
    assert play.state() == "held"
    play = Play()
    play.now = replace(play.now, blind=(NEWBORN,), value=1)
    assert play.state() == "free"


def test_for_whoever_is_about_to_act_every_look_must_be_complete() -> None:
    play = Play()
    play.prover.forget()
    wait_until(lambda: play.state() == "orphaned", what="the proof anew")
    play.blind(NEWBORN)
    assert play.state() == "unknown"


def test_a_newborn_that_runs_is_awaited_and_an_old_one_is_not() -> None:
    found = complete()
    found.proved_ticks = BORN
    found.look_at(ProcessId(920, BORN + 1), [running(920)])
    assert found.missing([])
    assert not found.shaken
    assert found.without_newborn().missing([]) is None
    found.look_at(P, [running(11)])
    assert found.shaken
    assert found.without_newborn().missing([])


def test_a_newborn_outside_the_server_is_looked_for_again_before_it_counts() -> None:
    found, me = complete(), os.getpid()
    assert not found.is_first_seen([me]), "nothing is proved yet"
    found = complete()
    found.proved_ticks = 0  # I was born after
    assert found.is_first_seen([me])
    assert not found.is_first_seen([me]), "the second time it is an outsider"
    found = complete()
    found.proved_ticks = 1 << 60  # I was there before
    assert not found.is_first_seen([me])
    assert not found.is_first_seen([])


def test_of_one_that_is_dying_nothing_need_be_shown() -> None:
    found = complete()
    found.look_at(Q, [running(12)])
    assert found.missing([])
    found.leave_out(Q)
    assert found.missing([]) is None


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


def test_many_suspects_share_the_pauses_and_each_is_judged_by_its_own_readings(monkeypatch: pytest.MonkeyPatch) -> None:
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
