"""Deadlocks: what is reported, and above all what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.snapshots import (
    SERVER,
    codes,
    embrace,
    found,
    holder,
    links,
    lock,
    pid,
    processes,
    ref,
    waiter,
    worker,
)

from semtrace.model import (
    SEM_VALUE_MAX,
    Advice,
    Asleep,
    Behind,
    Elapsed,
    Frame,
    HandsLocksOver,
    MayBeGate,
    OutsiderMayRelease,
    Problem,
    Remedy,
    RingLink,
    Stray,
    ThreadMayRelease,
    ThreadRef,
)
from semtrace.rules.basis import unbroken_s


def test_two_that_wait_for_each_other_are_a_deadlock() -> None:
    (finding,) = found(*embrace())
    assert (finding.code, finding.severity, finding.pids) == ("deadlock", "error", (11, 12))
    a, b = ref("app.a", 1), ref("app.b", 2)
    first, second = ThreadRef(pid(11), 11), ThreadRef(pid(12), 12)
    assert links(finding) == [RingLink(first, a, b, Elapsed(5.0)), RingLink(second, b, a, Elapsed(5.0))]
    assert finding.fact(Asleep) == Asleep(2, 5.0, for_ever=True)
    assert set(finding.locks) == {a, b}


def test_who_waits_behind_a_deadlock_is_counted() -> None:
    a, b = embrace()
    (finding,) = found(replace(a, waiters=(*a.waiters, waiter(13))), b)
    assert finding.fact(Behind) == Behind(1, of_one=False)
    assert finding.pids == (11, 12, 13)


def test_a_ring_of_three_is_one_deadlock() -> None:
    ring = [lock(f"app.{i}", i, holders=(holder(10 + i),), waiters=(waiter(11 + i % 3),)) for i in (1, 2, 3)]
    (finding,) = found(*ring)
    assert len(links(finding)) == 3


def test_thread_that_waits_for_its_own_lock_is_a_deadlock() -> None:
    (finding,) = found(lock(holders=(holder(11, within=True),), waiters=(waiter(11), waiter(12), waiter(13))))
    assert finding.severity == "error"
    assert links(finding) == [RingLink(ThreadRef(pid(11), 11), ref(), ref(), Elapsed(5.0))]
    assert finding.fact(Behind) == Behind(2, of_one=True)
    assert finding.remedy == Remedy((Advice.USE_SHARED_RLOCK, Advice.RESTART_SERVER))


def test_a_gate_that_another_will_open_is_no_error() -> None:
    """`gate.acquire(); start a child that releases it; gate.acquire()`: the counts are those of a deadlock."""
    (finding,) = found(lock("app.gate", holders=(holder(11),), waiters=(waiter(11),)))
    assert (finding.code, finding.severity) == ("deadlock", "warning")
    assert [link.took for link in links(finding)] == [True]
    assert finding.fact(MayBeGate) == MayBeGate((10, 12, 13), own_thread=False)
    assert finding.remedy.advice[0] == Advice.FINE_IF_RELEASED


@pytest.mark.parametrize(
    ("attribute", "severity"), [(None, "warning"), ("_lock", "warning"), ("_rlock", "error"), ("_wlock", "error")]
)
def test_only_the_locks_of_a_queue_are_no_gates(attribute: str | None, severity: str) -> None:
    """Without an attribute only the order of creation says that a lock is part of something."""
    part = lock(part_of="Condition 0:27:7", attribute=attribute, holders=(holder(11),), waiters=(waiter(11),))
    assert [finding.severity for finding in found(part) if finding.code == "deadlock"] == [severity]


def test_gate_that_only_stuck_threads_could_open_is_an_error() -> None:
    mine = lock(holders=(holder(11),), waiters=(waiter(11), waiter(12)), mapped_by=(pid(11), pid(12)))
    assert [f.severity for f in found(mine)] == ["error"]
    outside = replace(mine, outsiders=(77,))
    (finding,) = found(outside)
    assert finding.severity == "warning"
    assert finding.fact(MayBeGate) == MayBeGate((77,), own_thread=False)
    blind = Problem("read its memory", "not permitted", "sudo", pid(13))
    assert [f.severity for f in found(mine, problems=(blind,))] == ["warning"], "it may map it"


def threaded() -> tuple[Any, ...]:
    return (processes()[0], worker(11, threads=2), *processes()[2:])


def test_thread_that_may_acquire_for_another_gets_a_long_time() -> None:
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
            assert findings[0].fact(ThreadMayRelease)
    inside = [replace(each, holders=tuple(replace(h, within=True) for h in each.holders)) for each in embrace()]
    assert [f.severity for f in found(*inside, processes=threaded())] == ["error"], "who is inside will release it"


def test_ring_is_no_error_where_an_outsider_maps_a_lock() -> None:
    a, b = embrace()
    (finding,) = found(replace(a, outsiders=(77,)), b)
    assert finding.severity == "warning"
    assert finding.fact(OutsiderMayRelease) == OutsiderMayRelease((77,), ref("app.a", 1))


def test_one_hold_is_proved_by_its_thread_or_all_waiters() -> None:
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


def test_ring_is_no_error_where_locks_are_handed_over() -> None:
    """Batons: each is released by the one before, who took it never."""
    baton = lock("app.baton", 3, strays=(Stray(pid(13), -2),))
    told = [f for f in found(*embrace(), baton) if f.code == "deadlock"]
    assert [f.severity for f in told] == ["warning"]
    assert told[0].fact(HandsLocksOver) == HandsLocksOver((ref("app.baton", 3),))
    rlocks = [replace(each, kind="RLock") for each in embrace()]
    assert "error" in [f.severity for f in found(*rlocks, baton) if f.code == "deadlock"], "only its owner can"


@pytest.mark.parametrize(("kind", "cure"), [
    ("gunicorn.workers.ggevent.GeventWorker", Advice.NO_RLOCK_FOR_GREENLETS),
    ("eventlet", Advice.NO_RLOCK_FOR_GREENLETS),
    ("sync", Advice.USE_SHARED_RLOCK),
    (None, Advice.USE_SHARED_RLOCK_NO_GREENLETS),
])  # fmt: skip
def test_an_rlock_is_no_remedy_for_greenlets(kind: str | None, cure: Advice) -> None:
    reentry = lock(holders=(holder(11, within=True),), waiters=(waiter(11),))
    (finding,) = found(reentry, server=replace(SERVER, worker_class=kind))
    assert finding.remedy.advice[0] == cure


@pytest.mark.parametrize(
    ("outer", "cure"),
    [
        (
            Frame("BaseEventLoop.run_forever", "/usr/lib/asyncio/base_events.py", 640),
            Advice.NO_RLOCK_FOR_TASKS,
        ),
        (Frame("Cache.__del__", "/srv/app.py", 7), Advice.NO_LOCK_IN_DEL),
        (Frame("main", "/srv/app.py", 7), Advice.USE_SHARED_RLOCK),
    ],
)
def test_an_rlock_is_no_remedy_for_tasks_and_finalizers(outer: Frame, cure: Advice) -> None:
    stack = (Frame("refresh", "/srv/app.py", 3), outer)
    reentry = lock(holders=(holder(11, within=True),), waiters=(waiter(11, stack=stack),))
    (finding,) = found(reentry)
    assert finding.remedy.advice[0] == cure


def test_all_units_of_a_semaphore_may_be_in_deadlock() -> None:
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
def test_no_deadlock_where_others_than_the_holders_may_release(changes: dict[str, Any]) -> None:
    a, b = embrace()
    assert "deadlock" not in codes(a, replace(b, **changes))


def test_unknown_holding_thread_counts_only_in_a_process_of_one() -> None:
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
