"""The verdict on one reading: a table of what was read and what follows from it, and what must never follow."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.model import RECURSIVE_MUTEX, SEM_VALUE_MAX, SEMAPHORE, ProcessId
from semtrace.observe.evidence.verdict import Baseline, Claim, Reading, Verdict, judge

MASTER, A, B, C = (ProcessId(pid, 1000) for pid in (10, 11, 12, 13))
THREAD = 0x7F0000000700


def claim(process: ProcessId, count: int, last_tid: int = THREAD, parent: int = MASTER.pid) -> Claim:
    """The master began with an exec; the others are forks."""
    return Claim(process, count, last_tid, parent if process != MASTER else 1, forked=process != MASTER)


def at_rest(**counts: int) -> dict[ProcessId, Baseline]:
    """Proven baselines of A, B, C and the master M."""
    names = {"M": MASTER, "A": A, "B": B, "C": C}
    return {names[name]: Baseline(count, True, THREAD) for name, count in counts.items()}


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
    known: dict[ProcessId, Baseline] = field(default_factory=dict)
    exact: tuple[ProcessId, ...] = ()
    all_wait: tuple[ProcessId, ...] = ()
    doubted: tuple[ProcessId, ...] = ()
    reason: str | None = None
    suspect: bool = False

    def judge(self) -> Verdict:
        read = Reading(
            self.value,
            self.kind,
            self.maxvalue,
            self.claims,
            self.blind,
            self.waiting,
            self.steady,
            frozenset(self.exact),
            frozenset(self.all_wait),
        )
        return judge(read, self.known)


NOBODY = (claim(MASTER, 0, 0), claim(A, 0, 0), claim(B, 0, 0))
NEVER_TOOK = claim(MASTER, 0, 0)
TOOK_ONCE = claim(MASTER, 0)

CASES = [
    # A lock
    Case("free", "free", value=1, claims=NOBODY),
    Case("held", "held", {A: 1}, claims=(NEVER_TOOK, claim(A, 1), claim(B, 0))),
    Case("held by the master", "held", {MASTER: 1}, claims=(claim(MASTER, 1), claim(A, 0))),
    Case("held and waited for", "contended", {A: 1}, claims=(NEVER_TOOK, claim(A, 1), claim(B, 0)), waiting=True),
    Case("free and still waited for", "free", value=1, waiting=True),
    Case("above its maximum", "free", value=2, reason="above its maximum"),
    # Who may only have inherited its count
    Case(
        "held by a child whose parent took it at some time",
        "held",
        {A: 1},
        claims=(TOOK_ONCE, claim(A, 1)),
        doubted=(A,),
        reason="may only have inherited",
    ),
    Case(
        "held by a child whose parent is gone",
        "held",
        {A: 1},
        claims=(claim(A, 1), claim(B, 0)),
        doubted=(A,),
        reason="may only have inherited",
    ),
    Case("held by a child that was seen at 0", "held", {A: 1}, claims=(TOOK_ONCE, claim(A, 1)), known=at_rest(A=0)),
    Case(
        "an inherited count and an orphan",
        "unknown",
        claims=(TOOK_ONCE, claim(A, 1)),
        known=at_rest(A=1),
        suspect=True,
    ),
    Case(
        "the same, where the inherited count is only assumed",
        "unknown",
        claims=(TOOK_ONCE, claim(A, 1)),
        known={A: Baseline(1, False, THREAD)},
        reason="left over",
    ),
    # Too many claims: a parent and its child
    Case(
        "the parent's hold and what its child inherited, or took for it",
        "unknown",
        claims=(claim(MASTER, 1), claim(A, 1)),
        exact=(MASTER, A),
        reason="ambiguous",
    ),
    Case(
        "the same, where the child waits for it",
        "held",
        {MASTER: 1},
        claims=(claim(MASTER, 1), claim(A, 1), claim(B, 1)),
        all_wait=(A, B),
        doubted=(MASTER,),
        reason="inherited",
    ),
    Case(
        "the same, where one of two children does not wait",
        "unknown",
        claims=(claim(MASTER, 1), claim(A, 1), claim(B, 1)),
        all_wait=(A,),
        reason="ambiguous",
    ),
    Case(
        "the parent is still counting down while its child has it",
        "held",
        {A: 1},
        claims=(claim(MASTER, 1), claim(A, 1)),
        known=at_rest(A=0),
        exact=(A,),
    ),
    Case(
        "the child is still counting down while its parent has it, or took it after releasing it for its parent",
        "unknown",
        claims=(claim(MASTER, 1), claim(A, 1)),
        known=at_rest(A=0),
        exact=(MASTER,),
        reason="ambiguous",
    ),
    Case(
        "one worker is still counting down while another has it",
        "held",
        {A: 1},
        claims=(TOOK_ONCE, claim(A, 1), claim(B, 1)),
        known=at_rest(A=0, B=0),
        exact=(A,),
    ),
    Case(
        "the same, where the other may be a child of its child",
        "unknown",
        claims=(TOOK_ONCE, claim(A, 1), claim(B, 0, parent=A.pid), claim(C, 1, parent=B.pid)),
        known=at_rest(A=0, B=0, C=0),
        exact=(A,),
        reason="ambiguous",
    ),
    Case(
        "the same, where it is not known who forked the other",
        "unknown",
        claims=(TOOK_ONCE, claim(A, 1), claim(B, 1, parent=0)),
        known=at_rest(A=0, B=0),
        exact=(A,),
        reason="ambiguous",
    ),
    Case(
        "both may be counting down",
        "unknown",
        claims=(claim(MASTER, 1), claim(A, 1)),
        known=at_rest(A=0),
        reason="ambiguous",
    ),
    Case(
        "a child took what its parent had released for another, or the other way round",
        "unknown",
        claims=(claim(MASTER, 1), claim(A, 1)),
        known=at_rest(A=0),
        exact=(MASTER, A),
        reason="ambiguous",
    ),
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
        "inherited counts that are known do not count",
        "held",
        {A: 1},
        claims=(claim(MASTER, 0), claim(A, 2), claim(B, 1)),
        known=at_rest(A=1, B=1),
    ),
    Case(
        "nothing but inherited counts that are known: whoever had it is gone",
        "unknown",
        claims=(claim(A, 1), claim(B, 1)),
        known=at_rest(A=1, B=1),
        suspect=True,
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
        known=at_rest(A=1, B=-1),
        reason="release what others took",
    ),
    Case(
        "taken again by the one who had released",
        "held",
        {B: 1},
        claims=(claim(A, 1), claim(B, 0)),
        known=at_rest(A=1, B=-1),
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
    Case("one is blind but the holder is known", "held", {A: 1}, claims=(NEVER_TOOK, claim(A, 1)), blind=(C,)),
    # RLock: its count is its depth
    Case("a deep RLock", "held", {A: 3}, claims=(NEVER_TOOK, claim(A, 3), claim(B, 0)), kind=RECURSIVE_MUTEX),
    Case("a free RLock", "free", value=1, kind=RECURSIVE_MUTEX),
    Case(
        "a deep RLock inherited",
        "unknown",
        claims=(claim(MASTER, 2), claim(A, 2)),
        kind=RECURSIVE_MUTEX,
        reason="ambiguous",
    ),
    Case(
        "one who inherited an RLock only counts on when it takes it",
        "held",
        {MASTER: 1},
        claims=(claim(MASTER, 1), claim(A, 3)),
        kind=RECURSIVE_MUTEX,
        known=at_rest(M=0, A=1),
    ),
    Case(
        "another thread of such a process takes it",
        "held",
        {A: 1},
        claims=(claim(MASTER, 0), claim(A, 2, 0x7F0000000100)),
        kind=RECURSIVE_MUTEX,
        known=at_rest(M=0, A=1),
    ),
    Case("an RLock of nobody", "unknown", claims=NOBODY, kind=RECURSIVE_MUTEX, suspect=True),
    # a BoundedSemaphore of three units
    Case("some of it taken", "held", {A: 1, B: 1}, claims=(NEVER_TOOK, claim(A, 1), claim(B, 1)), value=1, maxvalue=3),
    Case(
        "all of it taken",
        "exhausted",
        {A: 2, B: 1},
        claims=(NEVER_TOOK, claim(A, 2), claim(B, 1)),
        value=0,
        maxvalue=3,
    ),
    Case(
        "two units are claimed and one is taken",
        "unknown",
        claims=(claim(MASTER, 1), claim(A, 1)),
        value=1,
        maxvalue=2,
        reason="ambiguous",
    ),
    Case("none of it taken", "free", value=3, maxvalue=3),
    Case("some is lost", "held", {A: 1}, claims=(NEVER_TOOK, claim(A, 1)), value=1, maxvalue=3, reason="1 of 2 taken"),
    Case(
        "all but one is lost",
        "exhausted",
        {A: 1},
        claims=(NEVER_TOOK, claim(A, 1)),
        value=0,
        maxvalue=3,
        reason="2 of 3 taken",
    ),
    Case("all taken is lost, some is left", "held", claims=NOBODY, value=2, maxvalue=3, reason="1 of 1 taken"),
    Case("all of it lost", "unknown", claims=NOBODY, value=0, maxvalue=3, suspect=True),
    Case(
        "some of it taken by who is blind",
        "unknown",
        {A: 1},
        claims=(NEVER_TOOK, claim(A, 1)),
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
        claims=(NEVER_TOOK, claim(A, 2), claim(B, 1, 0x7F0000000100)),
        value=1,
        maxvalue=SEM_VALUE_MAX,
    ),
    Case("a Semaphore at 0", "exhausted", {A: 3}, claims=(NEVER_TOOK, claim(A, 3)), value=0, maxvalue=SEM_VALUE_MAX),
    Case(
        "a Semaphore at 0 of nobody",
        "exhausted",
        claims=NOBODY,
        value=0,
        maxvalue=SEM_VALUE_MAX,
        reason="no living process claims one",
    ),
    Case(
        "a Semaphore of which parent and child each hold a unit, as far as counts tell",
        "held",
        {MASTER: 1, A: 1},
        claims=(claim(MASTER, 1), claim(A, 1)),
        value=2,
        maxvalue=SEM_VALUE_MAX,
        doubted=(A,),
        reason="may only have inherited",
    ),
    Case(
        "the same, where the child was seen at 0",
        "held",
        {MASTER: 1, A: 1},
        claims=(claim(MASTER, 1), claim(A, 1)),
        value=2,
        maxvalue=SEM_VALUE_MAX,
        known=at_rest(A=0),
    ),
    Case(
        "an inherited count of a Semaphore that is known",
        "free",
        claims=(claim(MASTER, 0), claim(A, 1)),
        value=2,
        maxvalue=SEM_VALUE_MAX,
        known=at_rest(A=1),
    ),
    Case(
        "a Semaphore at 0 and one is blind",
        "unknown",
        claims=NOBODY,
        value=0,
        maxvalue=SEM_VALUE_MAX,
        blind=(C,),
        reason="cannot be read and may hold it",
    ),
    # What could not be read
    Case("no value", "unknown", value=None, reason="could not be read"),
    Case("no object", "unknown", maxvalue=None, kind=None, reason="no process that maps it has a SemLock"),
    Case("no object, for one is blind", "unknown", maxvalue=None, kind=None, blind=(C,), reason=f"PID {C.pid}"),
    Case("in flux", "unknown", claims=(claim(A, 1),), steady=False, reason="in flux"),
]


def test_what_is_lost_is_counted_unless_counts_are_left_over() -> None:
    claims = (NEVER_TOOK, claim(A, 1), claim(B, 0))
    read = Reading(0, SEMAPHORE, 3, claims)
    verdict = judge(read, {})
    assert (verdict.lost, verdict.doubtful, verdict.suspect) == (2, True, False)
    assert verdict.reason == "2 of 3 taken are claimed by no living process"
    assert judge(replace(read, value=1), {}).reason == "1 of 2 taken is claimed by no living process"
    assert judge(read, {A: Baseline(1, False)}).lost == 0, "what is only assumed may be wrong"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_reading_gives_the_verdict(case: Case) -> None:
    verdict = case.judge()
    assert verdict.state == case.state, verdict
    assert {c.process: c.count for c in verdict.holders} == case.holders, verdict
    assert verdict.suspect == case.suspect
    assert tuple(c.process for c in verdict.holders if not c.certain) == case.doubted
    if case.reason is None and not case.suspect:
        assert verdict.reason is None
    else:
        assert verdict.reason
        assert (case.reason or "") in verdict.reason


def test_every_unknown_has_its_reason() -> None:
    for case in CASES:
        verdict = case.judge()
        assert verdict.state != "unknown" or verdict.reason, case.name


def test_search_in_progress_is_not_mistaken_for_foreign_code() -> None:
    searched = judge(Reading(1, None, None), {})
    searching = judge(Reading(1, None, None, searching=True), {})
    assert (searched.state, searching.state) == ("unknown", "unknown")
    assert searched.reason != searching.reason


def test_many_pids_in_a_reason_are_cut_short() -> None:
    blind = tuple(ProcessId(pid, 1) for pid in range(100, 164))
    verdict = judge(Reading(0, SEMAPHORE, 1, blind=blind), {})
    assert verdict.reason is not None
    assert "100, 101, 102, 103 and 60 more" in verdict.reason


def test_semaphore_claims_copied_by_a_fork_are_qualified_or_dropped() -> None:
    """A master took one unit and forked two workers: one unit is gone, three processes claim it."""
    claims = (claim(MASTER, 1), claim(A, 1), claim(B, 1))
    verdict = judge(Reading(2, SEMAPHORE, SEM_VALUE_MAX, claims), {})
    assert verdict.reason or [c.process for c in verdict.holders] == [MASTER]


def test_semaphore_used_as_a_signal_has_no_unqualified_holder() -> None:
    """Used as a signal: the producer releases, the consumer acquires; nobody holds anything."""
    verdict = judge(Reading(0, SEMAPHORE, SEM_VALUE_MAX, (claim(A, -5), claim(B, 5))), {})
    assert verdict.reason or not verdict.holders


_processes = st.sampled_from([MASTER, A, B, C])
_counts = st.integers(-3, 4)
_claims = st.dictionaries(
    _processes, st.tuples(_counts, st.sampled_from([0, THREAD, THREAD + 4096]), st.sampled_from([1, 10, 11, 12]))
)


@st.composite
def readings(draw: st.DrawFn) -> tuple[Reading, dict[ProcessId, Baseline]]:
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
    return read, draw(st.dictionaries(_processes, st.builds(Baseline, _counts, st.booleans(), st.just(THREAD))))


@given(readings())
def test_judge_keeps_its_promises_for_every_reading(given_: tuple[Reading, dict[ProcessId, Baseline]]) -> None:
    read, known = given_
    verdict = judge(read, known)
    assert verdict.state != "orphaned", "only the prover may say so"
    assert {c.process for c in verdict.holders} <= {c.process for c in read.claims}
    assert all(c.count > 0 for c in verdict.holders)
    assert verdict.state != "unknown" or verdict.reason
    assert judge(read, known) == verdict
    assert verdict.reason or all(c.certain for c in verdict.holders)
    if verdict.state == "free":
        assert not verdict.holders
    if verdict.suspect:
        _assert_suspect(read, known)
    if read.maxvalue not in (None, SEM_VALUE_MAX) and verdict.state in ("held", "contended", "exhausted"):
        _assert_accounted(read, verdict.holders, verdict.reason)


def _assert_suspect(read: Reading, known: dict[ProcessId, Baseline]) -> None:
    """Locked, read steadily, everyone asked, and no count above a proven baseline."""
    assert read.value == 0
    assert read.steady
    assert not read.blind
    assert all(c.count == 0 or known[c.process].proven for c in read.claims)


def _assert_accounted(read: Reading, holders: tuple[Claim, ...], reason: str | None) -> None:
    """As many units as were taken, or a reason that says how many are missing."""
    assert read.value is not None
    assert read.maxvalue is not None
    taken = read.maxvalue - read.value
    units = len(holders) if read.kind == RECURSIVE_MUTEX else sum(c.count for c in holders)
    assert units <= taken
    assert units == taken or reason
