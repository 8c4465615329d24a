"""Stacks stay as long as their threads have not run, and no longer."""

from __future__ import annotations

from dataclasses import replace

from support.snapshots import USERS, holder, lock, snapshot, waiter

from semtrace.model import Frame, Snapshot
from semtrace.record.stackbook import StackBook


def at(now_s: float, stack: tuple[Frame, ...] | None, asleep_s: float | None) -> Snapshot:
    busy = lock(holders=(holder(11, stack=stack, asleep_s=asleep_s),), waiters=(waiter(12, 1.0),))
    return replace(snapshot(busy), monotonic_s=now_s)


def test_a_stack_stays_until_its_thread_has_run() -> None:
    book = StackBook()
    book.filled(at(100.0, USERS, 5.0))
    assert book.filled(at(101.0, None, 6.0)).locks[0].holders[0].stack == USERS
    assert book.filled(at(102.0, None, 7.0)).locks[0].holders[0].stack == USERS
    assert book.filled(at(103.0, None, 2.9)).locks[0].holders[0].stack is None
    assert book.filled(at(104.0, None, 9.0)).locks[0].holders[0].stack is None


def test_thread_that_may_have_run_since_has_no_stack() -> None:
    book = StackBook()
    book.filled(at(100.0, USERS, 5.0))
    found = book.filled(at(101.0, None, None)).locks[0]
    assert (found.holders[0].stack, found.waiters[0].stack) == (None, None)
