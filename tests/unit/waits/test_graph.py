"""The fixpoint of the wait graph and the roots that it finds, as a table of cases."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.model import Doubt, ProcessId, RootKind, SemId, Target, ThreadId, Wait, WaitGraph, WaitKind, Wakers
from semtrace.waits.components import components
from semtrace.waits.graph import graph

LOCK, SIGNAL, PRIVATE = WaitKind.SHARED_LOCK, WaitKind.SIGNAL, WaitKind.PRIVATE_LOCK
END, JOIN, READ, WRITE = WaitKind.PROCESS_END, WaitKind.THREAD_END, WaitKind.PIPE_READ, WaitKind.PIPE_WRITE


def process(number: int) -> ProcessId:
    return ProcessId(number, 100)


def thread(number: int, of: int | None = None) -> ThreadId:
    return ThreadId(process(of or number), number)


def target(kind: WaitKind, name: str) -> Target:
    semaphore = SemId(0, 1, sum(map(ord, name))) if kind in (LOCK, SIGNAL) else None
    return Target(kind, name, semaphore)


def wait(
    who: int,
    kind: WaitKind,
    on: str,
    *,
    of: int | None = None,
    by: tuple[int, ...] = (),
    threads: tuple[ThreadId, ...] = (),
    held: tuple[ThreadId, ...] | None = None,
    doubt: Doubt | None = None,
    **more: object,
) -> Wait:
    """A thread that has slept for 5 s; `by` are the processes that could wake it."""
    wakers = Wakers(threads, tuple(map(process, by)), doubt)
    made = Wait(thread(who, of), target(kind, on), False, wakers, asleep_s=5.0, holders=held)
    return replace(made, **more)  # type: ignore[arg-type]


def judged(*waits: Wait, threads: dict[int, int] | None = None, stopped: tuple[int, ...] = ()) -> WaitGraph:
    """Every process that is mentioned has one thread, if `threads` does not say otherwise."""
    named = {each for one in waits for each in (one.thread.process, *one.wakers.processes)}
    named |= {each.process for one in waits for each in (*one.wakers.threads, *(one.holders or ()))}
    counts = dict.fromkeys(named, 1) | {process(number): count for number, count in (threads or {}).items()}
    return graph(waits, {each: count for each, count in counts.items() if count}, tuple(map(process, stopped)))


def shape(found: WaitGraph) -> list[tuple[RootKind, list[int], list[int], bool]]:
    return [
        (root.kind, [each.thread.tid for each in root.waits], [each.thread.tid for each in root.behind], root.proven)
        for root in found.roots
    ]


NOBODY, ITSELF, RING = RootKind.NOBODY, RootKind.ITSELF, RootKind.RING

STUCK = {
    "one thread in its own private lock": (
        [wait(1, PRIVATE, "a", by=(1,))],
        [(NOBODY, [1], [], True)],
    ),
    "one thread in a shared lock that it holds": (
        [wait(1, LOCK, "a", by=(1,), held=(thread(1),))],
        [(ITSELF, [1], [], True)],
    ),
    "two threads, two locks, opposite orders": (
        [wait(1, LOCK, "a", by=(1, 2), held=(thread(2),)), wait(2, LOCK, "b", by=(1, 2), held=(thread(1),))],
        [(RING, [1, 2], [], True)],
    ),
    "a third waits for one of the two": (
        [
            wait(1, LOCK, "a", by=(1, 2, 3), held=(thread(2),)),
            wait(2, LOCK, "b", by=(1, 2, 3), held=(thread(1),)),
            wait(3, LOCK, "a", by=(1, 2, 3), held=(thread(2),)),
        ],
        [(RING, [1, 2], [3], True)],
    ),
    "an orphaned lock": (
        [wait(1, LOCK, "a"), wait(2, LOCK, "a")],
        [(NOBODY, [1], [], True), (NOBODY, [2], [], True)],
    ),
    "everyone who could set an event waits for it": (
        [wait(number, SIGNAL, "ready", by=(1, 2, 3)) for number in (1, 2, 3)],
        [(NOBODY, [1, 2, 3], [], True)],
    ),
    "a parent joins children that want its lock": (
        [
            wait(1, END, "child 2", threads=(thread(2),)),
            wait(2, LOCK, "a", by=(1, 2, 3), held=(thread(1),)),
            wait(3, LOCK, "a", by=(1, 2, 3), held=(thread(1),)),
        ],
        [(RING, [1, 2], [3], True)],
    ),
    "join before get, with a full pipe": (
        [
            wait(1, END, "child 2", by=(2,)),
            wait(2, JOIN, "feeder", threads=(thread(22, 2),)),
            wait(22, WRITE, "results", of=2, by=(1, 2)),
        ],
        [(RING, [1, 2, 22], [], True)],
    ),
    "units of a semaphore lost by those who want one more": (
        [
            wait(11, READ, "results", of=1, by=(1, 2, 3, 4)),
            wait(2, SIGNAL, "slots", by=(1, 2, 3, 4), held=(thread(2), thread(3))),
            wait(3, SIGNAL, "slots", by=(1, 2, 3, 4), held=(thread(2), thread(3))),
            wait(4, SIGNAL, "slots", by=(1, 2, 3, 4), held=(thread(2), thread(3))),
        ],
        [(RING, [2, 3], [4, 11], True)],
    ),
    "a lock that nobody is known to hold, wanted by the holder of another": (
        [
            wait(1, LOCK, "a", by=(1, 2, 3), held=(thread(3),)),
            wait(2, LOCK, "a", by=(1, 2, 3), held=(thread(3),)),
            wait(3, LOCK, "b", by=(1, 2, 3)),
        ],
        [(NOBODY, [3], [1, 2], True)],
    ),
    "a process whose idle pool thread can do nothing": (
        [wait(1, PRIVATE, "a", by=(1,)), wait(12, SIGNAL, "work", of=1, by=(1,), idle=True)],
        [(NOBODY, [1], [], True)],
    ),
    "a dead process held the other end of a pipe": (
        [wait(1, READ, "answers", by=(9,))],
        [(NOBODY, [1], [], True)],
    ),
}


@pytest.mark.parametrize("name", STUCK)
def test_stuck_threads_and_their_roots(name: str) -> None:
    waits, roots = STUCK[name]
    tids: dict[int, set[int]] = {}
    for each in waits:
        tids.setdefault(each.pid, set()).add(each.thread.tid)
    threads = {9: 0} | {pid: len(found) for pid, found in tids.items()}  # 9 is dead
    found = judged(*waits, threads=threads)
    assert sorted(shape(found)) == sorted(roots)
    assert found.stuck == {each.thread for each in waits}


FREE = {
    "another thread of the process may release": ([wait(1, PRIVATE, "a", by=(1,))], {1: 2}),
    "the wait is timed": ([wait(1, PRIVATE, "a", by=(1,), timed=True)], {}),
    "it has slept for a moment only": ([wait(1, PRIVATE, "a", by=(1,), asleep_s=0.2)], {}),
    "it is not known for how long it has slept": ([wait(1, PRIVATE, "a", by=(1,), asleep_s=None)], {}),
    "a living process that maps the signal": ([wait(1, SIGNAL, "ready", by=(1, 2))], {}),
    "an outsider has the pipe": ([wait(1, READ, "p", by=(1,), doubt=Doubt.OUTSIDER)], {}),
    "the holder of the other lock goes on": (
        [wait(1, LOCK, "a", by=(1, 2, 3), held=(thread(2),)), wait(2, LOCK, "b", by=(1, 2, 3), held=(thread(3),))],
        {},
    ),
    "a child that is joined computes": ([wait(1, END, "child 2", by=(2,))], {}),
}


@pytest.mark.parametrize("name", FREE)
def test_threads_that_somebody_may_wake_are_not_stuck(name: str) -> None:
    waits, threads = FREE[name]
    found = judged(*waits, threads=threads)
    assert not found.stuck
    assert not found.roots


def test_ring_by_holders_is_unproven_while_others_may_release() -> None:
    found = judged(
        wait(1, LOCK, "a", by=(1, 2, 3), held=(thread(2),)), wait(2, LOCK, "b", by=(1, 2, 3), held=(thread(1),))
    )
    assert shape(found) == [(RING, [1, 2], [], False)]
    assert not found.stuck


def test_bound_ring_is_proven_whoever_else_maps_it() -> None:
    found = judged(
        wait(1, LOCK, "a", by=(1, 2, 3), held=(thread(2),), bound=True),
        wait(2, LOCK, "b", by=(1, 2, 3), held=(thread(1),), bound=True),
    )
    assert shape(found) == [(RING, [1, 2], [], True)]


def test_threads_behind_a_stopped_process_have_it_as_root() -> None:
    found = judged(
        wait(1, LOCK, "a", by=(1, 2, 3), held=(thread(3),)),
        wait(2, END, "child 1", by=(1,)),
        stopped=(3,),
    )
    assert shape(found) == [(RootKind.STOPPED, [1], [2], False)]
    assert found.roots[0].stopped == (process(3),)
    assert not found.stuck


def test_root_has_only_those_behind_its_own_process() -> None:
    found = judged(
        wait(1, LOCK, "own", by=(1, 2, 3, 4), held=(thread(3),)),
        wait(2, SIGNAL, "result", by=(2,)),
        wait(20, READ, "results", of=2, by=(4,), idle=True),
        wait(5, END, "child 2", by=(2,)),
        threads={2: 2},
        stopped=(3, 4),
    )
    assert shape(found) == [(RootKind.STOPPED, [20], [2, 5], False), (RootKind.STOPPED, [1], [], False)]
    assert [root.stopped for root in found.roots] == [(process(4),), (process(3),)]


def test_long_chain_does_not_recurse() -> None:
    chain = [wait(number, LOCK, f"l{number}", held=(thread(number + 1),)) for number in range(1, 3000)]
    found = judged(*chain, wait(3000, PRIVATE, "end", by=(3000,)))
    assert len(found.stuck) == 3000
    assert len(found.roots) == 1
    assert len(found.roots[0].behind) == 2999


# -- properties

NUMBERS = st.integers(1, 6)
WAITS = st.lists(
    st.builds(
        lambda who, kind, on, by, held, doubtful: wait(
            who,
            kind,
            on,
            by=tuple(sorted(by)),
            held=tuple(map(thread, sorted(held))) or None,
            doubt=Doubt.UNREADABLE if doubtful else None,
        ),
        NUMBERS,
        st.sampled_from([LOCK, SIGNAL, PRIVATE, END, READ]),
        st.sampled_from("abc"),
        st.sets(NUMBERS, max_size=4),
        st.sets(NUMBERS, max_size=2),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda each: each.thread,
)
EVERYONE = dict.fromkeys(range(1, 7), 1)


@given(WAITS, st.integers(0, 5))
def test_a_free_waker_never_adds_stuck_threads(waits: list[Wait], which: int) -> None:
    before = judged(*waits, threads=EVERYONE)
    if not waits:
        return
    one = waits[which % len(waits)]
    freed = replace(one, wakers=replace(one.wakers, processes=(*one.wakers.processes, process(7))))
    after = judged(*(freed if each is one else each for each in waits), threads={**EVERYONE, 7: 1})
    assert after.stuck <= before.stuck


@given(WAITS, st.integers())
def test_the_order_of_the_waits_changes_nothing(waits: list[Wait], seed: int) -> None:
    shuffled = random.Random(seed).sample(waits, len(waits))
    one, other = judged(*waits, threads=EVERYONE), judged(*shuffled, threads=EVERYONE)
    assert one.stuck == other.stuck
    assert {frozenset(each.thread for each in root.waits) for root in one.roots} == {
        frozenset(each.thread for each in root.waits) for root in other.roots
    }


@given(st.permutations(range(1, 7)), st.integers(1, 6))
def test_a_ring_is_always_found(order: list[int], length: int) -> None:
    ring = order[:length]
    waits = [
        wait(who, LOCK, f"l{who}", by=(1, 2, 3, 4, 5, 6), held=(thread(ring[at - 1]),), bound=True)
        for at, who in enumerate(ring)
    ]
    found = judged(*waits, threads=EVERYONE)
    assert found.stuck == {each.thread for each in waits}
    assert len(found.roots) == 1
    assert {each.thread for each in found.roots[0].waits} == found.stuck


@given(WAITS)
def test_stuck_threads_have_no_free_waker(waits: list[Wait]) -> None:
    found = judged(*waits, threads=EVERYONE)
    asleep = {each.process for each in found.stuck}
    for each in waits:
        if each.thread in found.stuck and not each.bound:
            assert each.wakers.doubt is None
            assert asleep.issuperset(each.wakers.processes)


@given(st.dictionaries(st.integers(0, 7), st.lists(st.integers(0, 7), max_size=4), max_size=8))
def test_components_come_before_those_that_lead_to_them(edges: dict[int, list[int]]) -> None:
    place = {node: number for number, found in enumerate(components(edges)) for node in found}
    assert place.keys() >= edges.keys()
    for node, ends in edges.items():
        for end in ends:
            assert place[end] <= place[node]
