"""Ordinary programs that gave wrong verdicts, each step by step, with the healthy program that is its mirror image."""

from __future__ import annotations

import os
import signal

import pytest
from support.targets import FEW, Target, observing, only, state, target, until, watch

from semtrace.model import Lock, SemId, Snapshot
from semtrace.observe.observer import settle
from semtrace.observe.watch import watched

few = pytest.mark.parametrize("python", FEW.values(), ids=FEW.keys())

DROP_AND_MAKE = "exec('import gc; del lock; gc.collect(); lock = mp.Lock()', GLOBALS)"


def holders(lock: Lock) -> list[int]:
    return [holder.pid for holder in lock.holders]


def certain(lock: Lock) -> list[int]:
    return [holder.pid for holder in lock.holders if holder.certain]


# -- A: a lock that is dropped leaves its address to the next one


@pytest.fixture
def never_relisted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a change of size, or a doubt, has the mappings listed again."""
    monkeypatch.setattr(watched, "RELIST_S", 3600.0)


def two_locks_at_one_address(t: Target, name: str) -> None:
    """The process drops its lock and makes another, which the kernel maps at the same place."""
    before = t.do(name, "lock._semlock.handle")
    t.do(name, DROP_AND_MAKE)
    assert t.do(name, "lock._semlock.handle") == before


def by_id(snapshot: Snapshot) -> dict[SemId, Lock]:
    return {lock.id: lock for lock in snapshot.locks}


@few
def test_free_lock_is_not_read_from_the_next_ones_memory(python: str, never_relisted: None) -> None:
    with target(python) as t:
        t.fork("a")
        with observing(t.root) as observer:
            first = state(observer, "free").id
            two_locks_at_one_address(t, "p")
            t.do("p", "lock.acquire()")
            for snapshot in watch(observer, 0.5):
                lock = by_id(snapshot)[first]
                assert (lock.state, holders(lock)) == ("free", [])
                assert {p.pid for p in lock.mapped_by} == {t.pids["a"]}


@few
def test_held_lock_is_not_read_from_the_next_ones_memory(python: str, never_relisted: None) -> None:
    with target(python) as t:
        t.fork("a")
        t.do("a", "lock.acquire()")
        with observing(t.root) as observer:
            first = state(observer, "held").id
            two_locks_at_one_address(t, "p")
            for snapshot in watch(observer, 0.5):
                lock = by_id(snapshot)[first]
                assert (lock.state, holders(lock)) == ("held", [t.pids["a"]])
            t.do("a", "lock.release()")
            assert by_id(until(observer, lambda s: by_id(s)[first].state == "free"))[first].reason is None


@few
def test_claim_on_a_lock_reusing_an_address_spares_the_first(python: str, never_relisted: None) -> None:
    """The new SemLock object lies where the old one did; the first lock is taken by another process."""
    with target(python) as t:
        t.fork("a", "b")
        with observing(t.root) as observer:
            first = state(observer, "free").id
            two_locks_at_one_address(t, "b")
            t.do("b", "lock.acquire()")
            t.do("a", "lock.acquire()")
            for snapshot in watch(observer, 0.5):
                assert holders(by_id(snapshot)[first]) == [t.pids["a"]]


@few
def test_waiter_for_a_lock_reusing_an_address_spares_the_first(python: str, never_relisted: None) -> None:
    with target(python) as t:
        t.fork("a", "b")
        with observing(t.root) as observer:
            first = state(observer, "free").id
            two_locks_at_one_address(t, "b")
            t.thread("b2", by="b")
            t.do("b", "lock.acquire()")
            t.block("b2", "lock")
            t.do("a", "lock.acquire()")
            t.thread("a2", by="a")
            t.block("a2", "lock")
            for snapshot in watch(observer, 0.3):
                assert [w.pid for w in by_id(snapshot)[first].waiters] == [t.pids["a"]]


@few
def test_lock_for_each_job_is_right_in_every_sample(python: str) -> None:
    with target(python) as t:
        t.fork("a")
        with observing(t.root) as observer:
            first = state(observer, "free").id
            for _ in range(20):
                two_locks_at_one_address(t, "p")
                t.do("p", "lock.acquire()")
                snapshot = observer.snapshot()
                assert by_id(snapshot)[first].state == "free"
                for lock in snapshot.locks:
                    assert lock.state in ("free", "held", "unknown")
                    assert holders(lock) in ([], [t.root])
                t.do("p", "lock.release()")


# -- B: parent and child share a lock


@few
def test_child_that_may_have_reacquired_makes_the_holder_unknown(python: str) -> None:
    """Both have the same count and thread: nothing tells this from a parent that holds it and an idle child."""
    with target(python) as t:
        t.do("p", "lock.acquire()")
        t.fork("a")
        t.do("a", "lock.release()")
        t.do("a", "lock.acquire()")
        with observing(t.root) as observer:
            for snapshot in watch(observer, 0.5):
                lock = only(snapshot)
                assert (lock.state, holders(lock)) == ("unknown", [])
                assert lock.reason
                assert str(t.root) in lock.reason
                assert str(t.pids["a"]) in lock.reason


@few
def test_parent_that_took_it_after_the_fork_holds_it(python: str) -> None:
    with target(python) as t:
        t.fork("a")
        t.do("a", "[lock.acquire(), lock.release()]")
        t.do("p", "lock.acquire()")
        with observing(t.root) as observer:
            for snapshot in watch(observer, 0.3):
                assert certain(only(snapshot)) == [t.root]


@few
def test_child_that_holds_a_lock_its_parent_shares_is_found(python: str) -> None:
    with target(python) as t:
        t.fork("a")
        with observing(t.root) as observer:
            state(observer, "free")
            for _ in range(5):
                t.do("p", "[lock.acquire(), lock.release()]")
                t.do("a", "lock.acquire()")
                assert certain(state(observer, "held")) == [t.pids["a"]]
                assert not any(holders(only(s)) != [t.pids["a"]] for s in watch(observer, 0.1))
                t.do("a", "lock.release()")
                t.do("p", "lock.acquire()")
                assert certain(state(observer, "held")) == [t.root]
                t.do("p", "lock.release()")


@few
def test_children_waiting_for_an_inherited_lock_imply_the_parents_hold(python: str) -> None:
    """They would have had to release it, take it and then wait for it themselves; the verdict is qualified."""
    with target(python) as t:
        t.do("p", "lock.acquire()")
        t.fork("a", "b")
        t.block("a", "lock")
        t.block("b", "lock")
        with observing(t.root) as observer:
            lock = state(observer, "contended")
            assert holders(lock) == [t.root]
            assert certain(lock) == []
            assert lock.reason


@few
def test_stopped_between_post_and_decrement_is_not_learned(python: str) -> None:
    """Two busy processes, one of them stopped again and again: whatever is said of holders is true afterwards."""
    with target(python) as t:
        t.fork("a")
        t.start_doing(
            "a", "[say('a', 'computing', 0), [(lock.acquire(), lock.release()) for _ in iter(int, 1)]]", "computing"
        )
        with observing(t.root) as observer:
            for _ in range(60):
                os.kill(t.pids["a"], signal.SIGSTOP)
                observer.snapshot()
                os.kill(t.pids["a"], signal.SIGCONT)
            t.kill("a")
            if only(settle(observer)).state == "free":
                t.fork("b")
                t.do("b", "lock.acquire()")
                assert certain(state(observer, "held")) == [t.pids["b"]]


@few
def test_worker_whose_child_released_for_it_is_no_certain_holder(python: str) -> None:
    """A worker takes the lock for a child, which gives it back and ends; another worker takes it and sleeps inside."""
    with target(python) as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.fork("c", by="a")
        t.do("c", "lock.release()")
        t.kill("c")
        t.do("b", "lock.acquire()")
        with observing(t.root) as observer:
            for snapshot in watch(observer, 0.4):
                lock = only(snapshot)
                assert (lock.state, holders(lock)) == ("unknown", [])
                assert str(t.pids["b"]) in (lock.reason or "")


# -- C: semaphores


@few
def test_semaphore_that_children_give_back_has_no_holders(python: str) -> None:
    """The usual way to limit jobs: the parent takes a place for each child, which gives it back at its end."""
    with target(python, "lock = mp.Semaphore(4)") as t, observing(t.root) as observer:
        state(observer, "free")
        for name in ("a", "b", "c"):
            t.do("p", "lock.acquire()")
            t.start("fork", name)
            t.do(name, "lock.release()")
            until(observer, lambda s: not only(s).holders)
        assert not any(only(s).holders for s in watch(observer, 0.2))


@few
def test_thread_that_holds_a_unit_is_not_named_wrongly(python: str) -> None:
    with target(python, "lock = mp.BoundedSemaphore(3)") as t:
        t.fork("a")
        t.thread("a2", by="a")
        t.do("a", "lock.acquire()")
        t.do("a2", "[lock.acquire(), lock.release()]")
        with observing(t.root) as observer:
            (holder,) = state(observer, "held").holders
            assert (holder.pid, holder.tid) == (t.pids["a"], None)


@few
def test_parent_and_child_each_holding_a_unit_are_both_shown(python: str) -> None:
    with target(python, "lock = mp.Semaphore(3)") as t:
        t.fork("a")
        t.do("p", "lock.acquire()")
        t.do("a", "lock.acquire()")
        with observing(t.root) as observer:
            for snapshot in watch(observer, 0.3):
                assert sorted(holders(only(snapshot))) == sorted([t.root, t.pids["a"]])


@few
def test_both_are_certain_once_the_child_was_seen_with_none(python: str) -> None:
    with target(python, "lock = mp.Semaphore(3)") as t:
        t.fork("a")
        t.do("p", "lock.acquire()")
        with observing(t.root) as observer:
            state(observer, "held")
            t.do("a", "lock.acquire()")
            lock = only(until(observer, lambda s: len(holders(only(s))) == 2))
            assert sorted(certain(lock)) == sorted([t.root, t.pids["a"]])
            assert lock.reason is None


@few
def test_inherited_count_of_a_semaphore_is_never_certain(python: str) -> None:
    with target(python, "lock = mp.Semaphore(2)") as t:
        t.do("p", "lock.acquire()")
        t.fork("a")
        t.do("p", "lock.release()")
        with observing(t.root) as observer:
            for snapshot in watch(observer, 0.5):
                lock = only(snapshot)
                assert lock.value == 2
                assert certain(lock) == []
                assert lock.reason or not holders(lock)


# -- D: a process that cannot be read


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")
@few
def test_semaphore_whose_holder_cannot_be_read_is_unknown(python: str) -> None:
    with target(python, "lock = mp.Semaphore(1)") as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.do("b", "lock.acquire(False)")
        with observing(t.root) as observer:
            state(observer, "exhausted")
            hide(observer, t.pids["a"])
            for snapshot in watch(observer, 0.3):
                lock = only(snapshot)
                assert lock.state == "unknown"
                assert str(t.pids["a"]) in (lock.reason or "")


def hide(observer: object, pid: int) -> None:
    """As for a process of another user: its memory is closed to us."""
    for each in observer._fleet.all:  # type: ignore[attr-defined]
        if each.id.pid == pid:
            each.memory.close()
            each.memory = None


# -- E: an inherited count that hides an orphan


@few
def test_stale_count_of_an_idle_child_is_no_certain_holder(python: str) -> None:
    """Its parent held the lock at the fork and gave it back; then another took it and was killed."""
    with target(python) as t:
        t.do("p", "lock.acquire()")
        t.fork("a")
        t.do("p", "lock.release()")
        t.fork("b")
        t.do("b", "lock.acquire()")
        t.kill("b")
        with observing(t.root) as observer:
            for snapshot in watch(observer, 0.5):
                lock = only(snapshot)
                assert lock.state != "orphaned", "nothing shows that the child does not hold it"
                assert certain(lock) == []
                assert lock.reason


@few
def test_orphan_is_found_after_a_stale_count_sampled_while_free(python: str) -> None:
    with target(python) as t:
        t.do("p", "lock.acquire()")
        t.fork("a")
        t.do("p", "lock.release()")
        with observing(t.root) as observer:
            state(observer, "free")
            watch(observer, 0.8, 0.1)
            t.fork("b")
            t.do("b", "lock.acquire()")
            assert holders(state(observer, "held")) == [t.pids["b"]]
            t.kill("b")
            state(observer, "orphaned")


@few
def test_adopted_daemon_with_an_inherited_count_is_no_certain_holder(python: str) -> None:
    """The master adopts orphans; the true holder was the daemon's parent, which was killed."""
    with target(python) as t:
        t.do("p", "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)")  # PR_SET_CHILD_SUBREAPER
        t.fork("a")
        t.do("a", "lock.acquire()")
        t.fork("d", by="a")
        t.do("d", "os.setsid()")
        t.kill("a")
        with observing(t.root) as observer:
            for snapshot in watch(observer, 0.4):
                assert certain(only(snapshot)) == []
                assert only(snapshot).reason


@few
def test_worker_is_a_certain_holder_if_its_master_never_acquired(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        with observing(t.root) as observer:
            lock = only(observer.snapshot())
            assert (lock.state, certain(lock), lock.reason) == ("held", [t.pids["a"]], None)
