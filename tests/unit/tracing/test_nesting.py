"""Which locks were taken inside which others, as the events tell it; and what must not be made up."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from support.tracewriter import LOCK, OTHER, P, Q, S, book, events, files, record, state_file

from semtrace.model import SemId
from semtrace.tracing.nesting import MOST_NESTINGS
from semtrace.tracing.state import State, fold
from semtrace.tracing.traced import tracing
from semtrace.wire.event import EventType, Record
from semtrace.wire.words import Flag, Kind

A, B, GATE = LOCK, OTHER, SemId(0, 27, 503)
TOOK, GAVE = EventType.ACQUIRED, EventType.RELEASED


def watched(*held: Any) -> State:
    """A server whose locks all are free, but for those in these books of P."""
    locks = [book(lock=lock) for lock in (A, B, GATE) if lock not in [each.lock for each in held]]
    return fold(State(), files(S, state_file(P, *locks, *held), state_file(Q)))


def acts(*told: tuple[EventType, SemId], first: int = 1, **changes: Any) -> list[Record]:
    """Of one thread, one after another."""
    return [
        record(what, 2 * S + at, at, 0 if what is TOOK else 1, lock=lock, **changes)
        for at, (what, lock) in enumerate(told, first)
    ]


def pairs(state: State) -> set[tuple[SemId, SemId]]:
    return {(each.outer, each.inner) for each in state.nestings}


def test_nested_acquire_has_both_locks_lines_and_its_thread() -> None:
    state = fold(watched(), events(*acts((TOOK, A), site=5), *acts((TOOK, B), first=2, site=6)))
    ((nesting, threads),) = state.nestings.items()
    assert (nesting.outer, nesting.inner, nesting.outer_site, nesting.inner_site) == (A, B, 5, 6)
    assert (nesting.also_held, threads) == (frozenset(), ((P, P.pid),))


def test_a_fold_leaves_the_state_before_as_it_was() -> None:
    before = fold(watched(), events(*acts((TOOK, A))))
    kept = copy.deepcopy((before.held, before.nestings, before.sure))
    fold(before, events(*acts((TOOK, B), (GAVE, A), first=2)))
    fold(before, events(*acts((TOOK, B), first=9)))
    fold(before, files(9 * S, state_file(P, book())))
    assert (before.held, before.nestings, before.sure) == kept


def test_batches_make_no_difference() -> None:
    told = acts((TOOK, GATE), (TOOK, A), (TOOK, B), (GAVE, A), (GAVE, B), (GAVE, GATE))
    whole = fold(watched(), events(*told))
    state = watched()
    for each in told:
        state = fold(state, events(each))
    assert (state.nestings, state.held, whole.held) == (whole.nestings, {}, {})
    assert pairs(state) == {(GATE, A), (GATE, B), (A, B)}
    assert next(each for each in state.nestings if (each.outer, each.inner) == (A, B)).also_held == {GATE}


@pytest.mark.parametrize(
    "told",
    [
        [(TOOK, A), (GAVE, A), (TOOK, B)],
        [(TOOK, A), (TOOK, A)],
        [(TOOK, A), (GAVE, A), (TOOK, A)],
        [(TOOK, B), (TOOK, GATE), (GAVE, B), (TOOK, B), (GAVE, GATE), (GAVE, B), (TOOK, A)],
    ],
)
def test_what_was_let_go_is_not_held(told: list[tuple[EventType, SemId]]) -> None:
    assert not {(A, B), (B, A), (A, A)} & pairs(fold(watched(), events(*acts(*told))))


def test_threads_and_processes_hold_each_their_own() -> None:
    told = [*acts((TOOK, A), tid=1), *acts((TOOK, B), first=2, tid=2), *acts((TOOK, GATE), process=Q)]
    assert pairs(fold(watched(), events(*told))) == set()


@pytest.mark.parametrize("by", [{"tid": 7, "first": 2}, {"process": Q}])
def test_what_another_gave_back_is_held_no_more(by: dict[str, Any]) -> None:
    start = acts((TOOK, A))
    rest = acts((TOOK, B), first=2 + (by.get("tid") is not None))
    assert pairs(fold(watched(), events(*start, *acts((GAVE, A), **by), *rest))) == set()


def test_a_signal_is_neither_and_a_semaphore_only_stands_beside() -> None:
    signal = acts((TOOK, GATE), kind=Kind.SEMAPHORE, flags=Flag.SIGNAL)
    assert pairs(fold(watched(), events(*signal, *acts((TOOK, A), first=2)))) == set()
    several = acts((TOOK, GATE), kind=Kind.SEMAPHORE)
    state = fold(watched(), events(*several, *acts((TOOK, A), (TOOK, B), first=2)))
    assert [(each.outer, each.inner, each.also_held) for each in state.nestings] == [(A, B, {GATE})]


def test_after_a_loss_nesting_waits_for_a_file_with_holds() -> None:
    """What never came may be a release, or the acquire of a lock that is held around all that follows."""
    state = fold(watched(), events(*acts((TOOK, A)), *acts((TOOK, B), (TOOK, GATE), first=5)))
    assert pairs(state) == set()
    free = [book(lock=lock) for lock in (A, B)]
    state = fold(state, files(3 * S, state_file(P, *free, book(lock=GATE, since_ns=2 * S, tid=P.pid)), state_file(Q)))
    assert pairs(fold(state, events(*acts((TOOK, A), (TOOK, B), first=7)))) == set()  # older than the file
    later = [record(TOOK, 4 * S + at, 6 + at, 0, lock=lock) for at, lock in ((1, A), (2, B))]
    state = fold(state, events(*later))
    assert (A, B) in pairs(state)
    assert all(GATE in {each.outer, *each.also_held} for each in state.nestings)


def test_hold_from_before_tracing_accompanies_a_nesting_without_starting_one() -> None:
    state = fold(watched(book(lock=GATE, since_ns=5, tid=P.pid)), events(*acts((TOOK, A), (TOOK, B))))
    assert [(each.outer, each.inner, each.also_held) for each in state.nestings] == [(A, B, {GATE})]


def test_the_dead_hold_nothing_and_what_nobody_knows_is_forgotten() -> None:
    state = fold(watched(), events(*acts((TOOK, A), (TOOK, B))))
    state = fold(state, files(3 * S, state_file(P, book(lock=A), book(lock=B)), dead=(P,)))
    assert (state.held, state.sure, pairs(state)) == ({}, {}, {(A, B)})
    assert fold(state, files(4 * S, state_file(Q, book(lock=A)))).nestings == {}
    over = fold(watched(), events(*acts((TOOK, A)), record(EventType.EXITING, 3 * S, 2, lock=None)))
    assert over.held == {}


def test_what_a_server_can_make_us_remember_is_bounded() -> None:
    told = [
        each
        for n in range(MOST_NESTINGS + 9)
        for each in acts((TOOK, A), (TOOK, B), (GAVE, B), (GAVE, A), first=4 * n + 1, site=n + 1)
    ]
    assert len(fold(watched(), events(*told)).nestings) == MOST_NESTINGS
    many = [each for n in range(50) for each in acts((TOOK, SemId(0, 27, 600 + n)), first=n + 1)]
    state = fold(watched(), events(*many))
    assert len(state.held[P][P.pid]) < 20


def test_snapshot_has_only_pairs_in_both_orders_without_timeouts() -> None:
    there = acts((TOOK, A), (TOOK, B), (GAVE, B), (GAVE, A))
    state = fold(watched(), events(*there))
    assert tracing(state, 3 * S, True, {}).orders == ()
    state = fold(state, events(*acts((TOOK, B), (TOOK, A), process=Q)))
    assert {(each.outer, each.inner) for each in tracing(state, 3 * S, True, {}).orders} == {(A, B), (B, A)}
    state = fold(state, events(record(EventType.FAILED, 3 * S, 3, 1, process=Q, lock=A)))
    assert {(each.outer, each.inner) for each in tracing(state, 3 * S, True, {}).orders} == {(A, B)}
