"""What is remembered from one snapshot to the next."""

from __future__ import annotations

import pytest

from semtrace.model import Holder, ProcessId, SemId
from semtrace.observe.evidence.verdict import Claim, Reading, Verdict, judge
from semtrace.observe.history import sleepers
from semtrace.observe.history.history import Asleep
from semtrace.observe.history.sleepers import Sleepers
from semtrace.observe.history.trackers import LastHolders, Lives, OrphanedSince, Strays, Waited
from semtrace.observe.judge.baselines import Baselines
from semtrace.observe.judge.prover import Judged

A, B = ProcessId(11, 1), ProcessId(12, 2)
LOCK = SemId(0, 27, 1)
HELD = [Holder(A, 111, 1, 3.0)]


def judged(verdict: Verdict) -> dict[SemId, Judged]:
    return {LOCK: Judged(Reading(0, 1, 1), verdict, 0)}


# -- Asleep


def looks(asleep: Asleep[str], *seen: tuple[float, dict[str, int | None]]) -> None:
    for now_s, ran_ns in seen:
        asleep.update(now_s, now_s, ran_ns)


def test_thread_that_does_not_run_sleeps_ever_longer() -> None:
    asleep: Asleep[str] = Asleep()
    looks(asleep, *((now_s, {"t": 500}) for now_s in (1.0, 2.0, 3.5)))
    assert asleep.seconds("t") == 2.5


def test_the_shortest_run_begins_anew() -> None:
    asleep: Asleep[str] = Asleep()
    looks(asleep, (1.0, {"t": 500}), (2.0, {"t": 501}))
    assert asleep.seconds("t") is None
    looks(asleep, (3.0, {"t": 501}))
    assert asleep.seconds("t") == 1.0


def test_absent_or_unmeasurable_thread_is_not_known_to_sleep() -> None:
    asleep: Asleep[str] = Asleep()
    looks(asleep, (1.0, {"t": 500, "u": None}), (2.0, {"u": None}), (3.0, {"t": 500, "u": None}))
    assert (asleep.seconds("t"), asleep.seconds("u"), asleep.seconds("v")) == (None, None, None)


class Scheduler:
    """What it says of a thread at each question in turn: since when it has slept."""

    def __init__(self, *since_s: float | None) -> None:
        self.answers = list(since_s)

    def slept_since(self, key: str, ran_ns: int) -> float | None:
        return self.answers.pop(0)


def test_scheduler_reports_earlier_sleep_once_at_the_first_sample() -> None:
    asleep = Asleep(Scheduler(40.0).slept_since)
    looks(asleep, (100.0, {"t": 500}))
    assert asleep.seconds("t") == 60.0
    looks(asleep, (101.0, {"t": 500}))
    assert asleep.seconds("t") == 61.0


def test_scheduler_is_asked_of_newcomers_once_they_are_seen_asleep() -> None:
    asleep = Asleep(Scheduler(98.0).slept_since)
    looks(asleep, (100.0, {}), (101.0, {"t": 500}), (102.0, {"t": 501}))
    assert asleep.seconds("t") is None
    looks(asleep, (103.0, {"t": 501}), (104.0, {"t": 501}))
    assert asleep.seconds("t") == 6.0


def test_thread_that_ran_after_the_sample_began_is_not_asleep() -> None:
    asleep = Asleep(Scheduler(100.5, 100.5).slept_since)
    asleep.update(100.0, 101.0, {"t": 500})
    assert asleep.seconds("t") is None
    asleep.update(102.0, 102.0, {"t": 500})
    assert asleep.seconds("t") == 1.5


def test_busy_machine_makes_no_sleep_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer came three seconds after the sample began: the thread had slept for five by then."""
    clock = iter((100.0, 103.0))
    monkeypatch.setattr(sleepers, "run_time_ns", lambda pid, tid: 500)
    monkeypatch.setattr(sleepers, "slept_s", lambda pid, tid, ran_ns: 5.0)
    monkeypatch.setattr(sleepers.time, "monotonic", lambda: next(clock))
    found = Sleepers()
    found.update(100.0, [(A, 11)])
    monkeypatch.undo()
    assert found.seconds((A, 11)) == 2.0


def test_where_the_scheduler_knows_nothing_the_looks_do() -> None:
    asleep = Asleep(Scheduler(None).slept_since)
    looks(asleep, (1.0, {"t": 500}), (2.0, {"t": 500}))
    assert asleep.seconds("t") == 1.0


def test_in_one_look_not_without_end_are_asked() -> None:
    asleep = Asleep(lambda key, ran_ns: 91.0)
    many = {str(i): 1 for i in range(Asleep.MOST_ASKED + 1)}
    looks(asleep, (100.0, many))
    assert [key for key in many if asleep.seconds(key) is None] == [str(Asleep.MOST_ASKED)]
    looks(asleep, (101.0, many))
    assert asleep.seconds(str(Asleep.MOST_ASKED)) == 10.0


# -- LastHolders


def test_last_holder_is_remembered_with_its_hold_and_end() -> None:
    last = LastHolders()
    last.update(10.0, {LOCK: ("held", HELD)}, {A})
    assert last.of(10.0, LOCK) is None, "it has a holder"
    last.update(11.0, {LOCK: ("unknown", [])}, set())
    last.update(12.0, {LOCK: ("orphaned", [])}, set())
    known = last.of(12.0, LOCK)
    assert known is not None
    assert (known.pid, known.tid, known.held_s, known.seen_s, known.ended_s) == (11, 111, 3.0, 2.0, 1.0)


def test_living_past_holder_is_not_blamed_when_it_ends_later() -> None:
    last = LastHolders()
    last.update(10.0, {LOCK: ("held", HELD)}, {A})
    last.update(11.0, {LOCK: ("unknown", [])}, {A})
    assert last.of(11.0, LOCK) is None
    last.update(12.0, {LOCK: ("orphaned", [])}, {A})
    last.update(13.0, {LOCK: ("orphaned", [])}, set())
    assert last.of(13.0, LOCK) is None


# -- OrphanedSince


ORPHANED, DOUBTED, FREE = Verdict("orphaned"), Verdict("unknown", reason="PID 920 cannot be read"), Verdict("free")


def since_orphaned(*looks: dict[SemId, Judged]) -> float | None:
    """At the last of these looks, one a second."""
    since = OrphanedSince()
    for second, look in enumerate(looks):
        since.update(10.0 + second, look)
    return since.seconds(10.0 + len(looks) - 1, LOCK)


def test_lock_is_orphaned_since_its_first_proof_despite_brief_doubts() -> None:
    proved, doubted = judged(ORPHANED), judged(DOUBTED)
    assert since_orphaned(proved) == 0.0
    assert since_orphaned(doubted, proved, doubted) == 1.0
    assert since_orphaned(proved, doubted, proved) == 2.0


def test_free_held_or_in_flux_sample_restarts_the_orphaned_time() -> None:
    proved = judged(ORPHANED)
    in_flux = {LOCK: Judged(Reading(0, 1, 1, steady=False), DOUBTED, 0)}
    for between in (judged(FREE), judged(Verdict("held")), in_flux, {}):
        assert since_orphaned(proved, between) is None
        assert since_orphaned(proved, between, proved) == 0.0


def test_lock_that_was_seen_free_has_no_last_holder() -> None:
    last = LastHolders()
    last.update(10.0, {LOCK: ("held", HELD)}, {A})
    last.update(11.0, {LOCK: ("free", [])}, {A})
    last.update(12.0, {LOCK: ("orphaned", [])}, {A})
    assert last.of(12.0, LOCK) is None


def test_a_lock_that_is_gone_is_forgotten() -> None:
    last = LastHolders()
    last.update(10.0, {LOCK: ("held", HELD)}, {A})
    last.update(11.0, {}, {A})
    last.update(12.0, {LOCK: ("orphaned", [])}, {A})
    assert last.of(12.0, LOCK) is None


def test_last_holders_heartbeat_age_and_unbroken_hold_are_remembered() -> None:
    last = LastHolders()
    last.update(10.0, {LOCK: ("held", [Holder(A, 111, 1, 3.0, asleep_s=2.0)])}, {A}, {A: 28.0})
    last.update(11.0, {LOCK: ("unknown", [])}, set(), {})
    known = last.of(11.0, LOCK)
    assert known is not None
    assert (known.held_s, known.unbroken_s, known.silent_s) == (3.0, 2.0, 28.0)


# -- Lives


def test_end_lies_between_last_sample_alive_and_first_one_without() -> None:
    lives = Lives()
    lives.update(10.0, {A, B})
    assert lives.end_of(10.0, A) is None
    lives.update(11.0, {B})
    lives.update(12.0, {B})
    assert lives.end_of(13.0, A) == (3.0, 2.0)
    assert lives.end_of(13.0, ProcessId(99, 9)) is None, "it had ended before"


def test_of_many_dead_the_last_are_remembered() -> None:
    lives = Lives()
    for number in range(Lives.MOST_DEAD + 10):
        lives.update(float(number), {ProcessId(number, 1)})
    assert lives.end_of(0.0, ProcessId(0, 1)) is None
    assert lives.end_of(0.0, ProcessId(Lives.MOST_DEAD, 1)) is not None


# -- Strays


def test_rival_claims_are_told_once_they_have_stood() -> None:
    rivals = judge(Reading(0, 0, 1, (Claim(A, 1, 7, 10), Claim(B, 1, 7, 10))), {})
    assert rivals.rivals
    strays = Strays({})
    for now_s in (1.0, 1.2, 1.4):
        strays.update(now_s, judged(rivals))
        assert strays.of(LOCK) == ()
    strays.update(1.5, judged(rivals))
    assert [(s.process, s.count, s.certain) for s in strays.of(LOCK)] == [(A, 1, False), (B, 1, False)]


def test_a_claim_that_is_there_and_gone_never_stands() -> None:
    rivals = judge(Reading(0, 0, 1, (Claim(A, 1, 7, 10), Claim(B, 1, 7, 10))), {})
    strays = Strays({})
    for tick in range(30):
        strays.update(tick * 0.1, judged(rivals if tick % 4 else Verdict("held")))
        assert strays.of(LOCK) == ()


def test_a_count_stands_only_while_its_process_sleeps() -> None:
    """One that takes a lock again and again is found between post and decrement at every look."""
    rivals = judge(Reading(0, 0, 1, (Claim(A, 1, 7, 10), Claim(B, 1, 7, 10))), {})
    strays = Strays({})
    for tick in range(20):
        strays.update(tick * 0.1, judged(rivals), {A})
    assert [stray.process for stray in strays.of(LOCK)] == [B]
    for tick in range(20, 27):
        strays.update(tick * 0.1, judged(rivals))
    assert [stray.process for stray in strays.of(LOCK)] == [A, B]


def test_left_over_counts_are_strays_and_below_zero_only_those() -> None:
    left = Baselines()
    left.sample_free(0.0, [Claim(A, 1, 7)], asleep={A})
    strays = Strays({LOCK: left})
    for now_s in (0.6, 1.2):
        strays.update(now_s, judged(Verdict("free")))
    assert [(s.process, s.count, s.certain) for s in strays.of(LOCK)] == [(A, 1, True)]
    left.note([Claim(A, 1, 7), Claim(B, -2, 7)])
    strays.update(1.3, judged(Verdict("free")))
    assert [(s.process, s.count) for s in strays.of(LOCK)] == [(B, -2)], "below zero it is wrong at once"
    left.note([Claim(B, 0, 7)])
    strays.update(2.0, judged(Verdict("free")))
    assert [(s.process, s.count) for s in strays.of(LOCK)] == [(B, -2)], "and stays so"


def busy(counts: dict[ProcessId, int], kind: int = 1, steady: bool = True) -> dict[SemId, Judged]:
    """A Lock that is taken, with these counts."""
    claims = tuple(Claim(process, count, 7, 10) for process, count in counts.items())
    reading = Reading(0, kind, 1, claims, steady=steady)
    return {LOCK: Judged(reading, judge(reading, {}), 0)}


def over_time(
    *looks: dict[SemId, Judged], seconds: float = 3.0, running: tuple[ProcessId, ...] = ()
) -> list[tuple[ProcessId, int, bool]]:
    """What is told after these looks by turns."""
    strays = Strays({})
    for tick in range(int(seconds * 20)):
        strays.update(tick * 0.05, looks[tick % len(looks)], running)
    return [(s.process, s.count, s.certain) for s in strays.of(LOCK)]


def test_counts_that_never_fall_are_strays_on_a_busy_lock() -> None:
    """Both have inherited one, and take it by turns: 1 and 2."""
    assert over_time(busy({A: 2, B: 1}), busy({A: 1, B: 2})) == [(A, 1, False), (B, 1, False)]


def test_constant_count_while_another_takes_turns_is_certain() -> None:
    assert over_time(busy({A: 1, B: 1}), busy({A: 2, B: 0}), busy({A: 2, B: 0}, steady=False)) == [(A, 1, True)]


def test_busy_lock_whose_count_is_often_late_has_no_strays() -> None:
    late = busy({A: 1, B: 1})
    looks = (late, busy({A: 1, B: 0}), late, late, late, busy({A: 0, B: 1}), late, late)
    assert over_time(*looks) == []
    assert over_time(late, busy({A: 0, B: 0}, steady=False)) == [], "a count that was 0 was 0, whatever else moved"


def test_constantly_running_process_may_be_late_at_every_sample() -> None:
    """It takes the lock again and again, and leaves the others hardly in."""
    assert over_time(busy({A: 1, B: 1}), busy({A: 1, B: 0}), running=(A,)) == []
    assert over_time(busy({A: 2, B: 1}), busy({A: 1, B: 2}), running=(B,)) == [(A, 1, True)]


def test_constant_holder_and_deep_rlock_are_not_strays() -> None:
    assert over_time(busy({A: 1, B: 0})) == []
    assert over_time(busy({A: 3, B: 0}, kind=0), busy({A: 2, B: 0}, kind=0)) == []
    assert over_time(busy({A: 2, B: 1}), busy({A: 1, B: 2}), seconds=0.9) == [], "not for long enough"


# -- Waited


def test_waiting_is_summed_over_threads_without_long_gaps() -> None:
    waited = Waited()
    waited.update(10.0, {LOCK: 5})
    assert waited.seconds(LOCK) == 0.0
    waited.update(10.5, {LOCK: 2})
    waited.update(11.0, {LOCK: 0})
    waited.update(11.5, {LOCK: 1})
    assert waited.seconds(LOCK) == 1.5
    waited.update(60.0, {LOCK: 1})
    assert waited.seconds(LOCK) == 2.5
    waited.update(60.5, {})
    waited.update(61.0, {LOCK: 1})
    assert waited.seconds(LOCK) == 0.5, "of a lock that is gone nothing is kept"
