"""Spans from samples and events, and their cells."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semtrace.model import (
    Holder,
    Lock,
    Process,
    ProcessId,
    SemId,
    Server,
    Snapshot,
    Target,
    ThreadId,
    TracedEvent,
    Tracing,
    Wait,
    Waiter,
    WaitGraph,
    WaitKind,
    Wakers,
)
from semtrace.timelines.raster import Raster, around, of_row
from semtrace.timelines.spans import BUCKET_S, together
from semtrace.timelines.timeline import KEPT_S, MOST_NAMES, MOST_OLDER, MOST_SINGLE, REACH_S, Span, Timeline

LOCK = SemId(0, 27, 1)
A, B = ProcessId(11, 1), ProcessId(12, 1)
SERVER = Server("gunicorn", ProcessId(10, 1), "gunicorn", 0.0, "alice")


def process(each: ProcessId) -> Process:
    return Process(each, 10, "worker", "sleeping", 0, 1, 0.0)


def lock(holder: ProcessId | None = None, waiter: ProcessId | None = None, **more: object) -> Lock:
    holders = (Holder(holder, holder.pid, 1, 0.0),) if holder else ()
    waiters = (Waiter(waiter, waiter.pid, 0.0),) if waiter else ()
    plain = Lock(LOCK, "Lock", "held" if holder else "free", 0, 1, "app.lock", holders=holders, waiters=waiters)
    return replace(plain, **more)  # type: ignore[arg-type]


def at(
    now: float,
    *locks: Lock,
    there: tuple[ProcessId, ...] = (A, B),
    events: tuple[TracedEvent, ...] = (),
    one_in: int = 1,
    received: int = 0,
) -> Snapshot:
    tracing = Tracing(True, events, one_in, received=received) if events else None
    return Snapshot(SERVER, 1e9 + now, now, tuple(map(process, there)), locks, tracing=tracing)


def released(t_s: float, held_s: float, sequence: int, who: ProcessId = A) -> TracedEvent:
    return TracedEvent(t_s, who, who.pid, "released", LOCK, "app.lock", None, held_s, "app.py:7", sequence)


def told(*snapshots: Snapshot) -> Timeline:
    timeline = Timeline()
    for snapshot in snapshots:
        timeline.add(snapshot)
    return timeline


def spans(timeline: Timeline) -> list[tuple[str, int, float, float, bool]]:
    every = [*timeline.older, *timeline.closed, *timeline.open]
    return [
        (each.what, each.process.pid if each.process else 0, round(each.start, 3), round(each.end, 3), each.exact)
        for each in sorted(every, key=lambda each: each.start)
    ]


def test_hold_reaches_from_its_first_snapshot_to_its_last() -> None:
    timeline = told(at(10), at(10.2, lock(A)), at(10.4, lock(A)), at(10.6, lock()))
    assert spans(timeline) == [("held", 11, 10.2, 10.4, False)]


def test_time_before_the_first_snapshot_counts_as_far_as_known() -> None:
    held = lock(A, holders=(Holder(A, 11, 1, 3.0),))
    assert spans(told(at(10, held))) == [("held", 11, 7.0, 10.0, False)]


def test_another_holder_is_another_span() -> None:
    timeline = told(at(10, lock(A, B)), at(10.2, lock(B)), at(10.4, lock(B)))
    assert [each[:2] for each in spans(timeline)] == [("held", 11), ("waiting", 12), ("held", 12)]


def test_nobody_looked_and_nothing_is_known_of_that_time() -> None:
    timeline = told(at(10, lock(A)), at(10.2, lock(A)), at(20, lock(A)), at(20.2, lock(A)))
    assert [each[2:4] for each in spans(timeline)] == [(10.0, 10.2), (20.0, 20.2)]
    raster = Raster(timeline, "worker", 1.0)
    covers = [cell.cover for cell in raster.cells(A, 9, 12, raster.update(0))]
    assert covers == ["unknown", "held", *["unknown"] * 9, "held"]


def test_a_release_tells_the_whole_hold_exactly_and_once() -> None:
    seen = at(10.4, lock(A))
    event = released(10.5, 0.4, 1)
    timeline = told(
        at(10), at(10.2, lock(A)), seen, at(10.6, lock(), events=(event,)), at(10.8, lock(), events=(event,))
    )
    assert spans(timeline) == [("held", 11, 10.1, 10.5, True)]


@pytest.mark.parametrize("evidence", ["events", "memory"])
@pytest.mark.parametrize("seen_before", [True, False])
def test_hold_released_during_the_snapshot_that_lists_it_counts_once(evidence: str, seen_before: bool) -> None:
    def held(since: float) -> Lock:
        return lock(A, holders=(Holder(A, 11, 1, since, evidence),))  # type: ignore[arg-type]

    event = released(10.205, 0.0308, 1)  # began at 10.1742, ended after the look at 10.2 had begun
    before = [at(10.18, held(0.0058))] if seen_before else []
    after = at(10.4, lock(), events=(event,))
    timeline = told(at(10), *before, at(10.2, held(0.0258), events=(event,)), after)
    assert spans(timeline) == [("held", 11, 10.174, 10.205, True)]


def test_hold_without_a_release_event_is_kept_as_last_seen() -> None:
    """Of fast events only some are read: the next one's must not wipe out the one before."""
    held = lock(A, holders=(Holder(A, 11, 1, 5.0, "events"),))
    timeline = told(at(10, held), at(10.2, lock(), events=(released(10.15, 0.1, 9),), one_in=4))
    assert spans(timeline)[0] == ("held", 11, 5.0, 10.0, True)


def test_hold_that_continues_by_its_events_continues_between_snapshots() -> None:
    first, later = (lock(A, holders=(Holder(A, 11, 1, since, "events"),)) for since in (1.0, 31.0))
    assert spans(told(at(10, first), at(40, later))) == [("held", 11, 9.0, 40.0, True)]


def test_what_one_look_alone_saw_is_drawn_where_it_was() -> None:
    timeline = told(at(10), at(10.5, lock(A)), at(11))
    raster = Raster(timeline, "worker", 0.25)
    assert [cell.cover for cell in raster.cells(A, 40, 4, raster.update(40))] == ["idle", "idle", "held", "idle"]


def test_looks_that_are_rare_all_along_are_no_gaps() -> None:
    timeline = told(*(at(10 + 5 * i, lock(A)) for i in range(5)))
    raster = Raster(timeline, "worker", 1.0)
    assert [cell.cover for cell in raster.cells(A, 15, 15, raster.update(15))] == ["held"] * 15
    timeline.add(at(100, lock(A)))
    assert list(timeline.gaps)[-1] == (30, 100)


def test_whoever_waits_for_a_signal_waits_for_nobody() -> None:
    signal = lock(None, B, signal=True)
    event = TracedEvent(10.1, B, B.pid, "acquired", LOCK, "app.q", 1.0, None, None, 1)
    timeline = told(at(10, signal), at(10.2, signal, events=(event,)))
    assert spans(timeline) == []
    assert timeline.names == {}


def test_a_server_that_ended_was_not_seen_any_longer() -> None:
    last = at(10.2, lock(A))
    timeline = told(at(10, lock(A)), last, replace(last, alive=False))
    assert spans(timeline) == [("held", 11, 10.0, 10.2, False)]
    assert all(life.ended for life in timeline.lives.values())


def test_hold_that_begins_again_by_its_events_is_a_second() -> None:
    first = lock(A, holders=(Holder(A, 11, 1, 0.1, "events"),))
    second = lock(A, holders=(Holder(A, 11, 1, 0.05, "events"),))
    timeline = told(at(10, first), at(10.2, second))
    assert spans(timeline) == [("held", 11, 9.9, 10.0, True), ("held", 11, 10.15, 10.2, True)]


def test_short_holds_keep_their_times_and_do_not_overlap() -> None:
    """90 events a second: at 5 s wide a cell is shorter than the pause between two holds."""
    timeline, number = told(at(100)), 0
    for look in range(1, 26):
        now = 100 + look / 5
        events = tuple(released(now - 0.01 * k, 0.004, number + k, (A, B)[k % 2]) for k in range(18, 0, -1))
        number += 20
        timeline.add(at(now, lock(), events=events))
    raster = Raster(timeline, "worker", 0.005)
    first, count = int(100.3 / 0.005), int(4.5 / 0.005)
    live = raster.update(first)
    rows = [raster.cells(who, first, count, live) for who in (A, B)]
    shares = [sum(cell.held for cell in pair) for pair in zip(*rows, strict=True)]
    assert max(shares) <= 1.0
    assert sum(shares) * 0.005 == pytest.approx(4.5 / 0.2 * 18 * 0.004, rel=0.05)
    assert {cell.cover for row in rows for cell in row} == {"held", "idle"}
    assert not any(cell.counted for row in rows for cell in row)


def test_events_too_many_for_the_snapshots_are_counted_and_estimated() -> None:
    """A snapshot has the last events only: between two looks there may have been more."""
    first = tuple(released(100 + i / 100, 0.001, i) for i in range(1, 11))
    later = tuple(released(101 + i / 100, 0.001, 100 + i) for i in range(1, 11))
    timeline = told(at(100.2, lock(), events=first, received=10), at(101.2, lock(), events=later, received=60))
    assert [span.counted for span in timeline.closed] == [False] * 10
    (bucket,) = timeline.open
    assert (bucket.count, bucket.one_in) == (10, 5.0)
    assert bucket.share == pytest.approx(10 * 0.001 * 5 / BUCKET_S)


def test_where_there_are_too_many_the_oldest_are_counted_together() -> None:
    timeline, count = Timeline(), 3 * MOST_SINGLE // 2
    for i in range(count):
        timeline._close(Span(LOCK, (A, B)[i % 2], 11, "held", 100 + i / 600, 100 + i / 600 + 0.001, True))
    assert len(timeline.closed) <= MOST_SINGLE
    assert not any(span.counted for span in timeline.closed)
    assert all(span.counted for span in timeline.older)
    assert len(timeline.older) < count / 20
    assert sum(span.count for span in timeline.older) + len(timeline.closed) == count
    assert sum(span.share * (span.end - span.start) for span in timeline.older) + 0.001 * len(
        timeline.closed
    ) == pytest.approx(count * 0.001)
    assert max(span.end for span in timeline.older) < timeline.closed[0].end + BUCKET_S
    assert timeline.closed[-1].end - timeline.closed[0].start > 60  # the last minute, each by itself
    cell = Raster(timeline, "worker", 1.0)
    cells = cell.cells(A, 105, 1, cell.update(105))
    assert (cells[0].cover, cells[0].counted, cells[0].exact) == ("held", True, True)
    assert cells[0].held == pytest.approx(0.3, abs=0.01)


def test_many_threads_are_counted_together_more_coarsely() -> None:
    crowd = [ProcessId(1000 + i, 1) for i in range(200)]
    spans = [Span(LOCK, crowd[i % 200], 11, "held", i / 100, i / 100 + 0.001, True) for i in range(2000)]
    buckets = list(together(spans))
    assert len(buckets) == 1000
    assert {span.end - span.start for span in buckets} == {4.0}


def test_long_hold_stays_single_among_short_ones_counted_together() -> None:
    long = Span(LOCK, A, 11, "held", 0.0, 9.0, True, "app.py:1")
    short = [Span(LOCK, B, 12, "held", i / 100, i / 100 + 0.001, True) for i in range(900)]
    assert long in together([*short, long])


def test_view_that_slept_while_spans_were_merged_draws_each_once() -> None:
    timeline = told(at(100))
    raster = Raster(timeline, "worker", 1.0)
    for i in range(MOST_SINGLE + 100):
        if i == 50:
            raster.update(100)
        timeline._close(Span(LOCK, A, 11, "held", 100 + i / 600, 100 + i / 600 + 0.001, True))
    timeline.add(at(100 + MOST_SINGLE / 600))
    cells = raster.cells(A, 100, 60, raster.update(100))
    assert [round(cell.held, 2) for cell in cells] == [0.6] * 60


def test_what_a_process_held_lately_is_told_the_newest_first() -> None:
    held, going_on = [Span(LOCK, A, 11, "held", i, i + 0.5, True) for i in range(20)], at(100, lock(A, B))
    timeline = told(going_on)
    for span in held:
        timeline._close(span)
    found = timeline.lately(A, "held", 3)
    assert [span.end for span in found] == [100, 19.5, 18.5]
    assert [span.what for span in timeline.lately(B, "waiting", 3)] == ["waiting"]


def test_short_holds_are_counted_together_and_thinned_ones_estimated() -> None:
    short = tuple(released(100 + i / 100, 0.001, i) for i in range(1, 11))
    timeline = told(at(100), at(100.2, lock(), events=short, one_in=5))
    (span,) = timeline.open
    assert (span.count, span.one_in, span.longest_s) == (10, 5, pytest.approx(0.001))
    assert span.share == pytest.approx(10 * 0.001 * 5 / BUCKET_S)


def test_an_orphaned_lock_has_a_stretch_of_nobodys() -> None:
    orphan = lock(state="orphaned")
    timeline = told(at(10, orphan), at(10.2, orphan))
    raster = Raster(timeline, "lock", 1.0)
    assert raster.cells(LOCK, 10, 1, raster.update(0))[0].cover == "orphaned"
    timeline.add(at(10.4, lock(state="unknown", orphaned_s=0.4)))  # doubted for a moment
    timeline.add(at(10.6, orphan))
    assert [(each.what, each.start, each.end) for each in timeline.open] == [("orphaned", 10, 10.6)]
    raster = Raster(timeline, "worker", 1.0)
    assert raster.cells(A, 10, 1, raster.update(0))[0].cover == "idle"


def test_a_worker_that_is_gone_is_grey_after_its_death() -> None:
    timeline = told(at(10.5), at(11.5), at(12.5, there=(B,)), at(13.5, there=(B,)))
    raster = Raster(timeline, "worker", 1.0)
    live = raster.update(0)
    assert [cell.cover for cell in raster.cells(A, 10, 4, live)] == ["idle", "idle", "ended", "ended"]
    assert [cell.cover for cell in raster.cells(B, 10, 4, live)] == ["idle"] * 4


def test_cell_is_contended_where_others_wait_for_a_hold() -> None:
    timeline = told(*(at(10 + i / 5, lock(A, B)) for i in range(10)))
    for by, row, cover in (("worker", A, "contended"), ("worker", B, "waiting"), ("lock", LOCK, "contended")):
        raster = Raster(timeline, by, 0.5)  # type: ignore[arg-type]
        cells = raster.cells(row, 21, 1, raster.update(0))
        assert (cells[0].cover, cells[0].exact) == (cover, False)


def test_cursor_finds_the_spans_of_its_row_longest_first() -> None:
    timeline = told(*(at(10 + i / 5, lock(A, B if i > 3 else None)) for i in range(10)))
    found = around(timeline, 11.0, 11.5)
    assert [(span.what, span.process) for span in found if of_row(span, "lock", LOCK)] == [("held", A), ("waiting", B)]
    assert [span.process for span in found if of_row(span, "worker", B)] == [B]
    assert around(timeline, 9.0, 9.5) == []


def test_memory_is_bounded_in_number_and_in_time() -> None:
    timeline = Timeline()
    for i in range(MOST_SINGLE + MOST_OLDER + 5000):
        timeline._close(Span(LOCK, A, 11, "held", i * 10.0, i * 10.0 + 5.0))
    assert (len(timeline.closed), len(timeline.older)) == (pytest.approx(MOST_SINGLE, abs=2000), MOST_OLDER)
    timeline.add(at(1000 + 10 * (MOST_SINGLE + MOST_OLDER + 5000)))
    timeline.add(at(1000 + KEPT_S + 10 * (MOST_SINGLE + MOST_OLDER + 5000)))
    assert not timeline.closed
    assert not timeline.older


def test_what_was_dropped_for_room_is_not_called_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semtrace.timelines.timeline.MOST_SINGLE", 2000)
    monkeypatch.setattr("semtrace.timelines.timeline.MOST_OLDER", 1000)
    timeline = told(at(100), at(101))
    for i in range(3500):
        timeline._close(Span(LOCK, A, 11, "held", 101 + i * 0.3, 101 + i * 0.3 + 0.29, True))
        timeline.add(at(101.1 + i * 0.3))
    assert timeline.since is not None
    assert 101 < timeline.since < 101 + 1500 * 0.3
    raster = Raster(timeline, "worker", 0.25)
    begin = int(timeline.since / 0.25)
    covers = [cell.cover for cell in raster.cells(A, begin - 4, 8, raster.update(begin - 4))]
    assert covers[:4] == ["unknown"] * 4
    assert covers[5:] == ["held"] * 3


def test_memory_of_passing_locks_and_processes_is_bounded() -> None:
    timeline = Timeline()
    for i in range(200):
        here = ProcessId(100 + i, 1)
        locks = [lock(id=SemId(0, 27, 100 * i + k)) for k in range(100)]
        timeline.add(at(100 + i, *locks, there=(here,), events=(released(100 + i, 0.01, 1, here),)))
    assert len(timeline.names) == len(timeline._named) == MOST_NAMES
    assert len(timeline._taken) == 1
    timeline.add(at(300 + KEPT_S, there=()))
    timeline.add(at(301 + KEPT_S, there=()))
    assert (timeline.names, timeline.lives) == ({}, {})


def test_under_many_fast_threads_counting_becomes_coarser_and_reaches_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("semtrace.timelines.timeline.MOST_SINGLE", 2000)
    timeline = Timeline()
    crowd = [ProcessId(1000 + i, 1) for i in range(40)]
    number = 0
    for i in range(400):
        events = tuple(released(100 + i / 5, 0.01, number + k, who) for k, who in enumerate(crowd))
        number += len(crowd)
        timeline.add(at(100 + i / 5, there=(), events=events, one_in=2))
    assert len(timeline.closed) <= 2000
    assert timeline.last is not None
    assert timeline.since is not None
    assert timeline.last - timeline.since >= REACH_S / 2


def test_looking_back_and_forth_shows_the_same_as_before() -> None:
    """Cells that left the window far behind are drawn again when it comes back; long spans in short cells, too."""
    timeline = Timeline()
    raster = Raster(timeline, "worker", 0.05)
    for i in range(2000):
        timeline.add(at(100 + i / 5, lock(A if i > 10 else None, B)))
        raster.update(int((100 + i / 5) / 0.05) - 100)
    for place in (2100, 9800, 2100, 6000):
        live = raster.update(place)
        covers = {cell.cover for cell in raster.cells(A, place, 100, live)}
        assert covers == {"contended"}
        assert {cell.cover for cell in raster.cells(B, place, 100, live)} == {"waiting"}


def test_worker_that_always_waits_is_waiting_although_it_holds_another() -> None:
    other = replace(lock(A), id=SemId(0, 27, 2))
    timeline = told(*(at(10 + i / 5, lock(B, A), other) for i in range(10)))
    raster = Raster(timeline, "worker", 0.5)
    live = raster.update(20)
    assert raster.cells(A, 21, 1, live)[0] == ("waiting", 1.0, 1.0, False, False, False, True)
    assert raster.cells(B, 21, 1, live)[0].cover == "contended"
    raster = Raster(timeline, "lock", 0.5)
    live = raster.update(20)
    assert [raster.cells(each, 21, 1, live)[0].cover for each in (LOCK, other.id)] == ["contended", "held"]


def test_hold_is_not_hidden_by_waits_of_other_threads() -> None:
    waiters = tuple(Waiter(A, 100 + i, 0.0) for i in range(3))
    timeline = told(*(at(10 + i / 5, lock(A, waiters=waiters)) for i in range(10)))
    raster = Raster(timeline, "worker", 0.5)
    cell = raster.cells(A, 21, 1, raster.update(20))[0]
    assert (cell.cover, cell.both) == ("contended", True)


def test_long_wait_with_a_brief_hold_is_red_and_both() -> None:
    """In turn, as a worker with one thread does."""
    timeline = told(at(10), at(10.99, lock()))
    for span in (
        Span(LOCK, A, 11, "waiting", 10.0, 10.9, True),
        Span(LOCK, A, 11, "held", 10.9, 10.95, True),
        Span(LOCK, B, 12, "waiting", 10.0, 10.01, True),
        Span(LOCK, B, 12, "held", 10.01, 10.9, True),
    ):
        timeline._close(span)
    raster = Raster(timeline, "worker", 1.0)
    live = raster.update(10)
    both = [(cell.cover, cell.both) for who in (A, B) for cell in raster.cells(who, 10, 1, live)]
    assert both == [("waiting", True), ("contended", False)]


def test_where_a_worker_began_is_marked() -> None:
    here = process(A)
    late = [replace(at(now), processes=(replace(here, started_at=1e9 + 13.5),)) for now in (14, 15, 16, 17)]
    timeline = told(*(at(now, there=()) for now in (10, 11, 12, 13)), *late)
    raster = Raster(timeline, "worker", 1.0)
    covers = [cell.cover for cell in raster.cells(A, 12, 5, raster.update(12))]
    assert covers == ["unknown", "began", "idle", "idle", "idle"]


def test_lock_with_waiters_but_no_known_holder_is_the_worst() -> None:
    other = replace(lock(None, B), id=SemId(0, 27, 2))
    timeline = told(*(at(10 + i / 5, lock(A, B), other) for i in range(10)))
    raster = Raster(timeline, "server", 0.5)
    assert raster.cells(None, 21, 1, raster.update(20))[0].cover == "waiting"


@settings(max_examples=settings.default.max_examples // 2)
@given(st.lists(st.tuples(st.sampled_from([None, A, B]), st.sampled_from([None, A, B])), min_size=1, max_size=40))
def test_cells_agree_with_the_spans_however_they_are_drawn(
    looks: list[tuple[ProcessId | None, ProcessId | None]],
) -> None:
    """Cell by cell, drawn as time goes on or all at once: the same, and their sum is the spans' length."""
    timeline = Timeline()
    growing = Raster(timeline, "worker", 0.3)
    for i, (holder, waiter) in enumerate(looks):
        timeline.add(at(50 + i / 5, lock(holder, waiter if waiter != holder else None)))
        live = growing.update(0)
    at_once = Raster(timeline, "worker", 0.3)
    fresh = at_once.update(0)
    first, count = int(49 / 0.3), int(12 / 0.3)
    for who in (A, B):
        cells = growing.cells(who, first, count, live)
        assert cells == at_once.cells(who, first, count, fresh)
        for what in ("held", "waiting"):
            every = [each for each in (*timeline.closed, *timeline.open) if each.process == who and each.what == what]
            length = sum(each.end - each.start for each in every)
            assert sum(getattr(cell, what) for cell in cells) * 0.3 == pytest.approx(length, abs=1e-4)


def stuck_in(target: Target, asleep_s: float, who: ProcessId = B) -> Wait:
    thread = ThreadId(who, who.pid)
    return Wait(thread, target, False, Wakers(), asleep_s, asleep_s)


@pytest.mark.parametrize(
    "target",
    [
        Target(WaitKind.SIGNAL, "app.jobs._sem", LOCK, part_of="app.jobs"),
        Target(WaitKind.PRIVATE_LOCK, "app.guard", process=B, address=64),
        Target(WaitKind.PIPE_WRITE, "", address=7),
    ],
)
def test_worker_that_anything_keeps_from_work_is_not_idle(target: Target) -> None:
    full = lock(signal=True)
    waits = [WaitGraph((stuck_in(target, 5.0 + i),)) for i in range(3)]
    timeline = told(*(replace(at(10.0 + i, full), waits=graph) for i, graph in enumerate(waits)))
    assert spans(timeline) == [("waiting", B.pid, 5.0, 12.0, False)]
    raster = Raster(timeline, "worker", 1.0)
    assert [cell.cover for cell in raster.cells(B, 10, 2, raster.update(10))] == ["waiting"] * 2


def test_wait_is_as_long_as_the_thread_is_known_asleep() -> None:
    slow = lock(None, None, waiters=(Waiter(B, B.pid, 3.0, asleep_s=3.0),))
    timeline = told(at(10.0), at(10.5, lock()), at(11.0, slow))
    assert spans(timeline) == [("waiting", B.pid, 8.0, 11.0, False)]


def test_hold_of_a_sleeping_thread_goes_on_over_missing_samples() -> None:
    """The time between the first two samples may be long: names are searched for then."""

    def held(asleep_s: float) -> Lock:
        return lock(None, None, state="held", holders=(Holder(A, A.pid, 1, asleep_s, asleep_s=asleep_s),))

    asleep = told(at(400.0, held(360.0)), at(410.0, held(370.0)))
    assert spans(asleep) == [("held", A.pid, 40.0, 410.0, False)]
    awake = told(at(400.0, held(360.0)), at(410.0, held(2.0)))
    assert spans(awake) == [("held", A.pid, 40.0, 400.0, False), ("held", A.pid, 408.0, 410.0, False)]
