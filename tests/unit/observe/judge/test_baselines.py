"""At which count a process holds nothing: what shows it, and what never does."""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.model import ProcessId, SemId
from semtrace.observe.evidence.verdict import Baseline, Claim
from semtrace.observe.judge.baselines import COUNTINGS, RAN_NS, STANDINGS, Baselines, Rounds
from semtrace.observe.watch.activity import Activity

P, Q = ProcessId(11, 1000), ProcessId(12, 1000)


def claims(*counts: tuple[ProcessId, int]) -> list[Claim]:
    return [Claim(process, count, 7) for process, count in counts]


def test_count_of_zero_is_a_baseline_in_any_state() -> None:
    baselines = Baselines()
    baselines.note(claims((P, 0), (Q, 1)))
    assert baselines.known == {P: Baseline(0, proven=True)}


def test_one_sample_of_a_free_lock_teaches_no_running_process() -> None:
    """It may be between the post and the decrement of its release."""
    baselines = Baselines()
    baselines.sample_free(10.0, claims((P, 1)), asleep=())
    assert baselines.known == {}


def test_a_count_of_a_sleeping_process_is_proven_at_once() -> None:
    baselines = Baselines()
    baselines.sample_free(10.0, claims((P, 1)), asleep={P})
    assert baselines.known == {P: Baseline(1, proven=True, last_tid=7)}


def test_a_count_that_stands_in_two_samples_is_assumed() -> None:
    baselines = Baselines()
    baselines.sample_free(10.0, claims((P, 1), (Q, 1)), asleep=())
    baselines.sample_free(10.0 + Baselines.APART_S, claims((P, 1), (Q, 2)), asleep=())
    assert baselines.known == {P: Baseline(1, proven=False, last_tid=7)}


def sampled(baselines: Baselines, *ran_ns: int, blocked: bool = False, count: int = 1) -> Baseline | None:
    """Sample the free lock once for each run time of the only thread of P, each soon after the other."""
    for number, ran in enumerate(ran_ns):
        activity = Activity({1: ran}, frozenset({1} if blocked else ()), all_wait=False)
        baselines.sample_free(10.0 + number / 100, claims((P, count)), asleep=(), activities={P: activity})
    return baselines.known.get(P)


def test_count_of_a_computing_process_is_proven_by_many_samples() -> None:
    often = range(0, STANDINGS * RAN_NS, RAN_NS)
    assert sampled(Baselines(), *often[1:]) is None
    assert sampled(Baselines(), *often) == Baseline(1, proven=True, last_tid=7)
    assert sampled(Baselines(), *[5] * STANDINGS, blocked=True) == Baseline(1, proven=True, last_tid=7)


def test_thread_that_gets_no_processor_proves_nothing() -> None:
    """It may have been put off between the post and the decrement of its release."""
    assert sampled(Baselines(), *range(40)) is None


def test_units_of_a_semaphore_are_known_after_many_countings() -> None:
    baselines = Baselines()
    for number in range(COUNTINGS):
        assert baselines.units is None
        taken = claims((P, number % 3), (Q, 0))
        baselines.note(claims((P, 0), (Q, 0)))
        baselines.count_units(4 - number % 3 - (number == 5), taken)  # once a taker has not counted
    assert baselines.units == 4


def test_units_are_not_counted_while_a_count_may_be_inherited() -> None:
    baselines = Baselines()
    for _ in range(COUNTINGS):
        baselines.note(claims((P, 1)))
        baselines.count_units(4, claims((P, 1)))
    assert baselines.units is None


def test_unproven_counts_are_sampled_more_often() -> None:
    baselines = Baselines()
    sampled(baselines, 0)
    assert baselines.due(10.0 + Baselines.SOON_S)
    baselines.prove(claims((P, 1))[0])
    baselines.sample_free(10.0, claims((P, 1)), asleep=())
    assert not baselines.due(10.0 + Baselines.SOON_S)


def test_proven_baseline_stays_proven_when_the_process_runs_again() -> None:
    baselines = Baselines()
    baselines.sample_free(10.0, claims((P, 1)), asleep={P})
    baselines.sample_free(11.0, claims((P, 1)), asleep=())
    assert baselines.known[P].proven


def test_a_lower_count_takes_an_assumption_back() -> None:
    baselines = Baselines()
    for now_s in (10.0, 11.0):
        baselines.sample_free(now_s, claims((P, 1)), asleep=())
    baselines.note(claims((P, 0)))
    assert baselines.known == {P: Baseline(0, proven=True)}


def test_sample_is_due_at_once_and_then_after_an_interval() -> None:
    baselines = Baselines()
    assert baselines.due(0.0)
    baselines.sample_free(10.0, [], asleep=())
    assert not baselines.due(10.0 + Baselines.APART_S / 2)
    assert baselines.due(10.0 + Baselines.APART_S)


def test_a_negative_count_once_seen_is_never_forgotten() -> None:
    baselines = Baselines()
    baselines.note(claims((P, 1)))
    assert not baselines.handed_over
    baselines.note(claims((P, 1), (Q, -1)))
    baselines.note(claims((P, 0), (Q, 0)))
    baselines.sample_free(10.0, claims((P, 0)), asleep={P})
    assert baselines.handed_over
    assert baselines.lowest == {Q: -1}


def test_a_process_that_is_gone_is_forgotten() -> None:
    baselines = Baselines()
    baselines.note(claims((P, 0), (Q, 0)))
    baselines.keep([Q])
    assert set(baselines.known) == {Q}


def turns(rounds: Rounds, now_s: float, locks: Sequence[SemId], each_s: float) -> list[SemId]:
    """One refresh, in which each sample takes so long."""
    rounds.begin(now_s)
    had = []
    for semaphore in locks:
        if rounds.may(semaphore):
            rounds.took(semaphore, each_s)
            had.append(semaphore)
    rounds.end(now_s)
    return had


def test_all_of_thousands_have_their_turn_before_one_comes_again() -> None:
    locks = [SemId(0, 27, number) for number in range(10)]
    rounds = Rounds()
    assert turns(rounds, 10.0, locks, 0.125) == locks[:4]
    assert turns(rounds, 11.0, locks, 0.125) == [], "so much time has to pass"
    assert turns(rounds, 12.0, locks, 0.125) == locks[4:8]
    assert turns(rounds, 14.0, locks, 0.125) == locks[8:]
    assert turns(rounds, 16.0, locks, 0.125) == locks[:4]


def test_few_have_their_turn_in_every_refresh() -> None:
    locks = [SemId(0, 27, number) for number in range(10)]
    rounds = Rounds()
    assert all(turns(rounds, 10.0 + number / 5, locks, 1e-4) == locks for number in range(5))
