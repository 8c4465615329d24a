"""Counts that do not fit: inherited holds, and locks that are released too often."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.snapshots import (
    codes,
    found,
    holder,
    lock,
    pid,
    processes,
    waiter,
    worker,
)

from semtrace.model import (
    SEM_VALUE_MAX,
    AboveMaximum,
    Advice,
    AllWaitThemselves,
    Elapsed,
    HeldBy,
    Hold,
    Inherited,
    OverReleased,
    RLockKeepsCount,
    Stray,
    ThreadRef,
)
from semtrace.present.findings import evidence


def test_who_has_no_parent_with_the_lock_has_inherited_nothing() -> None:
    """A slot that the first process takes and each child gives back: its count only ever grows."""
    first = lock(strays=(Stray(pid(10), 4, certain=False),))
    assert codes(first) == []
    assert codes(replace(first, strays=(Stray(pid(12), 1),), mapped_by=(pid(11), pid(12)))) == []


def test_read_lock_of_a_queue_is_never_inherited() -> None:
    """As of a log that workers write to, and the master reads."""
    read = lock("app.log._rlock", part_of="app.log", holders=(holder(10),), strays=(Stray(pid(11), 1),))
    assert codes(read) == []
    assert codes(replace(read, name="app.log._wlock")) == ["inherited-hold"]


def test_cause_takes_the_place_of_its_effects() -> None:
    waits = replace(ALL_WAIT, waiters=tuple(replace(each, for_s=20.0, asleep_s=20.0) for each in ALL_WAIT.waiters))
    assert [(f.code, f.name) for f in found(waits)] == [("stuck", "app.lock"), ("inherited-hold", "app.lock")]


def test_hold_that_may_be_over_is_not_reported() -> None:
    strays = (Stray(pid(12), 1), Stray(pid(13), 1))
    (finding,) = found(lock(kind="RLock", strays=strays, holders=(holder(12, 0.2),)))
    assert not finding.fact(HeldBy)
    (finding,) = found(lock(kind="RLock", strays=strays, holders=(holder(12, 3.0, asleep_s=2.0),)))
    assert finding.fact(HeldBy) == HeldBy((Hold(ThreadRef(pid(12), 12), Elapsed(2.0)),))


def test_counts_that_a_fork_copied_are_told() -> None:
    strays = (Stray(pid(12), 1), Stray(pid(13), 1))
    (finding,) = found(lock(kind="RLock", strays=strays))
    assert (finding.code, finding.severity, finding.pids) == ("inherited-hold", "warning", (12, 13))
    assert finding.fact(Inherited) == Inherited((pid(12), pid(13)), certain=True, maximum=1)
    assert finding.fact(RLockKeepsCount)
    assert not found(lock(strays=strays))[0].fact(RLockKeepsCount)


def test_where_the_holder_is_among_them_that_is_said() -> None:
    strays = tuple(Stray(pid(number), 1, certain=False) for number in (11, 12))
    (finding,) = found(lock(state="unknown", value=0, strays=strays))
    assert finding.fact(Inherited) == Inherited((pid(11), pid(12)), certain=False, maximum=1)


ALL_WAIT = lock(
    state="unknown",
    value=0,
    reason="ambiguous",
    strays=tuple(Stray(pid(number), 1, certain=False) for number in (11, 12, 13)),
    waiters=(waiter(11, 9.0), waiter(12, 5.0), waiter(13, 7.0)),
)


def test_all_who_count_it_as_held_may_wait_for_it() -> None:
    (finding,) = (each for each in found(ALL_WAIT) if each.code == "inherited-hold")
    assert finding.severity == "warning", "the master maps it too, and may release it"
    assert finding.fact(AllWaitThemselves) == AllWaitThemselves(5.0)
    assert finding.remedy.advice[0] == Advice.CANNOT_BE_RELEASED
    assert "orphaned-lock" not in codes(ALL_WAIT)


def test_all_mappers_of_a_semaphore_waiting_for_it_are_stuck() -> None:
    (finding,) = found(replace(ALL_WAIT, mapped_by=(pid(11), pid(12), pid(13))))
    assert (finding.code, finding.severity, finding.pids) == ("stuck", "error", (11, 12, 13))


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
def test_not_all_wait_where_one_may_go_on(changes: dict[str, Any]) -> None:
    told = [each for each in found(replace(ALL_WAIT, **changes)) if each.code == "inherited-hold"]
    assert not any(each.fact(AllWaitThemselves) for each in told)


def test_another_thread_of_such_a_process_may_hold_it() -> None:
    several = (*processes()[:3], worker(13, threads=4))
    told = [each for each in found(ALL_WAIT, processes=several) if each.code == "inherited-hold"]
    assert not any(each.fact(AllWaitThemselves) for each in told)


def test_pids_are_told_in_their_order() -> None:
    (finding,) = found(lock(state="orphaned", waiters=(waiter(13, 9.0), waiter(11, 8.0), waiter(12, 7.0))))
    assert "3 threads wait for it, the longest for at least 9.0s: PID 11, 12, 13" in evidence(finding)


def test_a_count_below_zero_is_told_as_what_it_is() -> None:
    (finding,) = found(lock(strays=(Stray(pid(12), -3),)))
    assert (finding.code, finding.severity, finding.pids) == ("over-release", "warning", (12,))
    assert finding.fact(OverReleased) == OverReleased(pid(12), 3)


def test_a_value_above_its_maximum_is_told() -> None:
    (finding,) = found(lock(value=2))
    assert (finding.code, finding.pids) == ("over-release", ())
    assert finding.fact(AboveMaximum) == AboveMaximum(2, 1)


@pytest.mark.parametrize(
    "normal",
    [
        lock(kind="Semaphore", value=4, maximum=SEM_VALUE_MAX, strays=(Stray(pid(12), -3),)),  # one gives, one takes
        lock(kind="BoundedSemaphore", value=1, maximum=3, strays=(Stray(pid(12), -3),)),
        lock("app.q._sem", signal=True, value=7, maximum=5),
        lock(kind="Semaphore", value=4, maximum=SEM_VALUE_MAX, strays=(Stray(pid(12), 1),)),
    ],
)
def test_semaphore_may_be_released_by_others(normal: Any) -> None:
    assert codes(normal) == []
