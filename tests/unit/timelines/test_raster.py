"""The cells against a slow reckoning of the same from the spans, while time goes on and the window moves about."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from semtrace.model import Holder, Lock, Process, ProcessId, SemId, Server, Snapshot, TracedEvent, Tracing, Waiter
from semtrace.timelines.bitrows import NOISE
from semtrace.timelines.raster import LITTLE, MUCH, By, Cell, Raster
from semtrace.timelines.spans import LONGEST_BUCKET_S, Span
from semtrace.timelines.timeline import Timeline

WORKERS = [ProcessId(11 + i, 1) for i in range(3)]
LOCKS = [SemId(0, 27, 1), SemId(0, 27, 2)]
SERVER = Server("gunicorn", ProcessId(10, 1), "gunicorn", 0.0, "alice")
BEGIN_S = 5000.0131  # no look falls on the border of a cell
CELLS = 15


class Look(NamedTuple):
    """One snapshot: for each lock who has it and who waits, as numbers of workers, and what events told."""

    step_s: float
    holders: list[int | None]
    waiters: list[set[int]]
    orphaned: bool
    exact: bool
    there: set[int]
    events: list[tuple[int, int, str, float]]
    one_in: int
    scroll: int


numbers = st.integers(0, len(WORKERS) - 1)
event = st.tuples(
    numbers, st.integers(0, 1), st.sampled_from(["released", "acquired", "failed"]), st.sampled_from([0.007, 0.3, 1.1])
)
looks = st.builds(
    Look,
    st.sampled_from([0.1, 0.2, 0.2, 0.7, 3.0]),
    st.lists(st.one_of(st.none(), numbers), min_size=2, max_size=2),
    st.lists(st.sets(numbers, max_size=2), min_size=2, max_size=2),
    st.booleans(),
    st.booleans(),
    st.sets(numbers),
    st.lists(event, max_size=3),
    st.sampled_from([1, 1, 4]),
    st.sampled_from([0, 0, 0, 10, 60, 900]),
)


# Held and waited for equally long, but not to the last bit.
EVEN = [(1, 0, "released", 0.007), (1, 0, "acquired", 0.007)]


def snapshot(look: Look, now: float, sequence: int) -> Snapshot:
    locks = []
    for each, holder, waiters in zip(LOCKS, look.holders, look.waiters, strict=True):
        held = () if holder is None else (claim(WORKERS[holder], look.exact),)
        waits = tuple(Waiter(WORKERS[who], WORKERS[who].pid, 0.05) for who in sorted(waiters) if who != holder)
        state = "held" if held else "orphaned" if look.orphaned else "free"
        locks.append(Lock(each, "Lock", state, 0, 1, holders=held, waiters=waits))  # type: ignore[arg-type]
    there = tuple(Process(WORKERS[who], 10, "worker", "sleeping", 0, 1, 1e9 + BEGIN_S) for who in sorted(look.there))
    events = tuple(
        traced(now - 0.003 * k, who, lock, name, length, sequence + k)
        for k, (who, lock, name, length) in enumerate(look.events)
    )
    tracing = Tracing(True, events, look.one_in) if events else None
    return Snapshot(SERVER, 1e9 + now, now, there, tuple(locks), tracing=tracing)


def claim(who: ProcessId, exact: bool) -> Holder:
    plain = Holder(who, who.pid, 1, 0.15)
    return replace(plain, evidence="events") if exact else plain


def traced(t_s: float, who: int, lock: int, name: str, length: float, sequence: int) -> TracedEvent:
    process, held = WORKERS[who], name == "released"
    times = (None, length) if held else (length, None)
    return TracedEvent(t_s, process, process.pid, name, LOCKS[lock], "x", *times, None, sequence)  # type: ignore[arg-type]


def slow(timeline: Timeline, every: list[Span], by: By, row: Hashable, place: int, cell_s: float) -> Cell:
    """What the cell should be, from all spans there are."""
    begin, end = place * cell_s, (place + 1) * cell_s

    def part(span: Span) -> float:
        return (min(span.end, end) - max(span.start, begin)) / cell_s * span.share

    noise = NOISE * cell_s
    here = [
        span
        for span in every
        if min(span.end, end) - max(span.start, begin) > noise or begin <= span.start == span.end < end
    ]
    owner = {"worker": lambda span: span.process, "lock": lambda span: span.lock, "server": lambda span: row}[by]
    mine = [span for span in here if owner(span) == row and not (by == "worker" and span.process is None)]
    if not mine:
        return limit(timeline, by, row, place, cell_s)
    held = min(sum(part(span) for span in mine if span.what == "held"), 1.0)
    waiting = min(sum(part(span) for span in mine if span.what == "waiting"), 1.0)
    has = {span.lock for span in mine if span.what == "held"}
    wants = {span.lock for span in mine if span.what == "waiting"}
    waited = {span.lock for span in here if span.what == "waiting"}
    longer = waiting >= held - NOISE if wants - has else waiting > held + NOISE and held < MUCH - NOISE
    if any(span.what == "orphaned" for span in mine):
        cover = "orphaned"
    elif wants and (longer if by == "worker" else bool(wants - has)):
        cover = "waiting"
    else:
        cover = "contended" if has & waited else "held"
    both = by == "worker" and bool(has and wants) and not (waiting < LITTLE and waiting < held - NOISE)
    exact = all(span.exact for span in mine)
    thinned, counted = (any(each(span) for span in mine) for each in (lambda s: s.one_in > 1, lambda s: s.counted))
    return Cell(cover, held, waiting, exact, thinned, counted, both)  # type: ignore[arg-type]


def limit(timeline: Timeline, by: By, row: Hashable, place: int, cell_s: float) -> Cell:
    life = timeline.lives.get(row) if by == "worker" else None  # type: ignore[call-overload]
    assert timeline.since is not None
    assert timeline.last is not None
    if life and life.ended and place > life.end // cell_s:
        return Cell("ended")
    since = max(timeline.since, life.start if life else 0.0)
    if life and place == life.start // cell_s and life.start >= timeline.since:
        return Cell("began")
    seen = since // cell_s <= place <= timeline.last // cell_s
    unseen = any(before < (place + 0.5) * cell_s < after for before, after in timeline.gaps)
    return Cell("idle" if seen and not unseen else "unknown")


@pytest.mark.parametrize("by", ["worker", "lock", "server"])
@pytest.mark.parametrize("cell_s", [0.07, 0.45, 4.0])
@settings(max_examples=settings.default.max_examples // 4)
@given(st.lists(looks, min_size=1, max_size=20))
@example(
    [Look(s, [None] * 2, [set()] * 2, False, False, set(), e, 1, 0) for s, e in ((0.1, []), (0.2, []), (0.2, EVEN))]
)
def test_cells_equal_a_slow_computation_wherever_the_window_is(by: By, cell_s: float, seen: list[Look]) -> None:
    timeline, now, sequence = Timeline(), BEGIN_S, 0
    raster = Raster(timeline, by, cell_s)
    rows: list[Hashable] = {"worker": [*WORKERS], "lock": [*LOCKS], "server": [None]}[by]
    for look in seen:
        now += look.step_s
        timeline.add(snapshot(look, now, sequence))
        sequence += 10
        first = int(now // cell_s) - CELLS + 3 - look.scroll
        live = raster.update(first)
        every = [*timeline.older, *timeline.closed, *timeline.open]
        for row in rows:
            for place, cell in enumerate(raster.cells(row, first, CELLS, live), first):
                expected = slow(timeline, every, by, row, place, cell_s)
                assert cell[0::3] == expected[0::3], (place - first, cell, expected)
                assert (cell.thinned, cell.counted, cell.both) == (expected.thinned, expected.counted, expected.both)
                assert abs(cell.held - expected.held) + abs(cell.waiting - expected.waiting) < 1e-4
        for span in every:
            assert span.start <= span.end <= now + LONGEST_BUCKET_S
            assert 0.0 <= span.share <= 1.0
