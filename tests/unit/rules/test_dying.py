"""Workers that end as soon as they have started, and those that only seem to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.snapshots import BOOT, failing_workers, found, frames, pid, processes, snapshot

from semtrace.model import Death, DeathCause, PoolWait, Target, ThreadId, Wait, WaitKind, Wakers
from semtrace.rules import findings
from semtrace.rules.dying import may_be_dying

WAIT = Wait(
    ThreadId(pid(10), 10),
    Target(WaitKind.SIGNAL, "multiprocessing.pool.Pool", process=pid(10), address=5),
    False,
    Wakers((), (pid(10),)),
    60.0,
    60.0,
    stack=frames(("/usr/lib/python3.12/multiprocessing/pool.py", "wait"), ("/srv/app.py", "compute")),
    pool=PoolWait(3, True, False),
)


def ended(wait: Wait = WAIT, **changes: Any) -> list[str]:
    every = found(blocked=(wait,), **failing_workers(**changes))
    return [each.severity for each in every if each.code == "worker-died"]


def test_pool_whose_workers_all_fail_at_start() -> None:
    assert ended() == ["error"]


@pytest.mark.parametrize(
    "changes",
    [
        {"codes": (1, 1)},
        {"codes": (0, 0, 0, 0)},
        {"codes": (None, None, None)},
        {"lived_s": 5.0},
        {"ended_s": 20.0},
        {"age_s": 30.0},
        {"parent": 9},
    ],
    ids=["few", "without error", "unknown", "after work", "long ago", "others live", "of another"],
)
def test_pool_whose_workers_come_and_go(changes: dict[str, Any]) -> None:
    assert ended(**changes) == []


def test_children_that_fail_are_not_always_of_the_pool() -> None:
    assert ended(codes=(1, 1, 1, 0)) == [], "workers end in order"
    new = replace(WAIT, asleep_s=1.0, for_s=1.0)
    assert ended(new, age_s=1.5) == [], "the Pool was made for this wait"


def test_program_that_waits_for_no_result() -> None:
    assert ended(replace(WAIT, pool=None)) == []
    assert ended(replace(WAIT, pool=PoolWait(3, False, False))) == [], "a ThreadPool has no processes"
    assert ended(replace(WAIT, timed=True)) == []
    assert ended(replace(WAIT, asleep_s=0.2)) == []


def test_failed_workers_leave_open_what_becomes_of_the_others() -> None:
    assert may_be_dying(snapshot(**failing_workers(codes=(1,))))
    assert not may_be_dying(snapshot(**failing_workers(codes=(1,), age_s=30.0)))
    assert may_be_dying(snapshot(**failing_workers(codes=()))), "an old server with young workers only"
    assert not may_be_dying(snapshot(processes=processes(0)))


def test_server_whose_workers_all_fail_at_start() -> None:
    deaths = tuple(Death(pid(105), "worker", DeathCause.SIGNAL, -11, 4.0) for _ in range(3))
    young = tuple(replace(each, started_at=BOOT + 99) for each in processes())

    def codes(**changes: Any) -> list[str]:
        return [each.code for each in findings(snapshot(**changes))]

    assert codes(processes=young, deaths=deaths) == ["worker-died"]
    unknown = tuple(replace(each, role="process", parent=10) for each in deaths)
    assert codes(processes=young, deaths=unknown) == ["worker-died"]
    assert codes(processes=young, deaths=tuple(replace(each, parent=9) for each in unknown)) == []
    assert codes(processes=processes(), deaths=deaths) == []
