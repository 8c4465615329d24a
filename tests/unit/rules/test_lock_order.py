"""The rule lock-order: what it says of two orders, and when it says nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.snapshots import codes, found, holder, lock, pid, ref, waiter

from semtrace.model import SEM_VALUE_MAX, LockOrder, SemId, TakenInOrder, ThreadRef, Tracing
from semtrace.present.findings import evidence, name

A, B, GATE = (lock(each, number) for number, each in enumerate(("app.a", "app.b", "app.gate"), 1))
THERE = LockOrder(A.id, B.id, "/srv/app.py:10", "/srv/app.py:11", ((pid(11), 11),))
BACK = LockOrder(B.id, A.id, "/srv/app.py:20", "/srv/app.py:21", ((pid(12), 12),))


def orders(*told: LockOrder) -> Tracing:
    return Tracing(True, orders=told)


def through(*gates: SemId, **changes: Any) -> tuple[LockOrder, LockOrder]:
    return replace(THERE, also_held=frozenset(gates)), replace(BACK, also_held=frozenset(gates), **changes)


def test_both_sites_and_pids_are_the_evidence() -> None:
    for told in ((THERE, BACK), (BACK, THERE)):
        (finding,) = found(A, B, tracing=orders(*told))
        assert (finding.code, finding.severity, finding.lock, finding.pids) == ("lock-order", "warning", A.id, (11, 12))
        a, b = ref("app.a", 1), ref("app.b", 2)
        assert finding.locks == (a, b)
        assert finding.facts == (
            TakenInOrder(ThreadRef(pid(11), 11), a, "/srv/app.py:10", b, "/srv/app.py:11"),
            TakenInOrder(ThreadRef(pid(12), 12), b, "/srv/app.py:20", a, "/srv/app.py:21"),
        )


def test_each_pair_is_told_once_from_whatever_lines() -> None:
    again = replace(BACK, outer_site="/srv/other.py:1")
    assert codes(A, B, tracing=orders(THERE, BACK, again)) == ["lock-order"]


def test_two_pairs_with_a_lock_in_common_are_told_apart() -> None:
    other = replace(THERE, inner=GATE.id), replace(BACK, outer=GATE.id)
    pairs = found(A, B, GATE, tracing=orders(THERE, BACK, *other))
    assert len({each.key for each in pairs}) == 2
    assert [name(each) for each in pairs] == [
        "app.a, app.b",
        "app.a, app.gate",
    ]


@pytest.mark.parametrize("told", [(), (THERE,), (THERE, replace(THERE, outer_site="/srv/app.py:99"))])
def test_one_order_is_well(told: tuple[LockOrder, ...]) -> None:
    assert codes(A, B, tracing=orders(*told)) == []


def test_two_orders_need_two_threads() -> None:
    alone = replace(BACK, threads=THERE.threads)
    assert codes(A, B, tracing=orders(THERE, alone)) == []
    assert codes(A, B, tracing=orders(THERE, replace(alone, threads=(*THERE.threads, (pid(11), 99))))) == ["lock-order"]


def test_a_lock_held_around_both_makes_it_harmless() -> None:
    assert codes(A, B, GATE, tracing=orders(*through(GATE.id))) == []
    assert codes(A, B, tracing=orders(*through(GATE.id))) == [], "one that is not in the picture"
    assert codes(A, B, replace(GATE, maximum=SEM_VALUE_MAX), tracing=orders(*through(GATE.id))) == []


def test_gate_must_cover_both_orders_and_admit_one() -> None:
    gated, open_ = through(GATE.id)[0], BACK
    assert codes(A, B, GATE, tracing=orders(gated, open_)) == ["lock-order"]
    assert codes(A, B, replace(GATE, maximum=4), tracing=orders(*through(GATE.id))) == ["lock-order"]
    assert codes(A, B, GATE, tracing=orders(*through(GATE.id), BACK)) == ["lock-order"], "once without it"


@pytest.mark.parametrize("changes", [{"maximum": 3}, {"signal": True}, {"maximum": None}, {"maximum": SEM_VALUE_MAX}])
def test_only_what_lets_one_in_is_waited_for_like_that(changes: dict[str, Any]) -> None:
    assert codes(A, replace(B, **changes), tracing=orders(THERE, BACK)) == []


def test_a_lock_that_is_gone_is_not_spoken_of() -> None:
    assert codes(A, tracing=orders(THERE, BACK)) == []


def test_deadlock_replaces_its_lock_order() -> None:
    first = lock("app.a", 1, holders=(holder(11),), waiters=(waiter(12),))
    second = lock("app.b", 2, holders=(holder(12),), waiters=(waiter(11),))
    assert codes(first, second, tracing=orders(THERE, BACK)) == ["deadlock"]


def test_hostile_lines_cannot_write_to_the_terminal() -> None:
    (finding,) = found(A, B, tracing=orders(replace(THERE, inner_site="/srv/\x1b[2J\n.py:1"), BACK))
    assert all(line.isprintable() for line in evidence(finding))
