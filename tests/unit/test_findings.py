"""Each rule: what it says, and above all what it must not say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sick import (
    SERVER,
    codes,
    found,
    frames,
    holder,
    lock,
    overlap,
    pid,
    processes,
    snapshot,
    thread_lock,
    waiter,
    worker,
)

from semtrace.doctor import passed
from semtrace.model import (
    SEM_VALUE_MAX,
    DeadHolder,
    Durations,
    LastHolder,
    LeakedName,
    Lost,
    Problem,
    Process,
    SemId,
    SharedMemory,
    Snapshot,
    Statistics,
    Stray,
)
from semtrace.rules import Limits, findings, wording, worst_first
from semtrace.rules.basis import unbroken_s

GUNICORNS_QUEUE = frames(("/usr/lib/python3.12/multiprocessing/queues.py", "get"), ("/srv/app.py", "consume"))
USERS = frames(("/usr/lib/python3.12/contextlib.py", "__enter__"), ("/srv/app.py", "withdraw"))


def everything(snapshot: Snapshot) -> str:
    return "\n".join(line for f in snapshot.findings for line in (f.title, *f.evidence, f.remedy))


# -- nothing


def test_a_server_at_rest_has_nothing_wrong() -> None:
    assert codes(lock(), lock("app.other", 2)) == []


def test_a_server_that_just_starts_has_nothing_wrong() -> None:
    assert findings(Snapshot(SERVER, 0.0, 0.0, (), ())) == ()
    assert codes(lock(None, kind="unknown", state="unknown", maximum=None, value=None, reason="not read yet")) == []


def test_held_and_waited_for_a_moment_is_how_locks_are_used() -> None:
    assert codes(lock(holders=(holder(11, 0.3),), waiters=(waiter(12, 0.2), waiter(13, 0.1)))) == []


def test_the_worst_comes_first_and_a_lock_is_spoken_of_once() -> None:
    locks = (
        lock("app.slow", 1, holders=(holder(11, 15.0, asleep_s=15.0),), waiters=(waiter(12, 15.0),)),
        lock("app.dead", 2, state="orphaned", waiters=(waiter(13, 15.0),)),
    )
    assert codes(*locks) == ["orphaned-lock", "long-hold"]
    assert worst_first(reversed(found(*locks))) == found(*locks)


# -- orphaned-lock


def test_an_orphan_is_told_with_its_proof_and_the_command_that_releases_it() -> None:
    orphan = lock(state="orphaned", reason="locked in 40 readings", waiters=(waiter(12, 75.0), waiter(13, 3.0)))
    (finding,) = found(orphan)
    assert (finding.code, finding.severity, finding.lock, finding.pids) == (
        "orphaned-lock",
        "error",
        orphan.id,
        (12, 13),
    )
    assert finding.remedy.splitlines()[-1] == "semtrace release 10 app.lock"
    assert "with --yes it releases the lock, and who waits goes on." in finding.remedy
    assert "locked in 40 readings" in finding.evidence
    assert "2 threads wait for it, the longest for at least 1m15s: PID 12, 13" in finding.evidence
    assert any("was not seen" in line for line in finding.evidence)


@pytest.mark.parametrize(("name", "separate", "said"), [
    ("app.locks['a b']", 1, """semtrace release 10 'app.locks['"'"'a b'"'"']'"""),
    (None, 1, "semtrace release 10 0:27:1"),
    ("app.lock", 2, "semtrace release 10 0:27:1"),
])  # fmt: skip
def test_the_command_names_one_lock_alone_and_can_be_pasted(name: str | None, separate: int, said: str) -> None:
    (finding,) = (f for f in found(lock(name, state="orphaned", separate=separate)) if f.code == "orphaned-lock")
    assert finding.remedy.splitlines()[-1] == said
    assert "goes on" not in finding.remedy, "nobody waits"


def test_the_last_holder_is_told_and_gunicorns_timeout_if_it_held_for_so_long() -> None:
    last = LastHolder(pid(11), 11, seen_s=4.0, held_s=29.5, ended_s=3.5, unbroken_s=29.5)
    (finding,) = found(lock(state="orphaned", last_holder=last))
    assert "last seen held by PID 11 4.0s ago, then for at least 29s; it was gone 3.5s ago" in finding.evidence
    assert any("gunicorn most likely killed it" in line for line in finding.evidence)
    short = replace(last, unbroken_s=2.0)
    for other in (short, replace(last, unbroken_s=None), replace(last, held_s=None), replace(last, ended_s=None)):
        (finding,) = found(lock(state="orphaned", last_holder=other))
        assert not any("killed it" in line for line in finding.evidence)
    assert not any("last seen held by" in line for line in finding.evidence), "it lives, so it had let go"


def test_many_short_holds_are_not_told_as_a_long_one_of_the_dead() -> None:
    hot = LastHolder(pid(11), 11, seen_s=4.0, held_s=29.5, ended_s=3.5)
    (finding,) = found(lock(state="orphaned", last_holder=hot))
    assert (
        "last seen held by PID 11 4.0s ago, as at every look for 29s before, in one hold or in several; it was gone "
        "3.5s ago" in finding.evidence
    )
    assert not any("killed it" in line for line in finding.evidence)


def test_a_worker_that_had_not_beaten_for_so_long_was_killed_for_that() -> None:
    silent = LastHolder(pid(11), 11, seen_s=4.0, held_s=29.5, ended_s=3.5, silent_s=29.0)
    assert "its last heartbeat was 29s old then: as long as" in orphans_words(silent)
    assert "killed it" not in orphans_words(replace(silent, silent_s=14.0))
    assert "killed it" not in orphans_words(replace(silent, ended_s=None))


DEAD = DeadHolder(pid(11), acquired_s=40.0, alive_s=9.1, gone_s=9.0)


def by_its_file(dead: DeadHolder, **changes: Any) -> str:
    other = LastHolder(pid(12), 12, seen_s=50.0, held_s=1.0)
    orphan = lock(state="orphaned", reason="PID 11 died holding it", dead_holder=dead, last_holder=other)
    (finding,) = found(orphan, **changes)
    return "\n".join(finding.evidence)


def test_of_a_traced_holder_it_is_told_when_it_died_and_how() -> None:
    said = by_its_file(DEAD)
    assert "PID 11 was last seen alive 9.1s ago, and gone 9.0s ago" in said
    assert "gunicorn most likely killed it" in said
    assert "PID 12" not in said, "who had it before has let go of it: the file names the one that had not"
    early = by_its_file(replace(DEAD, acquired_s=12.0))
    assert "far less than gunicorn's --timeout (30 s)" in early


@pytest.mark.parametrize("dead", [replace(DEAD, acquired_s=30.0), replace(DEAD, alive_s=None, gone_s=None)])
def test_what_is_not_known_of_its_end_is_not_told(dead: DeadHolder) -> None:
    said = by_its_file(dead)
    assert "how it ended is not known; gunicorn's log says it beside that PID" in said
    assert "most likely" not in said
    if dead.gone_s is None:
        assert "PID 11 had ended when the watching began, 20s ago" in said
    assert "gunicorn" not in by_its_file(dead, server=replace(SERVER, kind="python", timeout_s=None))


EARLY = LastHolder(pid(11), 11, seen_s=4.0, held_s=5.0, ended_s=3.9)


def orphans_words(last: LastHolder | None, **changes: Any) -> str:
    (finding,) = found(lock(state="orphaned", last_holder=last), **changes)
    return "\n".join((*finding.evidence, finding.remedy))


def test_a_holder_that_died_early_did_not_die_of_the_timeout() -> None:
    said = orphans_words(EARLY)
    assert "that is far less than gunicorn's --timeout (30 s): most likely something else ended it" in said
    assert "killed it" not in said


@pytest.mark.parametrize(
    "last",
    [
        replace(EARLY, seen_s=15.0),  # the watching began with the hold or after it: it may have been longer
        replace(EARLY, held_s=15.0, seen_s=1.0),  # the worker may have been busy before it took the lock
        replace(EARLY, ended_s=None),
    ],
)
def test_a_hold_that_may_have_been_longer_excuses_the_timeout_of_nothing(last: LastHolder) -> None:
    assert "something else" not in orphans_words(last)


@pytest.mark.parametrize(
    "changes",
    [
        {"server": replace(SERVER, started_at=SERVER.started_at + 80.0)},  # younger than its timeout
        {"server": replace(SERVER, worker_class="gthread")},  # beats while its threads hold the lock
        {"server": replace(SERVER, timeout_s=None)},
        {"server": replace(SERVER, timeout_s=0.0)},
    ],
)
@pytest.mark.parametrize("last", [None, EARLY, replace(EARLY, held_s=29.5, unbroken_s=29.5)])
def test_the_timeout_is_not_spoken_of_where_nobody_died_of_it(changes: Any, last: LastHolder | None) -> None:
    assert "--timeout" not in orphans_words(last, **changes)


def test_the_timeout_is_spoken_of_where_the_end_was_not_seen() -> None:
    assert "WORKER TIMEOUT" in orphans_words(None)


@pytest.mark.parametrize("state", ["unknown", "held", "contended", "exhausted", "free"])
def test_only_a_proved_orphan_is_called_one(state: str) -> None:
    suspect = lock(state=state, value=0, reason="locked, and no living process claims it; not proved orphaned: …")
    assert "orphaned-lock" not in codes(suspect)


@pytest.mark.parametrize(("piece", "part_of", "torn"), [("_wlock", "app.q", True), ("_lock", "app.value", False)])
def test_of_a_queues_lock_it_is_said_that_half_a_message_may_be_left(piece: str, part_of: str, torn: bool) -> None:
    (finding,) = found(lock(f"{part_of}.{piece}", state="orphaned", value=0, part_of=part_of))
    assert ("in the middle of a message" in finding.remedy) is torn
    assert finding.remedy.splitlines()[-1] == f"semtrace release 10 {part_of}.{piece}"


def test_what_only_root_could_prove_is_told_as_a_warning_and_once() -> None:
    reason = "locked, and no living process claims it; not proved orphaned: PID 7 may map it and cannot be read"
    suspect = lock(state="unknown", value=0, reason=reason, waiters=(waiter(12, 60.0),), barred=True)
    (finding,) = found(suspect)
    assert (finding.code, finding.severity, finding.pids) == ("orphaned-lock", "warning", (12,))
    assert reason in finding.evidence
    assert 'sudo "$(command -v semtrace)" doctor 10' in finding.remedy


# -- a unit that was lost


def slots(**changes: Any) -> Any:
    reason = "1 of 2 taken is claimed by no living process"
    plain = lock(
        "app.slots", kind="BoundedSemaphore", maximum=2, state="exhausted", reason=reason, waiters=(waiter(12),)
    )
    return replace(plain, holders=(holder(11),), **changes)


def test_a_unit_that_was_lost_is_told_with_its_proof() -> None:
    (finding,) = found(slots(lost=Lost(1, proved=True, for_s=1.0)))
    assert (finding.code, finding.severity, finding.pids) == ("orphaned-lock", "warning", (12,))
    assert finding.title == "a unit of app.slots was lost with a process that ended"
    assert "1 of its 2 units is left to use" in finding.evidence
    assert "semtrace release" not in finding.remedy


def test_without_proof_it_has_to_look_so_for_long() -> None:
    assert codes(slots(lost=Lost(1, proved=False, for_s=9.0))) == []
    (finding,) = found(slots(lost=Lost(2, proved=False, for_s=11.0)))
    assert finding.title == "it seems that 2 units of app.slots were lost with a process that ended"
    assert "it looked so at every look for 11s" in finding.evidence
    assert codes(slots(lost=Lost(1, proved=True), strays=(Stray(pid(12), -1),))) == [], "they release for each other"


# -- deadlock


def embrace(**changes: Any) -> tuple[Any, Any]:
    return (
        lock("app.a", 1, holders=(holder(11),), waiters=(waiter(12, **changes),)),
        lock("app.b", 2, holders=(holder(12),), waiters=(waiter(11),)),
    )


def test_two_that_wait_for_each_other_are_a_deadlock() -> None:
    (finding,) = found(*embrace())
    assert (finding.code, finding.severity, finding.pids) == ("deadlock", "error", (11, 12))
    assert finding.title == "2 threads wait for each other: app.b, app.a"
    assert finding.evidence[0] == "PID 11 holds app.a and waits for app.b for at least 5.0s"
    assert finding.evidence[1] == "PID 12 holds app.b and waits for app.a for at least 5.0s"


def test_who_waits_behind_a_deadlock_is_counted() -> None:
    a, b = embrace()
    (finding,) = found(replace(a, waiters=(*a.waiters, waiter(13))), b)
    assert "1 more thread waits behind them" in finding.evidence
    assert finding.pids == (11, 12, 13)


def test_a_ring_of_three_is_one_deadlock() -> None:
    ring = [lock(f"app.{i}", i, holders=(holder(10 + i),), waiters=(waiter(11 + i % 3),)) for i in (1, 2, 3)]
    (finding,) = found(*ring)
    assert finding.title.startswith("3 threads wait for each other")


def test_who_waits_for_what_it_holds_itself_is_a_deadlock_of_one() -> None:
    (finding,) = found(lock(holders=(holder(11, within=True),), waiters=(waiter(11), waiter(12), waiter(13))))
    assert finding.title == "PID 11 waits for app.lock, which it holds itself"
    assert finding.severity == "error"
    assert "2 more threads wait behind it" in finding.evidence
    assert "Use a multiprocessing.RLock, or take it only once on the way." in finding.remedy


def test_a_gate_that_another_will_open_is_no_error() -> None:
    """`gate.acquire(); start a child that releases it; gate.acquire()`: the counts are those of a deadlock."""
    (finding,) = found(lock("app.gate", holders=(holder(11),), waiters=(waiter(11),)))
    assert (finding.code, finding.severity) == ("deadlock", "warning")
    assert finding.title.endswith("app.gate, which it took itself; unless another releases it, it waits for ever")
    assert any("PID 10, 12, 13 could release it: so it may be a gate" in line for line in finding.evidence)
    assert finding.remedy.startswith("If another thread or process is still to release it, all is well.")


def test_where_all_who_could_open_the_gate_are_stuck_it_is_an_error() -> None:
    mine = lock(holders=(holder(11),), waiters=(waiter(11), waiter(12)), mapped_by=(pid(11), pid(12)))
    assert [f.severity for f in found(mine)] == ["error"]
    outside = replace(mine, outsiders=(77,))
    (finding,) = found(outside)
    assert finding.severity == "warning"
    assert any("PID 77 could release it" in line for line in finding.evidence)
    blind = Problem("read its memory", "not permitted", "sudo", pid(13))
    assert [f.severity for f in found(mine, problems=(blind,))] == ["warning"], "it may map it"


def threaded() -> tuple[Any, ...]:
    return (processes()[0], worker(11, threads=2), *processes()[2:])


def test_a_thread_may_acquire_for_another_of_its_process_so_only_a_long_wait_is_told() -> None:
    """asyncio.to_thread(lock.acquire): the thread of the pool that took it has other work by then."""
    for asleep_s, told in ((5.0, []), (11.0, ["warning"])):
        waits = replace(waiter(11), asleep_s=asleep_s)
        mine = lock(holders=(holder(11),), waiters=(waits, waiter(12)), mapped_by=(pid(11), pid(12)))
        findings = [f for f in found(mine, processes=threaded()) if f.code == "deadlock"]
        assert [f.severity for f in findings] == told
        a, b = embrace()
        ring = (replace(a, waiters=(replace(a.waiters[0], asleep_s=asleep_s),)), replace(b, waiters=(waits,)))
        findings = [f for f in found(*ring, processes=threaded()) if f.code == "deadlock"]
        assert [f.severity for f in findings] == told
        if told:
            assert any("another thread of that process may release it" in line for line in findings[0].evidence)
    inside = [replace(each, holders=tuple(replace(h, within=True) for h in each.holders)) for each in embrace()]
    assert [f.severity for f in found(*inside, processes=threaded())] == ["error"], "who is inside will release it"


def test_a_ring_is_no_error_where_somebody_outside_the_server_maps_a_lock_of_it() -> None:
    a, b = embrace()
    (finding,) = found(replace(a, outsiders=(77,)), b)
    assert finding.severity == "warning"
    assert any("PID 77, outside this server, may release app.a" in line for line in finding.evidence)


def test_one_hold_is_proved_by_its_thread_or_by_all_that_wait_and_not_by_one_of_them() -> None:
    """Of many that queue the last sleeps through the turns of all before it."""

    def proved(holder_s: float | None, *waiters_s: float | None) -> float | None:
        waiting = tuple(replace(waiter(20 + i), asleep_s=each) for i, each in enumerate(waiters_s))
        mine = replace(holder(11), since_s=9.0, asleep_s=holder_s)
        return unbroken_s(lock(holders=(mine,), waiters=waiting), mine)

    assert proved(None) is None
    assert proved(4.0) == 4.0
    assert proved(0.0, 8.0, 0.5) == 0.5
    assert proved(0.0, 8.0, None) is None
    assert proved(0.0, 8.0, 7.0) == 7.0
    assert proved(20.0, 8.0) == 9.0


def test_a_ring_in_a_program_that_hands_locks_on_is_no_error() -> None:
    """Batons: each is released by the one before, who took it never."""
    baton = lock("app.baton", 3, strays=(Stray(pid(13), -2),))
    told = [f for f in found(*embrace(), baton) if f.code == "deadlock"]
    assert [f.severity for f in told] == ["warning"]
    assert told[0].title.endswith("; unless another releases one of these, for ever")
    rlocks = [replace(each, kind="RLock") for each in embrace()]
    assert "error" in [f.severity for f in found(*rlocks, baton) if f.code == "deadlock"], "only its owner can"


@pytest.mark.parametrize(("kind", "said"), [
    ("gunicorn.workers.ggevent.GeventWorker", "An RLock is no cure here"),
    ("eventlet", "An RLock is no cure here"),
    ("sync", "Use a multiprocessing.RLock, or"),
    (None, "Use a multiprocessing.RLock (not under gevent or eventlet: to it all greenlets are one thread), or"),
])  # fmt: skip
def test_an_rlock_is_no_remedy_for_greenlets(kind: str | None, said: str) -> None:
    reentry = lock(holders=(holder(11, within=True),), waiters=(waiter(11),))
    (finding,) = found(reentry, server=replace(SERVER, worker_class=kind))
    assert said in finding.remedy


def test_all_units_of_a_bounded_semaphore_may_be_in_a_deadlock() -> None:
    slots = lock("app.slots", 3, kind="BoundedSemaphore", maximum=2, holders=(holder(11), holder(12)))
    a = lock("app.a", 1, holders=(holder(11),), waiters=(waiter(12),))
    b = replace(slots, waiters=(waiter(11),))
    assert "deadlock" in codes(a, b)
    free = replace(slots, holders=(holder(11), holder(13)), waiters=(waiter(11),))
    assert "deadlock" not in codes(a, free), "13 may give its unit back"


@pytest.mark.parametrize(
    "changes",
    [
        {"asleep_s": None},  # it has run meanwhile: a hot lock in flux, seen at unlucky moments
        {"asleep_s": 0.4},  # not for long enough
        {"timed": True},  # it will give up
    ],
)
def test_a_cycle_that_may_dissolve_is_no_deadlock(changes: dict[str, Any]) -> None:
    assert codes(*embrace(**changes)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"in_flux": True},
        {"holders": (holder(12, tid=99),)},  # another thread of that process holds it, and runs
        {"holders": ()},
        {"signal": True},
        {"strays": (Stray(pid(13), -1),)},  # somebody releases for others
        {"value": 1, "maximum": 2},  # there is a unit left
        {"maximum": SEM_VALUE_MAX},  # anybody may give
        {"maximum": 2},  # the holders do not account for all units
    ],
)
def test_no_deadlock_without_knowing_that_the_holders_are_all_who_can_release(changes: dict[str, Any]) -> None:
    a, b = embrace()
    assert "deadlock" not in codes(a, replace(b, **changes))


def test_a_thread_that_is_not_known_is_the_only_one_of_its_process_or_says_nothing() -> None:
    a, b = embrace()
    unknown = replace(b, holders=(holder(12, tid=None),))
    assert codes(a, unknown) == ["deadlock"]
    several = (*processes()[:2], worker(12, threads=2), worker(13))
    assert codes(a, unknown, processes=several) == []


def test_waiting_for_one_who_works_is_no_deadlock() -> None:
    assert (
        codes(lock("app.a", 1, holders=(holder(11),), waiters=(waiter(12),)), lock("app.b", 2, holders=(holder(12),)))
        == []
    )


# -- timeout-risk


def busy(beat_s: float | None) -> tuple[Process, ...]:
    return (processes()[0], worker(11, last_heartbeat_s=beat_s), *processes()[2:])


def test_a_holder_that_gunicorn_is_about_to_kill_is_a_risk() -> None:
    (finding,) = found(lock(holders=(holder(11, 16.0),)), processes=busy(17.0))
    assert (finding.code, finding.severity, finding.pids) == ("timeout-risk", "warning", (11,))
    assert "its last heartbeat was 17s ago; gunicorn kills it at 30 s (--timeout)" in finding.evidence


def test_the_heartbeat_tells_the_risk_also_when_the_watching_has_just_begun() -> None:
    assert codes(lock(holders=(holder(11, 1.2),)), processes=busy(25.0)) == ["timeout-risk"]


@pytest.mark.parametrize(
    ("since_s", "beat_s", "changes"),
    [
        (20.0, 0.3, {}),  # it beats: its threads hold the lock, not the worker
        (20.0, 15.1, {}),  # an idle worker beats every half timeout
        (0.2, 25.0, {}),  # it has only just been seen with it
        (20.0, 25.0, {"timeout_s": 0.0}),  # no timeout at all
        (20.0, 25.0, {"timeout_s": None}),
        (20.0, 25.0, {"kind": "python"}),
        (29.0, None, {"worker_class": "gthread"}),
    ],
)
def test_no_risk_where_nobody_is_about_to_kill(since_s: float, beat_s: float | None, changes: dict[str, Any]) -> None:
    server = replace(SERVER, **changes)
    held = lock(holders=(holder(11, since_s),))
    assert "timeout-risk" not in codes(held, processes=busy(beat_s), server=server)


def test_the_master_is_killed_by_nobody() -> None:
    assert "timeout-risk" not in codes(lock(holders=(holder(10, 29.0),)))


def test_that_gunicorn_will_soon_kill_the_holder_is_not_told_of_one_that_has_ended() -> None:
    risks = found(lock(holders=(holder(11, 16.0),)), processes=busy(17.0))
    seen = {(risk.code, str(risk.lock)): (95.0, risk) for risk in risks}
    (over,) = passed(seen, snapshot(lock()), ())
    assert over.evidence[-1] == "over by now: last seen 5.0s ago"
    assert over.title == "gunicorn was about to kill PID 11, which held app.lock"
    assert list(passed(seen, snapshot(lock(state="orphaned")), ())) == []


def test_a_gate_that_was_opened_was_none_and_what_else_is_over_says_so() -> None:
    gate = found(lock(holders=(holder(11),), waiters=(waiter(11),)))
    assert list(passed({("deadlock", "x"): (95.0, gate[0])}, snapshot(lock()), ())) == []
    ring = found(*embrace())[0]
    (over,) = passed({("deadlock", "x"): (95.0, ring)}, snapshot(lock()), ())
    assert (ring.severity, over.severity) == ("error", "warning"), "both live: somebody let them go on"
    (over,) = passed({("deadlock", "x"): (95.0, ring)}, snapshot(lock(), processes=processes(1)), ())
    assert over.severity == "error", "one of them was killed"
    (long,) = found(lock(holders=(holder(11, 12.0, asleep_s=11.0),)))
    (over,) = passed({("long-hold", "x"): (95.0, long)}, snapshot(lock()), ())
    assert list(passed({("long-hold", "x"): (95.0, long)}, snapshot(lock(state="orphaned")), ())) == [], "it goes on"
    assert (
        list(passed({("long-hold", "x"): (95.0, replace(long, lock=SemId(0, 27, 2)))}, snapshot(*embrace()), ())) == []
    )
    assert over.title == "PID 11 has held app.lock for at least 11s without a break (over by now)"


def test_what_is_told_now_in_the_place_of_something_does_not_make_that_over() -> None:
    long = found(lock(holders=(holder(11, 11.0, asleep_s=11.0),), waiters=(waiter(12, 11.0),)))[0]
    seen = {("long-hold", "0:27:1"): (95.0, long)}
    assert list(passed(seen, snapshot(lock()), {("timeout-risk", "0:27:1")})) == []
    assert len(list(passed(seen, snapshot(lock()), {("timeout-risk", "0:27:2"), ("contention", "0:27:1")}))) == 1


# -- long-hold, long-wait


def test_a_long_hold_and_its_line() -> None:
    (finding,) = found(lock(holders=(holder(11, 12.0, asleep_s=11.0, stack=USERS),)))
    assert (finding.code, finding.severity) == ("long-hold", "warning")
    assert finding.title == "PID 11 has held app.lock for at least 11s without a break"
    assert finding.evidence[0] == "PID 11 at /srv/app.py:7 in withdraw"


@pytest.mark.parametrize("state", ["stopped", "tracing-stop"])
def test_a_holder_that_is_stopped_is_told_at_once_if_somebody_waits(state: str) -> None:
    stopped = tuple(replace(each, state=state) if each.pid == 11 else each for each in processes())
    taken = lock(holders=(holder(11, 1.0),), waiters=(waiter(12, 1.0),))
    (finding,) = found(taken, processes=stopped)
    assert (finding.code, finding.severity, finding.pids) == ("long-hold", "warning", (11,))
    assert "is stopped" in finding.title
    assert "kill -CONT 11" in finding.remedy
    assert codes(taken) == []
    assert codes(replace(taken, waiters=()), processes=stopped) == []


def test_a_library_keeps_its_own_lock_as_long_as_it_likes_if_nobody_waits() -> None:
    kept = lock(holders=(holder(11, 12.0, asleep_s=11.0, stack=USERS),), own=False)
    assert codes(kept) == []
    assert codes(replace(kept, waiters=(waiter(12, 1.0),))) == ["long-hold"]


def test_a_waiter_that_never_ran_shows_that_nobody_released_meanwhile() -> None:
    assert codes(lock(holders=(holder(11, 12.0),), waiters=(waiter(12, 10.5),))) == ["long-hold"]


def test_a_hot_lock_that_is_always_seen_with_the_same_holder_is_no_long_hold() -> None:
    assert codes(lock(holders=(holder(11, 60.0),))) == []
    assert codes(lock(holders=(holder(11, 60.0),), waiters=(waiter(12, 60.0, asleep_s=None),)), watched_s=0.5) == []


def test_many_short_holds_or_waits_are_not_told_as_a_long_one() -> None:
    """Looking sees the same worker with it each time: it may have let go of it in between."""
    hot = lock(holders=(holder(11, 3.0),), waiters=(waiter(12, 3.0, asleep_s=None),), waited_s=50.0)
    (finding,) = found(hot)
    assert "held by PID 11, as at every look for 3.0s, in one hold or in several" in finding.evidence
    assert "1 thread waits for it, as at every look for 3.0s, in one wait or in several: PID 12" in finding.evidence
    (finding,) = found(replace(hot, holders=(holder(11, 3.0, asleep_s=1.5),), waiters=(waiter(12, 2.0),)))
    assert "held by PID 11 for at least 2.0s" in finding.evidence
    assert "1 thread waits for it for at least 2.0s: PID 12" in finding.evidence


def test_thresholds_can_be_given() -> None:
    held = lock(holders=(holder(11, 3.0, asleep_s=3.0),))
    assert codes(held) == []
    assert codes(held, limits=Limits(hold_s=2.0)) == ["long-hold"]
    waited = lock(state="unknown", reason="who knows", waiters=(waiter(12, 3.0),))
    assert codes(waited, limits=Limits(wait_s=2.0)) == ["long-wait"]


def test_a_traced_lock_knows_how_long_exactly() -> None:
    (finding,) = found(lock(holders=(holder(11, 12.0, evidence="events", site="/srv/app.py:7"),)))
    assert finding.title == "PID 11 has held app.lock for 12s without a break"
    assert wording.at_least(0.0241, "events") == " for 24.1ms"
    assert finding.evidence[0] == "PID 11 at /srv/app.py:7"


def test_a_long_wait_for_a_holder_that_is_not_known() -> None:
    (finding,) = found(lock(state="unknown", reason="it is in flux", waiters=(waiter(12, 20.0),)))
    assert (finding.code, finding.pids) == ("long-wait", (12,))
    assert "who holds it is not known: it is in flux" in finding.evidence


@pytest.mark.parametrize(
    "normal",
    [
        lock("app.pool._inqueue._rlock", part_of="app.pool"),  # an idle worker of a Pool
        lock("app.queue._rlock", part_of="app.queue"),
        lock("app.cond._wait_semaphore", part_of="app.cond", signal=True, maximum=SEM_VALUE_MAX),  # Condition.wait
        lock("app.signal", kind="Semaphore", maximum=SEM_VALUE_MAX, state="exhausted"),  # who gives will come
        lock(None),  # may be a queue's: nothing shows that it is not
    ],
    ids=lambda each: each.label,
)
def test_waiting_for_work_is_no_long_wait_or_hold(normal: Any) -> None:
    busy = replace(normal, value=0, holders=(holder(11, 900.0, asleep_s=900.0),), waiters=(waiter(12, 900.0),))
    assert codes(replace(busy, waited_s=900.0)) == []
    assert codes(replace(busy, waited_s=900.0, holders=())) == []


def test_a_stack_tells_a_nameless_lock_of_a_queue_from_another() -> None:
    held = holder(11, 900.0, asleep_s=900.0)
    assert codes(lock(None, holders=(replace(held, stack=GUNICORNS_QUEUE),), waiters=(waiter(12, 900.0),))) == []
    assert codes(lock(None, holders=(replace(held, stack=USERS),), waiters=(waiter(12, 900.0),))) == ["long-hold"]


@pytest.mark.parametrize("name", ["app.lock", "app.cache._rlock"])
def test_ones_own_lock_held_over_a_get_is_a_long_hold(name: str) -> None:
    """`with lock: queue.get()`: the queue's own lock may be held all day, this one may not."""
    held = lock(name, holders=(holder(11, 900.0, asleep_s=900.0, stack=GUNICORNS_QUEUE),), waiters=(waiter(12, 900.0),))
    assert codes(held) == ["long-hold"]
    assert codes(lock(name, state="unknown", waiters=(waiter(12, 900.0, stack=GUNICORNS_QUEUE),))) == ["long-wait"]
    busy_ = held.holders[0]
    assert codes(lock(name, holders=(busy_,)), processes=busy(20.0)) == ["timeout-risk"]


def test_a_queues_own_write_lock_is_told_by_its_stack() -> None:
    own = lock("app.q._wlock", part_of="app.q", holders=(holder(11, 900.0, asleep_s=900.0, stack=GUNICORNS_QUEUE),))
    assert codes(own) == []


def test_a_deadlock_is_not_told_again_as_a_long_hold() -> None:
    assert codes(*embrace(for_s=60.0)) == ["deadlock"]


# -- Semaphores, which may be locks


def test_a_lock_that_nobody_may_have_does_not_do_its_work() -> None:
    busy = {"waiters": (waiter(11, 2.0), waiter(12, 2.0)), "waited_s": 60.0}
    assert codes(lock(state="contended", holders=(holder(13, 0.1),), **busy)) == ["contention"]
    assert codes(lock(state="unknown", in_flux=True, reason="in flux", **busy)) == ["contention"]
    assert codes(lock(state="unknown", reason="holder unknown: PID 920 cannot be read", **busy)) == []
    assert codes(lock(state="unknown", in_flux=True, orphaned_s=3.0, **busy)) == []
    assert codes(lock(state="orphaned", orphaned_s=3.0, **busy)) == ["orphaned-lock"]


def test_a_line_that_never_let_go_has_no_average() -> None:
    waits, none, some = Durations(5, 1.0, 0.2, 0.3), Durations(), Durations(9, 0.9, 0.1)
    sites = (("app.py:27", Statistics(1, 0, 0, none, none)), ("app.py:31", Statistics(9, 0, 0, none, some)))
    counts = Statistics(10, 5, 0, waits, some, sites)
    (finding,) = found(lock(holders=(holder(13, 0.1),), waiters=(waiter(11, 2.0),), waited_s=60.0, statistics=counts))
    assert [line for line in finding.evidence if "on average from" in line] == [
        "held 100ms on average from app.py:31, 900ms in all"
    ]


GONE = LastHolder(pid(13), 13, seen_s=15.0, held_s=1.0, ended_s=14.9)


def semaphore(name: str = "app.permit", number: int = 1, **changes: Any) -> Any:
    plain = lock(name, number, kind="Semaphore", maximum=SEM_VALUE_MAX, value=0, state="exhausted")
    return replace(plain, **changes)


def test_a_semaphore_whose_last_taker_ended_is_a_long_wait_and_no_more() -> None:
    (finding,) = found(semaphore(waiters=(waiter(11, 12.0), waiter(12, 3.0)), last_holder=GONE))
    assert (finding.code, finding.severity, finding.pids) == ("long-wait", "warning", (11, 12))
    assert finding.title == "PID 11 has waited for app.permit for at least 12s, and whoever had it has ended"
    assert "PID 13 had it 15s ago, and was gone 14s ago" in finding.evidence
    traced = semaphore(waiters=(waiter(11, 12.0),), dead_holder=DeadHolder(pid(13), 30.0))
    assert any("PID 13 took it 30s ago and ended without" in line for line in found(traced)[0].evidence)


@pytest.mark.parametrize(
    "changes",
    [
        {"last_holder": None},  # nobody was ever seen to have it: a signal that is still to come
        {"last_holder": replace(GONE, ended_s=None)},
        {"waiters": (waiter(11, 9.0),)},
        {"waiters": (waiter(11, 12.0, timed=True),)},
        {"waiters": (waiter(11, 12.0, asleep_s=None),)},
        {"strays": (Stray(pid(12), -1),)},  # one gives what another takes
        {"holders": (holder(11, 12.0),)},  # a consumer that waits for the next
        {"signal": True},
        {"part_of": "app.cond"},
        {"state": "free", "value": 1},
    ],
)
def test_waiting_for_a_signal_is_no_long_wait(changes: dict[str, Any]) -> None:
    waits = semaphore(waiters=(waiter(11, 12.0),), last_holder=GONE)
    assert codes(waits) == ["long-wait"]
    assert codes(replace(waits, **changes)) == []


def test_a_ring_through_semaphores_is_a_long_wait() -> None:
    a = semaphore("app.a", 1, holders=(holder(11, 12.0),), waiters=(waiter(12, 12.0),))
    b = semaphore("app.b", 2, holders=(holder(12, 12.0),), waiters=(waiter(11, 11.0),))
    (finding,) = found(a, b)
    assert (finding.code, finding.severity, finding.pids) == ("long-wait", "warning", (11, 12))
    assert finding.title == "2 threads have waited for each other for at least 11s: app.b, app.a"
    assert finding.evidence[0] == "PID 11 took app.a and waits for app.b for at least 11s"
    assert codes(replace(a, waiters=(waiter(12, 9.0),)), b) == []
    assert codes(a, replace(b, strays=(Stray(pid(13), -4),))) == [], "they are given by others"


# -- contention


def test_a_lock_that_somebody_always_waits_for_is_worth_a_line() -> None:
    (finding,) = found(lock(holders=(holder(11, 0.1),), waiters=(waiter(12, 0.1),), waited_s=50.0))
    assert (finding.code, finding.severity) == ("contention", "info")
    assert finding.title == "2.5 threads at a time waited for app.lock"
    assert finding.remedy.startswith("It does its work")


def test_one_hold_that_lasted_all_the_time_is_not_called_work() -> None:
    all_along = lock(holders=(holder(11, 5.0, asleep_s=5.0),), waiters=(waiter(12, 5.0),), waited_s=4.0)
    (finding,) = found(all_along, watched_s=1.5)
    assert (finding.code, finding.severity) == ("contention", "info")
    assert finding.remedy.endswith("\nsemtrace doctor 10 --for 15")


def test_the_counts_of_a_traced_lock_are_told() -> None:
    hold = Durations(100, 5.0, 0.05, 0.2)
    counts = Statistics(
        100, 80, 0, Durations(80, 8.0, 0.1, 0.4), hold, (("/srv/app.py:7", Statistics(100, 80, 0, Durations(), hold)),)
    )
    (finding,) = found(lock(waited_s=50.0, statistics=counts))
    assert "80% of 100 acquires had to wait, 100ms on average, 400ms at most" in finding.evidence
    assert "held 50.0ms on average from /srv/app.py:7, 5.00s in all" in finding.evidence


def test_a_line_that_a_traced_process_tells_commands_no_terminal() -> None:
    hold = Durations(100, 5.0, 0.05, 0.2)
    sites = (("/srv/\x1b[2J\udcff.py:7", Statistics(100, 80, 0, Durations(), hold)),)
    (finding,) = found(lock(waited_s=50.0, statistics=Statistics(100, 80, 0, Durations(80, 8.0), hold, sites)))
    assert "held 50.0ms on average from /srv/?[2J?.py:7, 5.00s in all" in finding.evidence


def test_a_little_waiting_or_a_short_look_is_not_worth_a_line() -> None:
    assert codes(lock(waited_s=15.0)) == []
    assert codes(lock(waited_s=2.0), watched_s=0.5) == []


def test_of_many_contended_locks_the_worst_are_told() -> None:
    told = found(*(lock(f"app.{i}", i, waited_s=20.0 + i) for i in range(10)))
    assert [finding.name for finding in told] == ["app.9", "app.8", "app.7"]


# -- private-lock


def test_a_threading_lock_with_two_inside_is_an_error() -> None:
    (finding,) = found(thread_locks=(thread_lock(overlap=overlap(11, 13)),))
    assert (finding.code, finding.severity, finding.name) == ("private-lock", "error", "app.guard")
    assert finding.evidence[0] == "2 processes were inside at once, in 3 looks, first 10s ago; last PID 11, 13"
    assert "multiprocessing.Lock" in finding.remedy
    assert "--preload" in finding.remedy


def test_a_threading_lock_in_several_workers_is_a_warning() -> None:
    (finding,) = found(thread_locks=(thread_lock(),))
    assert (finding.code, finding.severity, finding.pids) == ("private-lock", "warning", (11, 12, 13))


def test_a_server_of_one_worker_may_have_threading_locks() -> None:
    alone = thread_lock(workers=1, overlap=overlap(10, 11))
    assert codes(thread_locks=(alone,), processes=processes(1)) == []


def test_a_script_may_have_threading_locks() -> None:
    family = tuple(replace(process, role="process") for process in processes())
    assert codes(thread_locks=(thread_lock(),), processes=family, server=replace(SERVER, kind="python")) == []


def test_a_librarys_lock_and_a_condition_are_their_own_business() -> None:
    assert codes(thread_locks=(thread_lock(own=False, overlap=overlap(11, 12)),)) == []
    assert codes(thread_locks=(thread_lock(kind="Condition"),)) == []
    assert codes(thread_locks=(thread_lock(kind="Condition", overlap=overlap(11, 12)),)) == []


def test_the_master_and_a_worker_inside_at_once_is_not_what_matters() -> None:
    assert [f.severity for f in found(thread_locks=(thread_lock(overlap=overlap(10, 11)),))] == ["warning"]


def inherited(*numbers: int, **changes: Any) -> Any:
    guard = thread_lock(locked=numbers, **changes)
    uses = (replace(use, inherited=use.process.pid in numbers) for use in guard.processes)
    return replace(guard, processes=tuple(uses))


def test_copies_that_were_locked_at_the_fork_are_told_as_that_and_not_as_a_crowd() -> None:
    (finding,) = found(thread_locks=(inherited(11, 12, 13),))
    assert (finding.code, finding.severity, finding.pids) == ("inherited-hold", "warning", (11, 12, 13))
    assert finding.title == "app.guard seems to have been held while 3 workers were forked"
    assert "os.register_at_fork" in finding.remedy


def test_one_copy_that_stays_locked_is_told_where_somebody_waits() -> None:
    alone = inherited(12)
    assert codes(thread_locks=(alone,)) == ["private-lock"]
    uses = tuple(replace(use, waiters=(waiter(12),) if use.inherited else ()) for use in alone.processes)
    (finding,) = found(thread_locks=(replace(alone, processes=uses),))
    assert finding.code == "inherited-hold"
    assert "1 thread waits for it: PID 12" in finding.evidence
    assert codes(thread_locks=(inherited(11, 12, own=False),)) == []


def test_a_script_may_fork_while_a_threading_lock_is_held_too() -> None:
    """Unlike a gunicorn's workers, which are told alike, one of its processes may be meant to keep it."""
    script = {
        "server": replace(SERVER, kind="python"),
        "processes": tuple(replace(process, role="process") for process in processes()),
    }
    kept = inherited(10, 11, 12)
    assert codes(thread_locks=(kept,), **script) == []
    uses = tuple(replace(use, waiters=(waiter(use.process.pid),)) for use in kept.processes)
    (finding,) = found(thread_locks=(replace(kept, processes=uses),), **script)
    assert (finding.code, finding.severity, finding.pids) == ("inherited-hold", "warning", (11, 12))
    assert finding.title == "app.guard seems to have been held while 2 processes were forked"
    assert "2 threads wait for it: PID 11, 12" in finding.evidence


# -- unshared-lock


def separate(count: int = 3, name: str = "app.lock", **changes: Any) -> tuple[Any, ...]:
    return tuple(lock(name, i, separate=count, mapped_by=(pid(11 + i),), **changes) for i in range(count))


def test_a_lock_that_each_worker_made_for_itself_is_an_error() -> None:
    (finding,) = found(*separate())
    assert (finding.code, finding.severity, finding.pids) == ("unshared-lock", "error", (11, 12, 13))
    assert "--preload" in finding.remedy


def test_that_two_hold_it_at_once_is_told() -> None:
    one, two, three = separate()
    (finding,) = found(replace(one, holders=(holder(11, 0.1),)), replace(two, holders=(holder(12, 0.1),)), three)
    assert "PID 11, 12 hold it at the same time" in finding.evidence


def test_a_value_is_told_as_what_it_is() -> None:
    (finding,) = found(*separate(name="app.counter._lock", part_of="app.counter", kind="RLock"))
    assert finding.name == "app.counter"


@pytest.mark.parametrize(
    "changes",
    [
        {"own": False},  # a library's, such as tqdm's
        {"name": "app.pool._inqueue._rlock", "part_of": "app.pool"},  # each worker may have a pool of its own
        {"name": "app.event._flag", "part_of": "app.event", "signal": True},
    ],
)
def test_what_each_worker_may_well_have_for_itself_is_no_error(changes: dict[str, Any]) -> None:
    assert codes(*separate(**changes)) == []


QUEUES = {
    "SimpleQueue": ("_rlock", "_wlock"),
    "Queue": ("_rlock", "_wlock", "_sem"),
    "JoinableQueue": ("_rlock", "_wlock", "_sem", "_unfinished_tasks", "_cond._lock", "_cond._sleeping_count"),
}


def queue_of_each(name: str, pieces: tuple[str, ...], **changes: Any) -> tuple[Any, ...]:
    """Each of three workers has its own."""
    return tuple(
        lock(f"{name}.{piece}", 100 * at + i, separate=3, part_of=name, mapped_by=(pid(11 + i),), **changes)
        for at, piece in enumerate(pieces)
        for i in range(3)
    )


@pytest.mark.parametrize("kind", QUEUES)
def test_of_a_queue_that_each_worker_has_for_itself_it_is_said_once(kind: str) -> None:
    (finding,) = found(*queue_of_each("app.queue", QUEUES[kind]))
    assert (finding.code, finding.severity, finding.name) == ("unshared-lock", "warning", "app.queue")
    assert finding.pids == (11, 12, 13)
    assert finding.title.startswith(f"app.queue, a {kind}: each worker has one of its own")
    assert "--preload" in finding.remedy
    assert "_rlock" not in "".join((finding.title, *finding.evidence, finding.remedy))


@pytest.mark.parametrize(("kind", "pieces"), [
    ("Event", ("_cond._lock", "_cond._sleeping_count", "_cond._wait_semaphore", "_flag")),
    ("Barrier", ("_cond._lock", "_cond._sleeping_count", "_cond._wait_semaphore")),
])  # fmt: skip
def test_an_event_and_a_barrier_that_each_worker_has_for_itself_are_told(kind: str, pieces: tuple[str, ...]) -> None:
    (finding,) = found(*queue_of_each("app.done", pieces))
    assert (finding.code, finding.severity, finding.name) == ("unshared-lock", "warning", "app.done")
    assert finding.title.startswith(
        f"app.done, a{'n' * (kind == 'Event')} {kind}: each worker has one of its own, and "
    )


def jobs(count: int, workers: int = 2) -> tuple[Any, ...]:
    """What each of the workers has appended to a list of its own, for processes that have ended."""
    return tuple(
        lock(f"app.history[{i}].{piece}", 100 * i + 10 * w + k, separate=workers, mapped_by=(pid(11 + w),), **changes)
        for i in range(count)
        for w in range(workers)
        for k, (piece, changes) in enumerate(
            (("lock", {}), ("counter._lock", {"part_of": f"app.history[{i}].counter", "kind": "RLock"}))
        )
    )


def test_what_lies_in_a_list_of_each_worker_is_a_warning_and_one() -> None:
    told = found(*jobs(4))
    assert [(f.code, f.severity, f.name) for f in told] == [
        ("unshared-lock", "warning", "app.history[…].lock"),
        ("unshared-lock", "warning", "app.history[…].counter"),
    ]
    assert told[0].pids == (11, 12)
    assert told[0].title.startswith(
        "app.history[…].lock, a Lock: each worker has one of its own, which keeps out nobody"
    )
    assert told[1].title.startswith("app.history[…].counter, a Value: ")
    assert told[0].evidence[0].startswith("8 separate ones bear this name")


def test_keys_are_indexes_too_and_one_that_children_map_speaks_for_all() -> None:
    keyed = separate(name="app.locks['a]b']")
    assert [(f.severity, f.name) for f in found(*keyed)] == [("warning", "app.locks[…]")]
    first, *others = jobs(3)
    assert "app.history[…].lock" not in [
        f.name for f in found(replace(first, mapped_by=(*first.mapped_by, pid(90))), *others)
    ]


@pytest.mark.parametrize(
    "fine",
    [
        queue_of_each("app.ex", ("_call_queue._rlock", "_call_queue._wlock")),  # an executor's, before its first job
        queue_of_each("app.queue", QUEUES["Queue"], own=False),
        tuple(replace(each, mapped_by=(*each.mapped_by, pid(90))) for each in queue_of_each("app.q", QUEUES["Queue"])),
        tuple(lock(f"app.queue.{piece}", i, part_of="app.queue") for i, piece in enumerate(QUEUES["Queue"])),  # shared
    ],
)
def test_a_queue_of_a_worker_and_its_children_or_of_all_is_as_it_should_be(fine: tuple[Any, ...]) -> None:
    assert codes(*fine) == []


def test_two_generations_of_a_server_have_each_their_own() -> None:
    """USR2: the old master and its workers, the new master and its workers."""
    old = lock(number=1, separate=2, mapped_by=tuple(map(pid, (10, 11, 12))))
    new = lock(number=2, separate=2, mapped_by=tuple(map(pid, (20, 21, 22))))
    assert codes(old, new) == []


def test_the_processes_of_a_script_may_each_have_their_own() -> None:
    family = tuple(replace(process, role="process") for process in processes())
    assert codes(*separate(), processes=family, server=replace(SERVER, kind="python")) == []


def test_a_second_worker_without_the_lock_yet_is_no_error() -> None:
    assert codes(lock(mapped_by=(pid(11),))) == []


# -- inherited-hold, over-release


def test_who_has_no_parent_with_the_lock_has_inherited_nothing() -> None:
    """A slot that the first process takes and each child gives back: its count only ever grows."""
    first = lock(strays=(Stray(pid(10), 4, certain=False),))
    assert codes(first) == []
    assert codes(replace(first, strays=(Stray(pid(12), 1),), mapped_by=(pid(11), pid(12)))) == []


def test_a_thread_of_the_master_that_reads_a_queue_has_its_lock_at_every_fork() -> None:
    """As of a log that workers write to, and the master reads."""
    read = lock("app.log._rlock", part_of="app.log", holders=(holder(10),), strays=(Stray(pid(11), 1),))
    assert codes(read) == []
    assert codes(replace(read, name="app.log._wlock")) == ["inherited-hold"]


def test_the_cause_comes_before_what_comes_of_it_and_that_is_not_told_again() -> None:
    other = lock("app.other", 2, state="unknown", reason="who knows", waiters=(waiter(11, 20.0),))
    waits = replace(ALL_WAIT, waiters=tuple(replace(each, for_s=20.0, asleep_s=20.0) for each in ALL_WAIT.waiters))
    assert [(f.code, f.name) for f in found(other, waits)] == [
        ("inherited-hold", "app.lock"), ("long-wait", "app.other"),
    ]  # fmt: skip


def test_a_hold_that_may_be_over_is_not_told_as_one() -> None:
    strays = (Stray(pid(12), 1), Stray(pid(13), 1))
    (finding,) = found(lock(kind="RLock", strays=strays, holders=(holder(12, 0.2),)))
    assert not any("held by" in line for line in finding.evidence)
    (finding,) = found(lock(kind="RLock", strays=strays, holders=(holder(12, 3.0, asleep_s=2.0),)))
    assert "held by PID 12 for at least 2.0s" in finding.evidence


def test_counts_that_a_fork_copied_are_told() -> None:
    strays = (Stray(pid(12), 1), Stray(pid(13), 1))
    (finding,) = found(lock(kind="RLock", strays=strays))
    assert (finding.code, finding.severity, finding.pids) == ("inherited-hold", "warning", (12, 13))
    assert finding.title == "app.lock was held while 2 processes were forked"
    assert finding.evidence[0] == "PID 12, 13 count it as held, and did not take it"
    assert any("RLock" in line for line in finding.evidence)
    assert "RLock" not in "".join(found(lock(strays=strays))[0].evidence)


def test_where_the_holder_is_among_them_that_is_said() -> None:
    strays = tuple(Stray(pid(number), 1, certain=False) for number in (11, 12))
    (finding,) = found(lock(state="unknown", value=0, strays=strays))
    assert finding.evidence[0] == "PID 11, 12 count it as held; only 1 can have taken it"


ALL_WAIT = lock(
    state="unknown",
    value=0,
    reason="ambiguous",
    strays=tuple(Stray(pid(number), 1, certain=False) for number in (11, 12, 13)),
    waiters=(waiter(11, 9.0), waiter(12, 5.0), waiter(13, 7.0)),
)


def test_where_all_who_count_it_as_held_wait_for_it_that_is_told_but_not_called_an_orphan() -> None:
    (finding,) = (each for each in found(ALL_WAIT) if each.code == "inherited-hold")
    assert finding.severity == "warning", "a process outside the server may hold it"
    assert any("each of them waits for it itself, and has not run for 5.0s" in line for line in finding.evidence)
    assert finding.remedy.startswith("They wait until the server is restarted; semtrace release refuses")
    assert "orphaned-lock" not in codes(ALL_WAIT)


@pytest.mark.parametrize(
    "changes",
    [
        {"waiters": (waiter(11), waiter(12))},  # 13 may be the one that has it
        {"waiters": (waiter(11), waiter(12), waiter(13, 0.9))},  # it has just come
        {"waiters": (waiter(11), waiter(12), waiter(13, asleep_s=None))},  # it has run meanwhile
        {"waiters": (waiter(11), waiter(12), waiter(13, timed=True))},  # it will give up
        {"in_flux": True},
        {"value": 1},
        {"state": "contended", "holders": (holder(13),)},
        {"maximum": 3, "kind": "BoundedSemaphore"},
    ],
)
def test_where_one_of_them_may_go_on_nothing_is_said_of_all(changes: dict[str, Any]) -> None:
    told = [each for each in found(replace(ALL_WAIT, **changes)) if each.code == "inherited-hold"]
    assert not any("each of them" in line for each in told for line in (*each.evidence, each.remedy))


def test_another_thread_of_such_a_process_may_hold_it() -> None:
    several = (*processes()[:3], worker(13, threads=4))
    told = [each for each in found(ALL_WAIT, processes=several) if each.code == "inherited-hold"]
    assert not any("each of them" in line for each in told for line in each.evidence)


def test_pids_are_told_in_their_order() -> None:
    (finding,) = found(lock(state="orphaned", waiters=(waiter(13, 9.0), waiter(11, 8.0), waiter(12, 7.0))))
    assert "3 threads wait for it, the longest for at least 9.0s: PID 11, 12, 13" in finding.evidence


def test_a_count_below_zero_is_told_as_what_it_is() -> None:
    (finding,) = found(lock(strays=(Stray(pid(12), -3),)))
    assert (finding.code, finding.severity, finding.pids) == ("over-release", "warning", (12,))
    assert finding.evidence[0] == "PID 12 released it 3 times more than it took it"


def test_a_value_above_its_maximum_is_told() -> None:
    (finding,) = found(lock(value=2))
    assert (finding.code, finding.pids) == ("over-release", ())
    assert finding.evidence[0] == "its value is 2, and 1 is the most it may be"


@pytest.mark.parametrize(
    "normal",
    [
        lock(kind="Semaphore", value=4, maximum=SEM_VALUE_MAX, strays=(Stray(pid(12), -3),)),  # one gives, one takes
        lock(kind="BoundedSemaphore", value=1, maximum=3, strays=(Stray(pid(12), -3),)),
        lock("app.q._sem", signal=True, value=7, maximum=5),
        lock(kind="Semaphore", value=4, maximum=SEM_VALUE_MAX, strays=(Stray(pid(12), 1),)),
    ],
)
def test_to_give_what_others_take_is_a_way_to_use_a_semaphore(normal: Any) -> None:
    assert codes(normal) == []


# -- /dev/shm


def leak(age_s: float = 300.0, name: str = "/mp-abc") -> LeakedName:
    return LeakedName(SemId(0, 27, 5), name, age_s, "alice")


def room(*leaked: LeakedName, free: int = 60 << 20) -> SharedMemory:
    return SharedMemory(64 << 20, free, leaked)


def test_names_that_nobody_uses_are_told_together() -> None:
    (finding,) = found(shared_memory=room(*(leak(100.0 + i, f"/mp-{i}") for i in range(8))))
    assert (finding.code, finding.severity) == ("leaked-name", "warning")
    assert finding.title == "8 semaphores in /dev/shm that no process uses"
    assert finding.evidence[0] == "/mp-7, made 1m47s ago by alice"
    assert finding.evidence[-1] == "and 2 more"


def test_a_young_name_and_names_that_were_not_looked_for_are_none() -> None:
    assert codes(shared_memory=room(leak(59.0))) == []
    assert codes(shared_memory=SharedMemory(64 << 20, 60 << 20, None)) == []


@pytest.mark.parametrize(("size", "free", "full"), [
    (64 << 20, 500 << 10, True),
    (64 << 20, 2 << 20, False),
    (8 << 30, 100 << 20, True),
    (8 << 30, 1 << 30, False),
    (0, 0, False),  # it could not be asked
])  # fmt: skip
def test_little_room_in_dev_shm(size: int, free: int, full: bool) -> None:
    assert (codes(shared_memory=SharedMemory(size, free)) == ["shm-full"]) == full


# -- hostile text


def test_names_and_stacks_from_the_target_cannot_write_to_the_terminal() -> None:
    evil = "app.\x1b[2Jlock\n"
    stack = frames((f"/srv/{evil}.py", evil))
    sick = snapshot(
        lock(evil, 1, state="orphaned", reason=evil, waiters=(waiter(12, 20.0, stack=stack),)),
        lock(evil, 2, holders=(holder(11, 20.0, asleep_s=20.0, stack=stack),)),
        lock(evil, 3, strays=(Stray(pid(12), 1),)),
        thread_locks=(thread_lock(evil, overlap=overlap(11, 12)),),
        shared_memory=room(leak(name=evil)),
    )
    told = replace(sick, findings=findings(sick))
    assert len(told.findings) == 5
    assert all(c.isprintable() or c == "\n" for c in everything(told).replace("'" + evil + "'", ""))
