"""Events count only from those who may tell them; what a hostile server makes up is bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.tracewriter import LOCK, OTHER, FakeServer, P, events, files, record, state_file
from support.tracewriter import book as a_book

from semtrace.model import ProcessId, SemId
from semtrace.tracing.admission import MOST_WAITING, Admission
from semtrace.tracing.events import LONGEST_NS
from semtrace.tracing.folding import MOST_ACTS, MOST_HOLDS, MOST_LOCKS, Cell, bounded_cells
from semtrace.tracing.follower import TraceDirectories
from semtrace.tracing.histogram import bucket, coarse
from semtrace.tracing.reporters import Mapped, Reporters
from semtrace.tracing.state import State, fold
from semtrace.tracing.statefiles import StateFiles
from semtrace.tracing.tally import MOST_BUCKETS, Tally, bounded, total
from semtrace.tracing.traced import refine, tracing
from semtrace.wire.event import EventType, Record
from semtrace.wire.place import SHM_VARIABLE
from semtrace.wire.words import Kind

ME, THEM = os.geteuid(), 12345
NOW = 1_000_000
INIT = ProcessId(1, 7)


class Known(Reporters):
    """Reporters of a server that does not exist: P is the server's own user's, Q another's."""

    def __init__(self, mapped: Mapped | None = None) -> None:
        super().__init__()
        self._seen = {P: frozenset({ME}), THEIRS: frozenset({THEM})}
        self._living = frozenset({ME, THEM})
        self._mapped = mapped


THEIRS = ProcessId(103, 3)
MAPPED = Mapped({LOCK: (P,), OTHER: (P, THEIRS)})


def admitted(admission: Admission, user: int, *records: Record) -> int:
    return len(admission.admit({user: events(*records)}, NOW))


def listed(*locks: SemId) -> Admission:
    admission = Admission(Known(MAPPED))
    found = state_file(THEIRS, *(a_book(lock=lock) for lock in locks))
    admission.update(files(1, found).__class__(1, (found,), frozenset(), {THEIRS: THEM}))
    return admission


def test_own_processes_tell_of_any_lock() -> None:
    admission = listed()
    assert admitted(admission, ME, record(EventType.WAIT, 1, 1, process=P)) == 1
    assert admission.refused == 0


def test_another_user_tells_only_of_own_processes_and_locks() -> None:
    admission = listed(LOCK, OTHER)
    assert admitted(admission, THEM, record(EventType.WAIT, 1, 1, process=P)) == 0
    assert admitted(admission, THEM, record(EventType.WAIT, 1, 1, process=THEIRS, lock=LOCK)) == 0
    assert admitted(admission, THEM, record(EventType.WAIT, 1, 1, process=THEIRS, lock=OTHER)) == 1
    admission.update(files(2))
    assert admitted(admission, ME) == 0
    assert admission.refused == 2


def test_what_came_before_the_look_that_shows_it_is_kept() -> None:
    admission = listed()
    assert admitted(admission, THEM, record(EventType.WAIT, 1, 1, process=THEIRS, lock=OTHER)) == 0
    assert admission.waits
    found = state_file(THEIRS, a_book(lock=OTHER))
    admission.update(files(1, found).__class__(1, (found,), frozenset(), {THEIRS: THEM}))
    assert admitted(admission, ME) == 1
    assert (admission.waits, admission.refused) == (False, 0)


def test_events_of_the_future_are_counted_and_dropped() -> None:
    admission = listed()
    assert admitted(admission, ME, record(EventType.WAIT, NOW + 1, 1), record(EventType.WAIT, NOW, 2)) == 1
    assert admission.refused == 1


def test_a_living_stranger_is_told_of_by_nobody() -> None:
    reporters = Known()
    mine = ProcessId(os.getpid(), 1)  # a pid that was given out again: not this process
    assert reporters.may_report_process(ME, mine)
    assert not reporters.may_report_process(ME, own_process())
    assert not reporters.may_report_process(4711, P)


def own_process() -> ProcessId:
    from semtrace.tracing.reader import this_viewer

    return this_viewer()


def test_what_is_kept_back_is_bounded() -> None:
    admission = listed()
    many = [record(EventType.WAIT, 1, n, process=THEIRS, lock=LOCK) for n in range(1, MOST_WAITING + 100)]
    assert admitted(admission, THEM, *many) == 0
    assert admission.refused == 99


def test_another_users_file_names_no_lock_that_others_map() -> None:
    shared, own = SemId(0, 9, 1), SemId(0, 9, 2)
    reading = StateFiles(Known(Mapped({shared: (P, THEIRS), own: (THEIRS,)})))
    file = state_file(THEIRS, a_book(lock=shared, name="theirs"), a_book(lock=own, name="theirs"))
    named = {book.lock: book.name for book in reading._as_far_as_it_counts(file, THEM).locks}
    assert named == {shared: None, own: "theirs"}
    assert reading._as_far_as_it_counts(file, ME) == file


# ---- one hostile record


def test_a_wait_of_a_hundred_years_breaks_no_view() -> None:
    state = fold(State(), events(record(EventType.ACQUIRED, NOW, 1, 3 * 10**18)))
    assert total(state.tallies[LOCK].values()).wait_max == LONGEST_NS
    assert tracing(state, NOW, True, {}).received == 1
    assert refine((), state, NOW, ()) == ()


@pytest.mark.parametrize("wait", [0, 1, 10**18, 3 * 10**18, 2**64 - 2])
def test_every_duration_has_a_bar(wait: int) -> None:
    assert sum(count for _, count in coarse({bucket(wait): 1})) == 1


def test_a_file_of_the_future_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHM_VARIABLE, str(tmp_path))
    server = FakeServer(tmp_path)
    server.write_state(server.process, SINCE=2**63)
    directories = TraceDirectories(live=False)
    directories.scan([server.process])
    state = directories.with_files(State())
    directories.close()
    assert state.files == {}
    assert state.refused.files == 1


# ---- bounds


def test_waits_and_holds_of_a_lock_are_bounded() -> None:
    waits = [record(EventType.WAIT, n, n, tid=n) for n in range(1, 2 * MOST_HOLDS)]
    holds = [
        record(EventType.ACQUIRED, n, n, 0, tid=n, lock=OTHER, kind=Kind.SEMAPHORE)
        for n in range(2 * MOST_HOLDS, 4 * MOST_HOLDS)
    ]
    state = fold(State(), events(*waits, *holds))
    assert len(state.cells[P, LOCK].waits) == MOST_HOLDS
    assert len(state.cells[P, OTHER].holds) <= MOST_HOLDS


def test_waits_and_holds_of_all_locks_are_bounded() -> None:
    many = {(P, SemId(0, 9, n)): Cell(waits=dict.fromkeys(range(1000), (1, 1))) for n in range(100)}
    kept = bounded_cells(many)
    assert sum(len(cell.waits) for cell in kept.values()) <= MOST_ACTS
    assert kept.keys() == many.keys()


def test_locks_that_are_counted_are_bounded() -> None:
    several = [record(EventType.WAIT, n, n, lock=SemId(0, 9, n)) for n in range(1, MOST_LOCKS + 50)]
    assert len(fold(State(), events(*several)).tallies) == MOST_LOCKS


def test_histograms_are_bounded_and_counts_stay() -> None:
    wide = {bucket(n): 1 for n in range(0, 1 << 20, 257)}
    tallies = {SemId(0, 9, n): {site: Tally(acquired=2, waits=dict(wide)) for site in range(40)} for n in range(20)}
    kept = bounded(tallies)
    assert sum(len(t.waits) for sites in kept.values() for t in sites.values()) <= MOST_BUCKETS
    assert all(total(kept[lock].values()).acquired == 80 for lock in tallies)
