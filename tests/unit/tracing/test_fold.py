"""What a server did is what the state says, whatever is lost or comes in another order on the way."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tracewriter
from support.tracewriter import LOCK, OTHER, SITE, P, Q, S, book, events, files, record, state_file

from semtrace.model import ProcessId, SemId
from semtrace.tracing.events import Event
from semtrace.tracing.sequence import REORDERED
from semtrace.tracing.state import LAG_NS, MOST_NAMES, SHOWN_PER_S, State, fold
from semtrace.tracing.tally import holding_times, total, waiting_times
from semtrace.wire.event import EventType, Record
from semtrace.wire.statefile import StateFile
from semtrace.wire.words import Flag, Kind

ME = ProcessId(999, 9)


def holds(state: State, process: ProcessId = P, lock: SemId = LOCK) -> dict[int, int]:
    cell = state.cells.get((process, lock))
    return {since: who >> 32 for since, who in cell.holds.items()} if cell else {}


def waits(state: State, process: ProcessId = P, lock: SemId = LOCK) -> dict[int, int]:
    cell = state.cells.get((process, lock))
    return {tid: since for tid, (since, _) in cell.waits.items()} if cell else {}


# ---- one thing after another


def test_a_lock_is_waited_for_taken_and_released() -> None:
    state = fold(State(), events(record(EventType.WAIT, 10, 1)))
    assert waits(state) == {P.pid: 10}
    state = fold(state, events(record(EventType.ACQUIRED, 30, 2, 20)))
    assert (waits(state), holds(state)) == ({}, {30: P.pid})
    state = fold(state, events(record(EventType.RELEASED, 100, 3, 70)))
    assert holds(state) == {}
    tally = total(state.tallies[LOCK].values())
    assert (tally.acquired, tally.contended, tally.released) == (1, 1, 1)
    assert (tally.wait_total, tally.hold_total) == (20, 70)
    assert waiting_times(tally, tally).p99_s == pytest.approx(20e-9)
    assert holding_times(tally, tally).max_s == pytest.approx(70e-9)


def test_a_fold_changes_nothing_that_was_there() -> None:
    before = fold(State(), events(record(EventType.WAIT, 10, 1), record(EventType.ACQUIRED, 30, 2, 20)))
    kept = copy.deepcopy((before.cells, before.tallies, before.streams, before.recent))
    fold(before, events(record(EventType.RELEASED, 100, 3, 70), record(EventType.ACQUIRED, 200, 9, 0, Q)))
    fold(before, files(10 * S, state_file(P, book(since_ns=5, tid=4))))
    assert (before.cells, before.tallies, before.streams) == kept[:3]
    assert [event.sequence for event in before.recent] == [event.sequence for event in kept[3]]


def test_a_failure_ends_the_wait() -> None:
    state = fold(State(), events(record(EventType.WAIT, 10, 1), record(EventType.FAILED, 30, 2, 20)))
    assert (waits(state), holds(state)) == ({}, {})
    assert total(state.tallies[LOCK].values()).failed == 1


def test_a_signal_is_held_by_nobody() -> None:
    state = fold(State(), events(record(EventType.ACQUIRED, 10, 1, 0, kind=Kind.SEMAPHORE, flags=Flag.SIGNAL)))
    assert holds(state) == {}


def test_units_of_a_semaphore_are_held_side_by_side() -> None:
    taken = [record(EventType.ACQUIRED, at, at, 0, kind=Kind.SEMAPHORE, tid=at) for at in (1, 2, 3)]
    state = fold(State(), events(*taken, record(EventType.RELEASED, 9, 4, 7, kind=Kind.SEMAPHORE, tid=5)))
    assert holds(state) == {1: 1, 3: 3}


def test_who_acquires_in_another_thread_has_ended_the_first_hold() -> None:
    """The release of a mutex may be lost, or come late."""
    state = fold(
        State(), events(record(EventType.ACQUIRED, 10, 1, 0, tid=1), record(EventType.ACQUIRED, 20, 3, 0, tid=2))
    )
    assert holds(state) == {20: 2}
    state = fold(state, events(record(EventType.RELEASED, 19, 2, 9, tid=1)))
    assert holds(state) == {20: 2}


def test_hold_time_counts_for_the_line_that_acquired() -> None:
    state = fold(
        State(), events(record(EventType.ACQUIRED, 10, 1, 0, site=5), record(EventType.RELEASED, 20, 2, 10, site=6))
    )
    assert state.tallies[LOCK][5].hold_total == 10


def test_a_process_that_exits_holds_nothing() -> None:
    state = fold(State(), events(record(EventType.ACQUIRED, 10, 1, 0), record(EventType.EXITING, 20, 2, lock=None)))
    assert state.cells == {}


def test_acts_of_a_process_after_its_exit_are_only_counted() -> None:
    after = [record(EventType.FAILED, 30, 3, 1), record(EventType.ACQUIRED, 40, 4, 0)]
    first = [record(EventType.ACQUIRED, 10, 1, 0), record(EventType.EXITING, 20, 2, lock=None)]
    state = fold(State(), events(*first, *after))
    assert total(state.tallies[LOCK].values()).acquired == 2
    assert holds(state) == {}


# ---- loss


@pytest.mark.parametrize("missing", [1, 5, 1000])
def test_a_gap_in_the_numbers_is_loss(missing: int) -> None:
    state = fold(State(), events(record(EventType.WAIT, 10, 1)))
    state = fold(state, events(record(EventType.WAIT, 10, 2 + missing)))
    following = range(3 + missing, 4 + missing + REORDERED)
    state = fold(state, events(*(record(EventType.WAIT, 10, number) for number in following)))
    assert state.lost == missing


def test_numbers_that_overtake_each_other_are_no_loss() -> None:
    order = [1, 3, 2, 6, 4, 5, 7]
    state = fold(State(), events(*(record(EventType.WAIT, 10, number) for number in order)))
    state = fold(state, events(*(record(EventType.WAIT, 10, number) for number in range(8, 200))))
    assert state.lost == 0


def test_a_viewer_that_comes_later_has_lost_nothing() -> None:
    assert fold(State(), events(record(EventType.WAIT, 10, 5000))).lost == 0


def test_the_file_says_how_much_was_lost() -> None:
    state = fold(State(), events(record(EventType.WAIT, 10, 1)))
    state = fold(state, files(S, state_file(P, lost_by_viewer={ME: 7, Q: 9})), ME)
    assert state.lost == 7
    state = fold(state, files(2 * S), ME)
    assert state.lost == 7, "also when its process has gone"


def test_state_file_corrects_what_a_lost_event_left_wrong() -> None:
    state = fold(State(), events(record(EventType.ACQUIRED, 10, 1, 0)))
    state = fold(state, files(S, state_file(P, book())))
    assert holds(state) == {}
    state = fold(state, files(2 * S, state_file(P, book(since_ns=S + 5, tid=3, site=SITE))))
    assert holds(state) == {S + 5: 3}


def test_an_event_that_is_newer_than_the_file_stands() -> None:
    state = fold(State(), events(record(EventType.ACQUIRED, S, 1, 0)))
    assert holds(fold(state, files(S - 1, state_file(P, book())))) == {S: P.pid}
    assert holds(fold(state, files(S + LAG_NS // 2, state_file(P, book())))) == {S: P.pid}, "written a little later"


def test_event_older_than_the_file_changes_no_holder() -> None:
    state = fold(State(), files(S, state_file(P, book())))
    state = fold(state, events(record(EventType.ACQUIRED, S // 2, 1, 0)))
    assert holds(state) == {}
    assert total(state.tallies[LOCK].values()).acquired == 1, "but it happened"


def test_hold_that_moved_while_being_read_is_not_believed() -> None:
    state = fold(State(), files(S, state_file(P, book(since_ns=5, steady=False))))
    assert holds(state) == {}


def test_the_counts_of_a_process_that_ended_are_kept() -> None:
    state = fold(State(), files(S, state_file(P, book(acquired=5)), state_file(Q, book(acquired=1))))
    state = fold(state, files(2 * S, state_file(Q, book(acquired=2))))
    assert state.retired[LOCK].acquired == 5
    restarted = state_file(Q, book(acquired=0), since_ns=77)
    assert fold(state, files(3 * S, restarted)).retired[LOCK].acquired == 7, "an exec begins anew"


# ---- bounds


def test_memory_of_vanished_locks_is_bounded() -> None:
    state = fold(State(), files(S, state_file(P, book(acquired=1))))
    state = fold(state, events(record(EventType.ACQUIRED, S + 1, 1, 0)))
    assert state.tallies
    state = fold(state, files(2 * S, state_file(P, book(lock=OTHER))))
    assert not state.tallies
    short = [book(lock=SemId(0, 9, number), name=f"job {number}") for number in range(MOST_NAMES + 1)]
    state = fold(state, files(3 * S, state_file(P, *short)))
    assert len(state.names) > MOST_NAMES
    state = fold(state, files(4 * S, state_file(P, book(lock=OTHER, name="other"))))
    assert state.names == {OTHER: "other"}


def test_memory_is_bounded_by_sites() -> None:
    many = [record(EventType.ACQUIRED, n, n, 0, site=n) for n in range(1, 3000)]
    state = fold(State(), events(*many))
    assert len(state.tallies[LOCK]) <= 514
    assert total(state.tallies[LOCK].values()).acquired == len(many)


def test_of_fast_events_a_sample_is_kept() -> None:
    state = State()
    for start in range(0, 60_000, 6000):
        state = fold(state, events(*(record(EventType.WAIT, n * 10_000, n) for n in range(start + 1, start + 6001))))
    assert state.flow.one_in == 100_000 // SHOWN_PER_S
    assert state.received == 60_000
    newest = [event.sequence for event in state.recent[-10:]]
    gaps = [later - earlier for earlier, later in pairwise(newest)]
    assert min(gaps) >= 1
    assert max(gaps) < 200
    assert len(set(gaps)) > 1, "a stride that never changes falls into step with the stream"
    assert state.flow.rate_at(60_000 * 10_000) == pytest.approx(100_000, rel=0.01)
    assert state.flow.rate_at(60_000 * 10_000 + 60 * S) == 0


TURN = (
    (P, EventType.ACQUIRED, 0),
    (P, EventType.RELEASED, 12_000),
    (Q, EventType.ACQUIRED, 0),
    (Q, EventType.RELEASED, 4000),
)


@functools.cache
def turns() -> list[Event]:
    """Return 100,000 events a second, for 1.4 s: two workers take a lock by turns, P for 12 µs, Q for 4 µs."""
    return events(
        *(
            record(TURN[n % 4][1], n * 10_000, n // 4 * 2 + n % 2 + 1, TURN[n % 4][2], TURN[n % 4][0])
            for n in range(140_000)
        )
    )


@pytest.mark.parametrize("length", [40, 401, 6000])
def test_a_sample_is_fair_to_who_takes_turns(length: int) -> None:
    """The events come in pieces of any length."""
    state, seen = State(), dict[tuple[ProcessId, EventType], list[int]]()
    heard: set[tuple[ProcessId, int]] = set()
    for start in range(0, len(turns()), length):
        state = fold(state, turns()[start : start + length])
        if start < 60_000:
            continue  # how fast it is was not known at first
        for event in state.recent:
            number = (event.origin.process, event.sequence)
            if number not in heard and event.time_ns >= 600_000_000:
                heard.add(number)
                seen.setdefault((event.origin.process, event.origin.type), []).append(event.value)
    fair = 80_000 / 100 / 4
    assert {key: len(values) for key, values in seen.items()} == {
        (who, what): pytest.approx(fair, rel=0.2) for who, what, _ in TURN
    }
    for who, held_ns in ((P, 12_000), (Q, 4000)):
        share = sum(seen[who, EventType.RELEASED]) * 100 / (80_000 * 10_000)
        assert share == pytest.approx(held_ns / 40_000, rel=0.2)


# ---- any server, any loss, any order


@dataclass
class World:
    """Processes that use locks as they may, and tell of it."""

    now: int = 1
    holding: dict[SemId, tuple[ProcessId, int, int]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    numbers: dict[ProcessId, int] = field(default_factory=dict)
    acquired: dict[tuple[ProcessId, SemId], int] = field(default_factory=dict)

    def step(self, process: ProcessId, tid: int, lock: SemId) -> None:
        self.now += 10
        holder = self.holding.get(lock)
        if holder is None:
            self.holding[lock] = (process, tid, self.now)
            self.acquired[process, lock] = self.acquired.get((process, lock), 0) + 1
            self._say(EventType.ACQUIRED, 0, process, tid, lock)
        elif holder[:2] == (process, tid):
            del self.holding[lock]
            self._say(EventType.RELEASED, self.now - holder[2], process, tid, lock)
        else:
            self._say(EventType.FAILED, 5, process, tid, lock)

    def _say(self, type_: EventType, value: int, process: ProcessId, tid: int, lock: SemId) -> None:
        self.numbers[process] = self.numbers.get(process, 0) + 1
        self.records.append(record(type_, self.now, self.numbers[process], value, process, lock, tid))

    def books(self, lost: dict[ProcessId, int]) -> list[StateFile]:
        found = []
        for process in (P, Q):
            books = []
            for lock in (LOCK, OTHER):
                holder = self.holding.get(lock)
                mine = holder if holder and holder[0] == process else None
                told = book(lock=lock, acquired=self.acquired.get((process, lock), 0))
                books.append(replace(told, since_ns=mine[2], tid=mine[1], count=1) if mine else told)
            found.append(state_file(process, *books, lost_by_viewer={ME: lost.get(process, 0)}))
        return found


steps = st.tuples(st.sampled_from([P, Q]), st.integers(1, 3), st.sampled_from([LOCK, OTHER]))


@settings(max_examples=2 * settings.default.max_examples)
@given(st.lists(steps, max_size=120), st.data())
def test_whatever_is_lost_the_files_heal_it(acts: list[tuple[ProcessId, int, SemId]], data: st.DataObject) -> None:
    world = World()
    for act in acts:
        world.step(*act)
    lost = data.draw(st.sets(st.integers(0, max(len(world.records) - 1, 0)))) if world.records else set()
    kept = [each for place, each in enumerate(world.records) if place not in lost]
    shifts = data.draw(st.lists(st.integers(0, 8), min_size=len(kept), max_size=len(kept)))
    order = [each for _, each in sorted(enumerate(kept), key=lambda item: item[0] + shifts[item[0]])]
    size = data.draw(st.integers(1, 40))
    decoder_events = tracewriter.events(*order)
    state = State()
    for start in range(0, len(order), size):
        state = fold(state, decoder_events[start : start + size])
    assert state.received == len(order)
    gone: dict[ProcessId, int] = {}
    for place in lost:
        process = world.records[place].process
        gone[process] = gone.get(process, 0) + 1
    state = fold(state, files(world.now + LAG_NS + 1, *world.books(gone)), ME)
    for lock in (LOCK, OTHER):
        truth = world.holding.get(lock)
        found = {process: holds(state, process, lock) for process in (P, Q) if holds(state, process, lock)}
        assert found == ({truth[0]: {truth[2]: truth[1]}} if truth else {})
    assert state.lost == len(lost)


@given(st.lists(st.builds(
    record, st.sampled_from(EventType), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 2**64 - 2), st.sampled_from([P, Q]), st.sampled_from([None, LOCK, OTHER]),
    st.integers(1, 5), st.sampled_from(Kind), st.sampled_from([Flag.NONE, Flag.SIGNAL]), st.integers(0, 3),
), max_size=60))  # fmt: skip
def test_nothing_that_can_be_sent_raises(several: list[Record]) -> None:
    state = fold(State(), events(*several[:30]))
    state = fold(state, files(2**62, state_file(P, book(since_ns=3, waiting=2, waiting_since_ns=1, waiting_tid=8))))
    state = fold(state, events(*several[30:]))
    assert state.received == len(several)
