"""Which waits of a snapshot become the wait graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.snapshots import BOOT, SERVER, pid, waiter, worker

from semtrace.model import (
    Doubt,
    ProcessId,
    Snapshot,
    Target,
    ThreadId,
    ThreadLock,
    ThreadLockUse,
    Wait,
    WaitKind,
    Wakers,
)
from semtrace.waits.build import wait_graph

PARENT, CHILD = pid(11), pid(99)


def wait(process: ProcessId, kind: WaitKind, *by: ProcessId, tid: int | None = None, **changes: Any) -> Wait:
    thread = ThreadId(process, tid or process.pid)
    return replace(Wait(thread, Target(kind, ""), False, Wakers((), by), asleep_s=60.0), **changes)


JOINS, WRITES = wait(PARENT, WaitKind.PROCESS_END, CHILD), wait(CHILD, WaitKind.PIPE_WRITE, PARENT)


def snapshot(*waits: Wait, **changes: Any) -> Snapshot:
    seen = Snapshot(SERVER, BOOT, 100.0, (worker(PARENT.pid),), (), blocked=waits, programs=frozenset([CHILD]))
    return replace(seen, **changes)


def test_program_of_which_each_thread_waits_is_stuck() -> None:
    second = wait(CHILD, WaitKind.PIPE_WRITE, PARENT, tid=100)
    assert wait_graph(snapshot(JOINS, WRITES)).stuck == {JOINS.thread, WRITES.thread}
    assert wait_graph(snapshot(JOINS, WRITES, second)).stuck == {JOINS.thread, WRITES.thread, second.thread}


@pytest.mark.parametrize(
    "seen",
    [
        snapshot(JOINS),
        snapshot(JOINS, WRITES, programs=frozenset()),
        snapshot(JOINS, replace(WRITES, asleep_s=0.2)),
        snapshot(JOINS, replace(WRITES, wakers=Wakers((), (PARENT,), Doubt.HANDLER))),
        snapshot(JOINS, replace(WRITES, wakers=Wakers((), (PARENT, pid(77))))),
        snapshot(JOINS, WRITES, wait(CHILD, WaitKind.PIPE_WRITE, PARENT, tid=100, asleep_s=0.2)),
    ],
    ids=["unexplained", "only in part", "awake", "handler", "another reader", "one thread awake"],
)
def test_program_that_may_go_on_stops_nobody(seen: Snapshot) -> None:
    assert not wait_graph(seen).stuck


def test_thread_of_a_manager_waits_for_its_client() -> None:
    """The private lock that it sleeps in says less, whether the lock has a name or not."""
    use = ThreadLockUse(PARENT, True, waiters=(waiter(PARENT.pid),), address=4096)
    target = Target(WaitKind.MANAGER_LOCK, "app.lock", process=PARENT, address=4096)
    managed = wait(PARENT, WaitKind.MANAGER_LOCK, CHILD, idle=True, target=target)
    found = wait_graph(snapshot(managed, thread_locks=(ThreadLock("app.lock", "Lock", (use,)),)))
    assert [each.target.kind for each in found.waits] == [WaitKind.MANAGER_LOCK]
