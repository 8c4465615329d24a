"""Orphaned locks and lost units: what is reported, and above all what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.snapshots import (
    SERVER,
    codes,
    found,
    holder,
    lock,
    pid,
    waiter,
)

from semtrace.model import (
    Advice,
    DeadByFile,
    DeadHolder,
    Elapsed,
    EndedOtherwise,
    EndUnknown,
    Finding,
    HolderNotSeen,
    KilledByTimeout,
    LastHolder,
    LastSeen,
    Lost,
    Stray,
    ThreadRef,
    TimeoutKills,
    UnitsLost,
    VerdictReason,
    WaitedFor,
)

# -- orphaned-lock


def test_orphan_comes_with_its_proof_and_release_command() -> None:
    orphan = lock(state="orphaned", reason="locked in 40 readings", waiters=(waiter(12, 75.0), waiter(13, 3.0)))
    (finding,) = found(orphan)
    assert (finding.code, finding.severity, finding.lock, finding.pids) == (
        "orphaned-lock",
        "error",
        orphan.id,
        (12, 13),
    )
    assert finding.remedy.command == ("semtrace", "release", "10", "app.lock")
    assert Advice.PREVIEW_RELEASE_TO_WAITERS in finding.remedy.advice
    assert finding.fact(VerdictReason) == VerdictReason("locked in 40 readings")
    assert finding.fact(WaitedFor) == WaitedFor((ThreadRef(pid(12), 12), ThreadRef(pid(13), 13)), Elapsed(75.0))
    assert finding.fact(HolderNotSeen)


@pytest.mark.parametrize(("name", "separate", "named"), [
    ("app.locks['a b']", 1, "app.locks['a b']"),
    (None, 1, "0:27:1"),
    ("app.lock", 2, "0:27:1"),
    ("app.\x1block", 1, "0:27:1"),
])  # fmt: skip
def test_release_command_names_one_lock_alone(name: str | None, separate: int, named: str) -> None:
    (finding,) = (f for f in found(lock(name, state="orphaned", separate=separate)) if f.code == "orphaned-lock")
    assert finding.remedy.command == ("semtrace", "release", "10", named)
    assert Advice.PREVIEW_RELEASE in finding.remedy.advice, "nobody waits"


def test_holder_until_the_timeout_was_killed_by_it() -> None:
    last = LastHolder(pid(11), 11, seen_s=4.0, held_s=29.5, ended_s=3.5, unbroken_s=29.5)
    (finding,) = found(lock(state="orphaned", last_holder=last))
    assert finding.fact(LastSeen) == LastSeen(ThreadRef(pid(11), 11), 4.0, Elapsed(29.5), 3.5)
    assert finding.fact(KilledByTimeout) == KilledByTimeout(30.0)
    short = replace(last, unbroken_s=2.0)
    for other in (short, replace(last, unbroken_s=None), replace(last, held_s=None), replace(last, ended_s=None)):
        (finding,) = found(lock(state="orphaned", last_holder=other))
        assert not finding.fact(KilledByTimeout)
    assert not finding.fact(LastSeen), "it lives, so it had released the lock"


def test_many_short_holds_of_the_dead_are_no_long_one() -> None:
    hot = LastHolder(pid(11), 11, seen_s=4.0, held_s=29.5, ended_s=3.5)
    (finding,) = found(lock(state="orphaned", last_holder=hot))
    assert finding.fact(LastSeen) == LastSeen(ThreadRef(pid(11), 11), 4.0, Elapsed(29.5, "samples"), 3.5)
    assert not finding.fact(KilledByTimeout)


def test_worker_that_had_not_beaten_was_killed_for_that() -> None:
    silent = LastHolder(pid(11), 11, seen_s=4.0, held_s=29.5, ended_s=3.5, silent_s=29.0)
    assert orphan(silent).fact(KilledByTimeout) == KilledByTimeout(30.0, 29.0)
    assert not orphan(replace(silent, silent_s=14.0)).fact(KilledByTimeout)
    assert not orphan(replace(silent, ended_s=None)).fact(KilledByTimeout)


DEAD = DeadHolder(pid(11), acquired_s=40.0, alive_s=9.1, gone_s=9.0)


def by_its_file(dead: DeadHolder, **changes: Any) -> Finding:
    other = LastHolder(pid(12), 12, seen_s=50.0, held_s=1.0)
    orphan = lock(state="orphaned", reason="PID 11 died holding it", dead_holder=dead, last_holder=other)
    (finding,) = found(orphan, **changes)
    return finding


def test_state_file_shows_when_and_how_the_holder_died() -> None:
    finding = by_its_file(DEAD)
    assert finding.fact(DeadByFile) == DeadByFile(pid(11), 9.1, 9.0, 20.0)
    assert finding.fact(KilledByTimeout)
    assert not finding.fact(LastSeen), "the one before released the lock: the file names the one that did not"
    assert by_its_file(replace(DEAD, acquired_s=12.0)).fact(EndedOtherwise) == EndedOtherwise(30.0)


@pytest.mark.parametrize("dead", [replace(DEAD, acquired_s=30.0), replace(DEAD, alive_s=None, gone_s=None)])
def test_unknown_end_of_a_holder_is_called_unknown(dead: DeadHolder) -> None:
    finding = by_its_file(dead)
    assert finding.fact(EndUnknown)
    assert not finding.fact(KilledByTimeout)
    assert not finding.fact(EndedOtherwise)
    assert finding.fact(DeadByFile) == DeadByFile(pid(11), dead.alive_s, dead.gone_s, 20.0)
    assert not by_its_file(dead, server=replace(SERVER, kind="python", timeout_s=None)).fact(EndUnknown)


EARLY = LastHolder(pid(11), 11, seen_s=4.0, held_s=5.0, ended_s=3.9)


def orphan(last: LastHolder | None, **changes: Any) -> Finding:
    (finding,) = found(lock(state="orphaned", last_holder=last), **changes)
    return finding


def test_holder_that_died_early_did_not_die_of_the_timeout() -> None:
    assert orphan(EARLY).fact(EndedOtherwise) == EndedOtherwise(30.0)
    assert not orphan(EARLY).fact(KilledByTimeout)


@pytest.mark.parametrize(
    "last",
    [
        replace(EARLY, seen_s=15.0),  # the watching began with the hold or after it: it may have been longer
        replace(EARLY, held_s=15.0, seen_s=1.0),  # the worker may have been busy before it took the lock
        replace(EARLY, ended_s=None),
    ],
)
def test_hold_of_unknown_length_does_not_excuse_the_timeout(last: LastHolder) -> None:
    assert not orphan(last).fact(EndedOtherwise)


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
def test_timeout_is_no_cause_where_nobody_died_of_it(changes: Any, last: LastHolder | None) -> None:
    finding = orphan(last, **changes)
    assert not any(isinstance(fact, KilledByTimeout | EndedOtherwise | TimeoutKills) for fact in finding.facts)


def test_timeout_is_a_possible_cause_where_nobody_saw_the_end() -> None:
    assert orphan(None).fact(TimeoutKills) == TimeoutKills(30.0)


@pytest.mark.parametrize("state", ["unknown", "held", "contended", "exhausted", "free"])
def test_only_a_proved_orphan_is_called_one(state: str) -> None:
    suspect = lock(state=state, value=0, reason="locked, and no living process claims it; not proved orphaned: …")
    assert "orphaned-lock" not in codes(suspect)


@pytest.mark.parametrize(("piece", "part_of", "torn"), [("_wlock", "app.q", True), ("_lock", "app.value", False)])
def test_lock_of_a_queue_may_leave_half_a_message(piece: str, part_of: str, torn: bool) -> None:
    (finding,) = found(lock(f"{part_of}.{piece}", state="orphaned", value=0, part_of=part_of))
    assert (Advice.MESSAGE_MAY_BE_TORN in finding.remedy.advice) is torn
    assert finding.remedy.command == ("semtrace", "release", "10", f"{part_of}.{piece}")


def test_what_only_root_could_prove_is_one_warning() -> None:
    reason = "locked, and no living process claims it; not proved orphaned: PID 7 may map it and cannot be read"
    suspect = lock(state="unknown", value=0, reason=reason, waiters=(waiter(12, 60.0),), proof_needs_rights=True)
    (finding,) = found(suspect)
    assert (finding.code, finding.severity, finding.pids) == ("orphaned-lock", "warning", (12,))
    assert finding.fact(VerdictReason) == VerdictReason(reason)
    assert (finding.remedy.command, finding.remedy.as_root) == (("semtrace", "doctor", "10"), True)


# -- a unit that was lost


def slots(**changes: Any) -> Any:
    reason = "1 of 2 taken is claimed by no living process"
    plain = lock(
        "app.slots", kind="BoundedSemaphore", maximum=2, state="exhausted", reason=reason, waiters=(waiter(12),)
    )
    return replace(plain, holders=(holder(11),), **changes)


def test_lost_unit_is_reported_with_its_proof() -> None:
    (finding,) = found(slots(lost=Lost(1, proved=True, for_s=1.0)))
    assert (finding.code, finding.severity, finding.pids) == ("orphaned-lock", "warning", (12,))
    assert finding.fact(UnitsLost) == UnitsLost(1, 2, proved=True, for_s=1.0)
    assert finding.remedy.command is None, "others may use it"


def test_unproved_lost_unit_is_reported_after_a_long_time() -> None:
    assert codes(slots(lost=Lost(1, proved=False, for_s=9.0))) == []
    (finding,) = found(slots(lost=Lost(2, proved=False, for_s=11.0)))
    assert finding.fact(UnitsLost) == UnitsLost(2, 2, proved=False, for_s=11.0)
    assert codes(slots(lost=Lost(1, proved=True), strays=(Stray(pid(12), -1),))) == [], "they release for each other"
