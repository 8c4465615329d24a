"""The verdict on one reading: a table of what was read and what follows from it, and what must never follow."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.model import RECURSIVE_MUTEX, SEM_VALUE_MAX, SEMAPHORE, ProcessId
from semtrace.observe.verdict import Claim, Reading, judge

MASTER, A, B, C = (ProcessId(pid, 1000) for pid in (10, 11, 12, 13))
THREAD = 0x7F0000000700


def claim(process: ProcessId, count: int, last_tid: int = THREAD, parent: int = MASTER.pid) -> Claim:
    return Claim(process, count, last_tid, parent if process != MASTER else 1)


@dataclass
class Case:
    """A Lock that is taken unless said otherwise."""

    name: str
    state: str
    holders: dict[ProcessId, int] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    value: int | None = 0
    kind: int | None = SEMAPHORE
    maxvalue: int | None = 1
    blind: tuple[ProcessId, ...] = ()
    waiting: bool = False
    steady: bool = True
    left_over: dict[ProcessId, int] = field(default_factory=dict)
    reason: str | None = None
    suspect: bool = False


NOBODY = (claim(MASTER, 0), claim(A, 0), claim(B, 0))

CASES = [
    # A lock
    Case("free", "free", value=1, claims=NOBODY),
    Case("held", "held", {A: 1}, claims=(claim(A, 1), claim(B, 0))),
    Case("held by the master", "held", {MASTER: 1}, claims=(claim(MASTER, 1), claim(A, 0))),
    Case("held and waited for", "contended", {A: 1}, claims=(claim(A, 1), claim(B, 0)), waiting=True),
    Case("free and still waited for", "free", value=1, waiting=True),
    Case("above its maximum", "free", value=2, reason="above its maximum"),
    # What was inherited at a fork
    Case("inherited from the living holder", "held", {MASTER: 1}, claims=(claim(MASTER, 1), claim(A, 1), claim(B, 1))),
    Case(
        "a claim that the parent has by another thread is not inherited",
        "unknown",
        claims=(claim(MASTER, 1, 0x7F0000000100), claim(A, 1)),
        reason="ambiguous",
    ),
    Case("inherited, and the parent has released", "unknown", claims=(claim(A, 1), claim(B, 1)), reason="ambiguous"),
    Case(
        "inherited, the parent has released, and one took it",
        "unknown",
        claims=(claim(MASTER, 0), claim(A, 2), claim(B, 1)),
        reason="ambiguous",
    ),
    Case(
        "inherited counts that stood while it was free do not count",
        "held",
        {A: 1},
        claims=(claim(MASTER, 0), claim(A, 2), claim(B, 1)),
        left_over={A: 1, B: 1},
    ),
    Case(
        "nothing but inherited counts",
        "unknown",
        claims=(claim(A, 1), claim(B, 1)),
        left_over={A: 1, B: 1},
        reason="left over",
    ),
    Case(
        "inherited by a grandchild",
        "held",
        {MASTER: 1},
        claims=(claim(MASTER, 1), claim(A, 1), claim(B, 1, parent=A.pid)),
    ),
    # Handed over
    Case(
        "taken by one, released by another, taken by a third",
        "unknown",
        claims=(claim(A, 1), claim(B, -1), claim(C, 1)),
        reason="release what others took",
    ),
    Case(
        "the same, though what it left over the last time is known: it may have been handed over again",
        "unknown",
        claims=(claim(A, 1), claim(B, -1), claim(C, 1)),
        left_over={A: 1, B: -1},
        reason="release what others took",
    ),
    Case(
        "taken again by the one who had released",
        "held",
        {B: 1},
        claims=(claim(A, 1), claim(B, 0)),
        left_over={A: 1, B: -1},
    ),
    Case(
        "a negative count is no proof that nobody holds it",
        "unknown",
        claims=(claim(A, 0), claim(B, -1)),
        reason="release what others took",
    ),
    # Nobody
    Case("locked and claimed by nobody", "unknown", claims=NOBODY, suspect=True),
    Case("locked and no claims at all", "unknown", suspect=True),
    Case("one is blind", "unknown", claims=NOBODY, blind=(C,), reason="cannot be read and may hold it"),
    Case("one is blind but the holder is known", "held", {A: 1}, claims=(claim(A, 1),), blind=(C,)),
    # RLock: its count is its depth
    Case("a deep RLock", "held", {A: 3}, claims=(claim(A, 3), claim(B, 0)), kind=RECURSIVE_MUTEX),
    Case("a free RLock", "free", value=1, kind=RECURSIVE_MUTEX),
    Case(
        "a deep RLock inherited",
        "held",
        {MASTER: 2},
        claims=(claim(MASTER, 2), claim(A, 2)),
        kind=RECURSIVE_MUTEX,
    ),
    Case("an RLock of nobody", "unknown", claims=NOBODY, kind=RECURSIVE_MUTEX, suspect=True),
    # a BoundedSemaphore of three units
    Case("some of it taken", "held", {A: 1, B: 1}, claims=(claim(A, 1), claim(B, 1)), value=1, maxvalue=3),
    Case("all of it taken", "exhausted", {A: 2, B: 1}, claims=(claim(A, 2), claim(B, 1)), value=0, maxvalue=3),
    Case("none of it taken", "free", value=3, maxvalue=3),
    Case("some is lost", "held", {A: 1}, claims=(claim(A, 1),), value=1, maxvalue=3, reason="1 of 2 taken"),
    Case("all but one is lost", "exhausted", {A: 1}, claims=(claim(A, 1),), value=0, maxvalue=3, reason="2 of 3 taken"),
    Case("all taken is lost, some is left", "held", claims=NOBODY, value=2, maxvalue=3, reason="1 of 1 taken"),
    Case("all of it lost", "unknown", claims=NOBODY, value=0, maxvalue=3, suspect=True),
    Case(
        "some of it taken by who is blind",
        "unknown",
        {A: 1},
        claims=(claim(A, 1),),
        value=0,
        maxvalue=3,
        blind=(C,),
        reason="may hold it",
    ),
    # Semaphore(n): keeps no n
    Case("a Semaphore at rest", "free", value=3, maxvalue=SEM_VALUE_MAX, claims=NOBODY),
    Case(
        "a Semaphore with holders",
        "held",
        {A: 2, B: 1},
        claims=(claim(A, 2), claim(B, 1, 0x7F0000000100)),
        value=1,
        maxvalue=SEM_VALUE_MAX,
    ),
    Case("a Semaphore at 0", "exhausted", {A: 3}, claims=(claim(A, 3),), value=0, maxvalue=SEM_VALUE_MAX),
    Case("a Semaphore at 0 of nobody", "exhausted", claims=NOBODY, value=0, maxvalue=SEM_VALUE_MAX, reason="no claim"),
    # What could not be read
    Case("no value", "unknown", value=None, reason="could not be read"),
    Case("no object", "unknown", maxvalue=None, kind=None, reason="no process that maps it has a SemLock"),
    Case("no object, for one is blind", "unknown", maxvalue=None, kind=None, blind=(C,), reason=f"PID {C.pid}"),
    Case("in flux", "unknown", claims=(claim(A, 1),), steady=False, reason="in flux"),
]


def test_what_is_lost_is_counted_unless_counts_are_left_over() -> None:
    claims = (claim(A, 1), claim(B, 0))
    read = Reading(0, SEMAPHORE, 3, claims)
    verdict = judge(read, {})
    assert (verdict.lost, verdict.doubtful, verdict.suspect) == (2, True, False)
    assert verdict.reason == "2 of 3 taken are claimed by no living process"
    assert judge(replace(read, value=1), {}).reason == "1 of 2 taken is claimed by no living process"
    assert judge(read, {A: 1}).lost == 0, "what is left over from a fork may be counted wrongly"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_reading_gives_the_verdict(case: Case) -> None:
    read = Reading(case.value, case.kind, case.maxvalue, case.claims, case.blind, case.waiting, case.steady)
    verdict = judge(read, case.left_over)
    assert verdict.state == case.state, verdict
    assert {c.process: c.count for c in verdict.holders} == case.holders, verdict
    assert verdict.suspect == case.suspect
    if case.reason is None and not case.suspect:
        assert verdict.reason is None
    else:
        assert verdict.reason
        assert (case.reason or "") in verdict.reason


def test_every_unknown_has_its_reason() -> None:
    for case in CASES:
        read = Reading(case.value, case.kind, case.maxvalue, case.claims, case.blind, case.waiting, case.steady)
        verdict = judge(read, case.left_over)
        assert verdict.state != "unknown" or verdict.reason, case.name


def test_many_pids_in_a_reason_are_cut_short() -> None:
    blind = tuple(ProcessId(pid, 1) for pid in range(100, 164))
    verdict = judge(Reading(0, SEMAPHORE, 1, blind=blind), {})
    assert verdict.reason is not None
    assert "100, 101, 102, 103 and 60 more" in verdict.reason


def test_a_semaphores_claims_copied_by_a_fork_are_not_all_given_as_holders_without_a_word() -> None:
    """A master took one unit and forked two workers: one unit is gone, three processes claim it."""
    claims = (claim(MASTER, 1), claim(A, 1), claim(B, 1))
    verdict = judge(Reading(2, SEMAPHORE, SEM_VALUE_MAX, claims), {})
    assert verdict.reason or [c.process for c in verdict.holders] == [MASTER]


def test_a_semaphore_that_one_takes_and_another_gives_is_not_held_without_a_word() -> None:
    """Used as a signal: the producer releases, the consumer acquires; nobody holds anything."""
    verdict = judge(Reading(0, SEMAPHORE, SEM_VALUE_MAX, (claim(A, -5), claim(B, 5))), {})
    assert verdict.reason or not verdict.holders


_processes = st.sampled_from([MASTER, A, B, C])
_counts = st.integers(-3, 4)
_claims = st.dictionaries(
    _processes, st.tuples(_counts, st.sampled_from([0, THREAD, THREAD + 4096]), st.sampled_from([1, 10, 11, 12]))
)


@st.composite
def readings(draw: st.DrawFn) -> tuple[Reading, dict[ProcessId, int]]:
    claims = tuple(Claim(p, *rest) for p, rest in draw(_claims).items())
    claiming = {c.process for c in claims}
    blind = tuple(p for p in draw(st.sets(_processes)) if p not in claiming)
    read = Reading(
        value=draw(st.one_of(st.none(), st.integers(0, 5), st.just(SEM_VALUE_MAX), st.just(0xFFFFFFFF))),
        kind=draw(st.sampled_from([None, RECURSIVE_MUTEX, SEMAPHORE])),
        maxvalue=draw(st.one_of(st.none(), st.integers(1, 4), st.just(SEM_VALUE_MAX))),
        claims=claims,
        blind=blind,
        waiting=draw(st.booleans()),
        steady=draw(st.booleans()),
    )
    return read, draw(st.dictionaries(_processes, _counts))


@given(readings())
def test_judge_keeps_its_promises_for_every_reading(given_: tuple[Reading, dict[ProcessId, int]]) -> None:
    read, left_over = given_
    verdict = judge(read, left_over)
    assert verdict.state != "orphaned", "only the prover may say so"
    assert {c.process for c in verdict.holders} <= {c.process for c in read.claims}
    assert all(c.count > 0 for c in verdict.holders)
    assert verdict.state != "unknown" or verdict.reason
    assert judge(read, left_over) == verdict
    if verdict.state == "free":
        assert not verdict.holders
    if verdict.suspect:
        _assert_suspect(read)
    if read.maxvalue not in (None, SEM_VALUE_MAX) and verdict.state in ("held", "contended", "exhausted"):
        _assert_accounted(read, verdict.holders, verdict.reason)


def _assert_suspect(read: Reading) -> None:
    """Locked, read steadily, everyone asked, and every count zero."""
    assert read.value == 0
    assert read.steady
    assert not read.blind
    assert all(c.count == 0 for c in read.claims)


def _assert_accounted(read: Reading, holders: tuple[Claim, ...], reason: str | None) -> None:
    """As many units as were taken, or a reason that says how many are missing."""
    assert read.value is not None
    assert read.maxvalue is not None
    taken = read.maxvalue - read.value
    units = len(holders) if read.kind == RECURSIVE_MUTEX else sum(c.count for c in holders)
    assert units <= taken
    assert units == taken or reason
