"""Long holds and waits, stopped holders, contention, and the risk of a kill."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.snapshots import (
    GUNICORNS_QUEUE,
    SERVER,
    USERS,
    busy,
    codes,
    embrace,
    found,
    holder,
    links,
    lock,
    pid,
    processes,
    waiter,
    worker,
)

from semtrace.model import (
    SEM_VALUE_MAX,
    Advice,
    Beat,
    Behind,
    Contended,
    Crowd,
    DeadHolder,
    Durations,
    Elapsed,
    Finding,
    HeldBy,
    HolderUnknown,
    LastHolder,
    Place,
    SemaphoresInRing,
    Statistics,
    Stray,
    TakerDied,
    TakerGone,
    Target,
    ThreadId,
    ThreadRef,
    Wait,
    WaitedFor,
    WaitKind,
    Wakers,
)
from semtrace.present.findings import evidence
from semtrace.rules import Limits

# -- timeout-risk


def test_holder_close_to_the_timeout_is_a_risk() -> None:
    (finding,) = found(lock(holders=(holder(11, 16.0),)), processes=busy(17.0))
    assert (finding.code, finding.severity, finding.pids) == ("timeout-risk", "warning", (11,))
    assert finding.fact(Beat) == Beat(17.0, 30.0)


def test_heartbeat_shows_the_risk_when_watching_just_began() -> None:
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


# -- long-hold, long-wait


def test_a_long_hold_and_its_line() -> None:
    (finding,) = found(lock(holders=(holder(11, 12.0, asleep_s=11.0, stack=USERS),)))
    assert (finding.code, finding.severity) == ("long-hold", "warning")
    assert finding.since == Elapsed(11.0)
    assert finding.threads == (ThreadRef(pid(11), 11, Place(USERS[1])),)


@pytest.mark.parametrize("state", ["stopped", "tracing-stop"])
def test_stopped_holder_is_reported_at_once_if_somebody_waits(state: str) -> None:
    stopped = tuple(replace(each, state=state) if each.pid == 11 else each for each in processes())
    taken = lock(holders=(holder(11, 1.0),), waiters=(waiter(12, 1.0),))
    (finding,) = found(taken, processes=stopped)
    assert (finding.code, finding.severity, finding.pids) == ("stopped", "warning", (11, 12))
    assert finding.remedy.command == ("kill", "-CONT", "11")
    assert codes(taken) == []


@pytest.mark.parametrize(("state", "expected"), [("stopped", ["stopped"]), ("tracing-stop", [])])
def test_stopped_worker_is_reported_unless_a_debugger_has_it(state: str, expected: list[str]) -> None:
    stopped = tuple(replace(each, state=state) if each.pid == 11 else each for each in processes())
    assert codes(lock(), processes=stopped) == expected
    assert codes(lock(holders=(holder(11, 1.0),)), processes=stopped) == expected


def test_stopped_worker_is_reported_once_if_threads_wait_for_it() -> None:
    stopped = tuple(replace(each, state="stopped") if each.pid in (11, 13) else each for each in processes())
    first, second = found(lock(holders=(holder(11, 1.0),), waiters=(waiter(12, 1.0),)), processes=stopped)
    assert (first.pids, second.pids) == ((11, 12), (13,))


def test_thread_that_waits_behind_a_stopped_worker_counts_once() -> None:
    ids = [each.id for each in processes()]
    reads = Wait(ThreadId(ids[1], 15), Target(WaitKind.PIPE_READ, ""), False, Wakers((), (ids[2],)), 9.0, idle=True)
    result = Wait(ThreadId(ids[1], 11), Target(WaitKind.SIGNAL, "pool"), False, Wakers((), (ids[1],)), 9.0)
    pool = (processes()[0], worker(11, threads=2), worker(12, state="stopped"))
    (finding,) = [each for each in found(processes=pool, blocked=(reads, result)) if each.code == "stopped"]
    assert finding.threads == (ThreadRef(ids[2]), ThreadRef(ids[1], 11))
    assert finding.fact(Behind) is None


def test_library_may_keep_its_own_lock_while_nobody_waits() -> None:
    kept = lock(holders=(holder(11, 12.0, asleep_s=11.0, stack=USERS),), own=False)
    assert codes(kept) == []
    assert codes(replace(kept, waiters=(waiter(12, 1.0),))) == ["long-hold"]


def test_a_waiter_that_never_ran_shows_that_nobody_released_meanwhile() -> None:
    assert codes(lock(holders=(holder(11, 12.0),), waiters=(waiter(12, 10.5),))) == ["long-hold"]


def test_hot_lock_with_the_same_holder_is_no_long_hold() -> None:
    assert codes(lock(holders=(holder(11, 60.0),))) == []
    assert codes(lock(holders=(holder(11, 60.0),), waiters=(waiter(12, 60.0, asleep_s=None),)), watched_s=0.5) == []


def test_many_short_holds_or_waits_are_no_long_one() -> None:
    """Looking sees the same worker with it each time: it may have let go of it in between."""
    hot = lock(holders=(holder(11, 3.0),), waiters=(waiter(12, 3.0, asleep_s=None),), waited_s=50.0)
    (finding,) = found(hot)
    assert times(finding) == (Elapsed(3.0, "samples"), Elapsed(3.0, "samples"))
    (finding,) = found(replace(hot, holders=(holder(11, 3.0, asleep_s=1.5),), waiters=(waiter(12, 2.0),)))
    assert times(finding) == (Elapsed(2.0), Elapsed(2.0))


def times(finding: Finding) -> tuple[Elapsed | None, Elapsed | None]:
    """For how long the first holder has held the lock, and the longest waiter waited."""
    held, waited = finding.fact(HeldBy), finding.fact(WaitedFor)
    assert held is not None
    assert waited is not None
    return held.holds[0].since, waited.longest


def test_thresholds_can_be_given() -> None:
    held = lock(holders=(holder(11, 3.0, asleep_s=3.0),))
    assert codes(held) == []
    assert codes(held, limits=Limits(hold_s=2.0)) == ["long-hold"]
    waited = lock(state="unknown", reason="who knows", waiters=(waiter(12, 3.0),))
    assert codes(waited, limits=Limits(wait_s=2.0)) == ["long-wait"]


def test_a_traced_lock_knows_how_long_exactly() -> None:
    (finding,) = found(lock(holders=(holder(11, 12.0, evidence="events", site="/srv/app.py:7"),)))
    assert finding.since == Elapsed(12.0, "exact")
    assert finding.threads[0].place == Place(site="/srv/app.py:7")


def test_a_long_wait_for_a_holder_that_is_not_known() -> None:
    (finding,) = found(lock(state="unknown", reason="it is in flux", waiters=(waiter(12, 20.0),)))
    assert (finding.code, finding.pids) == ("long-wait", (12,))
    assert finding.fact(HolderUnknown) == HolderUnknown("it is in flux")


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


def test_stack_shows_whether_a_nameless_lock_is_a_queues() -> None:
    held = holder(11, 900.0, asleep_s=900.0)
    assert codes(lock(None, holders=(replace(held, stack=GUNICORNS_QUEUE),), waiters=(waiter(12, 900.0),))) == []
    copy = tuple(
        replace(frame, file=frame.file.replace("/multiprocessing/", "/multiprocess/")) for frame in GUNICORNS_QUEUE
    )
    assert codes(lock(None, holders=(replace(held, stack=copy),), waiters=(waiter(12, 900.0),))) == []
    assert codes(lock(None, holders=(replace(held, stack=USERS),), waiters=(waiter(12, 900.0),))) == ["long-hold"]


def test_library_lock_held_by_a_queues_reader_is_the_queues() -> None:
    """`self` of a frame in Lock.__enter__ gives it a name before the Queue that has it is found."""
    held = holder(11, 900.0, asleep_s=900.0, stack=GUNICORNS_QUEUE[:1])
    kept = lock("<billiard.synchronize.Lock>", own=False, holders=(held,), waiters=(waiter(12, 900.0),))
    assert codes(kept) == []
    assert codes(replace(kept, own=True)) == ["long-hold"]


@pytest.mark.parametrize("name", ["app.lock", "app.cache._rlock"])
def test_own_lock_held_over_a_get_is_long_hold(name: str) -> None:
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


def test_lock_that_may_have_no_holder_is_not_contended() -> None:
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
    assert [line for line in evidence(finding) if "app.py:" in line] == [
        "held 100ms on average from app.py:31, 900ms in all"
    ]


GONE = LastHolder(pid(13), 13, seen_s=15.0, held_s=1.0, ended_s=14.9)


def semaphore(name: str = "app.permit", number: int = 1, **changes: Any) -> Any:
    plain = lock(name, number, kind="Semaphore", maximum=SEM_VALUE_MAX, value=0, state="exhausted")
    return replace(plain, **changes)


def test_semaphore_whose_taker_ended_is_a_long_wait() -> None:
    (finding,) = found(semaphore(waiters=(waiter(11, 12.0), waiter(12, 3.0)), last_holder=GONE))
    assert (finding.code, finding.severity, finding.pids) == ("long-wait", "warning", (11, 12))
    assert finding.since == Elapsed(12.0)
    assert finding.fact(TakerGone) == TakerGone(ThreadRef(pid(13), 13), 15.0, 14.9)
    traced = semaphore(waiters=(waiter(11, 12.0),), dead_holder=DeadHolder(pid(13), 30.0))
    assert found(traced)[0].fact(TakerDied) == TakerDied(pid(13), 30.0)


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
    assert (finding.since, finding.fact(SemaphoresInRing)) == (Elapsed(11.0), SemaphoresInRing(2))
    assert [(link.thread.pid, link.holds.name, link.wants.name) for link in links(finding)] == [
        (11, "app.a", "app.b"), (12, "app.b", "app.a"),
    ]  # fmt: skip
    assert codes(replace(a, waiters=(waiter(12, 9.0),)), b) == []
    assert codes(a, replace(b, strays=(Stray(pid(13), -4),))) == [], "they are given by others"


# -- contention


def test_lock_with_waiters_all_the_time_is_contended() -> None:
    (finding,) = found(lock(holders=(holder(11, 0.1),), waiters=(waiter(12, 0.1),), waited_s=50.0))
    assert (finding.code, finding.severity) == ("contention", "note")
    assert finding.fact(Crowd) == Crowd(50.0, 20.0)
    assert finding.remedy.advice == (Advice.LESS_CONTENTION,)


def test_contention_by_one_hold_asks_to_watch_longer() -> None:
    all_along = lock(holders=(holder(11, 5.0, asleep_s=5.0),), waiters=(waiter(12, 5.0),), waited_s=4.0)
    (finding,) = found(all_along, watched_s=1.5)
    assert (finding.code, finding.severity) == ("contention", "note")
    assert finding.remedy.command == ("semtrace", "doctor", "10", "--for", "15")


def test_the_counts_of_a_traced_lock_are_told() -> None:
    hold = Durations(100, 5.0, 0.05, 0.2)
    counts = Statistics(
        100, 80, 0, Durations(80, 8.0, 0.1, 0.4), hold, (("/srv/app.py:7", Statistics(100, 80, 0, Durations(), hold)),)
    )
    (finding,) = found(lock(waited_s=50.0, statistics=counts))
    assert finding.fact(Contended) == Contended(counts)


def test_a_line_that_a_traced_process_tells_commands_no_terminal() -> None:
    hold = Durations(100, 5.0, 0.05, 0.2)
    sites = (("/srv/\x1b[2J\udcff.py:7", Statistics(100, 80, 0, Durations(), hold)),)
    (finding,) = found(lock(waited_s=50.0, statistics=Statistics(100, 80, 0, Durations(80, 8.0), hold, sites)))
    assert "held 50.0ms on average from /srv/?[2J?.py:7, 5.00s in all" in evidence(finding)


def test_little_waiting_or_watching_is_no_contention() -> None:
    assert codes(lock(waited_s=15.0)) == []
    assert codes(lock(waited_s=2.0), watched_s=0.5) == []


def test_of_many_contended_locks_the_worst_are_told() -> None:
    told = found(*(lock(f"app.{i}", i, waited_s=20.0 + i) for i in range(10)))
    assert [finding.name for finding in told] == ["app.9", "app.8", "app.7"]
