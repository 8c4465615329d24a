"""Verdicts where children matter: born while the locks are read, dead after they released, or with a copied count."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from support.targets import Target, observing, only, state, target, until, watch

from semtrace.model import Lock, SemId
from semtrace.observe.judge.prover import Judged
from semtrace.observe.observer import Observer


def holders(lock: Lock) -> list[int]:
    return [holder.pid for holder in lock.holders]


def certain(lock: Lock) -> list[int]:
    return [holder.pid for holder in lock.sure_holders]


# -- born while the locks are read


def before_looks(monkeypatch: pytest.MonkeyPatch, observer: Observer, act: Callable[[], object], times: int) -> None:
    """Have something done right before each of the next looks at a lock, after the processes were listed."""
    look_at, left = observer._judge_now, iter(range(times))

    def looking(semaphore: SemId) -> Judged:
        if next(left, None) is not None:
            act()
        return look_at(semaphore)

    monkeypatch.setattr(observer, "_judge_now", looking)


def born(t: Target, *commands: str, by: str = "a") -> Callable[[], None]:
    def act() -> None:
        name = f"c{len(t.pids)}"
        t.fork(name, by=by)
        for command in commands:
            t.do(name, command)

    return act


def test_newborn_child_that_released_and_took_is_not_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    with target() as t, observing(t.root) as observer:
        t.fork("a")
        t.do("a", "lock.acquire()")
        assert certain(state(observer, "held")) == [t.pids["a"]]
        before_looks(monkeypatch, observer, born(t, "lock.release()", "lock.acquire()"), times=1)
        assert certain(only(observer.snapshot())) == []


def test_newborn_child_that_does_nothing_leaves_the_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    with target() as t, observing(t.root) as observer:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        state(observer, "held")
        before_looks(monkeypatch, observer, born(t, by="b"), times=1)
        lock = only(observer.snapshot())
        assert (certain(lock), len(lock.mapped_by)) == ([t.pids["a"]], 4)


def test_newborn_child_with_a_unit_of_a_semaphore_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with target(made="lock = mp.Semaphore(3)") as t, observing(t.root) as observer:
        t.fork("a")
        state(observer, "free")
        before_looks(monkeypatch, observer, born(t, "lock.acquire()"), times=1)
        lock = only(observer.snapshot())
        assert (lock.state, holders(lock)) == ("held", [max(t.pids.values())])


OPENS = (
    "exec('import _multiprocessing; mine = _multiprocessing.SemLock._rebuild(-1, 1, 2147483647, {name}); "
    "mine.acquire()', GLOBALS)"
)


def test_process_that_just_opened_a_semaphore_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was started by spawn or a forkserver, and has just got its locks."""
    with target(made="lock = mp.get_context('spawn').Semaphore(3)") as t, observing(t.root) as observer:
        name = t.do("p", "lock._semlock.name").replace("'", '"')
        opener = t.start("spawn", "s")
        state(observer, "free")
        before_looks(monkeypatch, observer, lambda: t.do("s", OPENS.format(name=name)), times=1)
        lock = only(observer.snapshot())
        assert holders(lock) == [opener] or lock.state == "unknown"


def test_lock_whose_users_fork_in_every_sample_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    with target() as t, observing(t.root) as observer:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        state(observer, "held")
        before_looks(monkeypatch, observer, born(t, by="b"), times=10)
        lock = only(observer.snapshot())
        assert (lock.state, holders(lock)) == ("unknown", [])
        assert "forked in every sample" in (lock.reason or "")


# -- counts that were copied by a fork made while the lock was held


@contextlib.contextmanager
def heir(made: str = "lock = mp.Lock()") -> Iterator[Target]:
    """A target with an idle child `a` that has inherited a count, and children `b` and `c` without one."""
    with target(made=made) as t:
        t.do("p", "lock.acquire()")
        t.fork("a")
        t.do("p", "lock.release()")
        t.fork("b", "c")
        yield t


def test_acquire_of_another_clears_a_sleeping_heir() -> None:
    with heir() as t:
        t.do("b", "lock.acquire()")
        with observing(t.root) as observer:
            assert state(observer, "unknown", never="orphaned").reason
            t.do("b", "lock.release()")
            t.do("c", "lock.acquire()")
            lock = only(observer.snapshot())
            assert (lock.state, certain(lock), lock.reason) == ("held", [t.pids["c"]], None)
            t.kill("c")
            state(observer, "orphaned")


def test_acquire_of_another_clears_no_heir_that_ran() -> None:
    with heir() as t:
        t.do("b", "lock.acquire()")
        with observing(t.root) as observer:
            for taker, giver in (("c", "b"), ("b", "c")):
                state(observer, "unknown", never="orphaned")
                t.do(giver, "lock.release()")
                t.do("a", "[lock.acquire(), lock.release()]")
                t.do(taker, "lock.acquire()")
                lock = only(observer.snapshot())
                assert (lock.state, holders(lock)) == ("unknown", [])


def test_deeper_acquire_of_an_rlock_clears_no_heir() -> None:
    with heir("lock = mp.RLock()") as t:
        t.do("b", "lock.acquire()")
        with observing(t.root) as observer:
            for _ in range(3):
                assert holders(only(observer.snapshot())) == []
                t.do("b", "lock.acquire()")


def test_idle_heir_of_a_deep_rlock_is_never_a_holder() -> None:
    """Its count is the depth at which its parent had it."""
    with target(made="lock = mp.RLock()") as t:
        t.fork("w", "b")
        t.do("w", "[lock.acquire(), lock.acquire()]")
        t.fork("h", by="w")
        t.do("w", "[lock.release(), lock.release()]")
        with observing(t.root) as observer:
            for name in ("b", "w", "b"):
                t.do(name, "[lock.acquire(), lock.acquire()]")
                with observing(t.root) as fresh:
                    seen = [only(snapshot) for each in (observer, fresh) for snapshot in watch(each, 0.1)]
                assert all(holders(lock) in ([], [t.pids[name]]) for lock in seen)
                t.do(name, "[lock.release(), lock.release()]")
                state(observer, "free")


def test_heir_of_a_semaphore_is_cleared_once_all_units_return() -> None:
    with target(made="lock = mp.Semaphore(2)") as t, observing(t.root) as observer:
        id_ = state(observer, "free").id
        until(observer, lambda s: observer._baselines[id_].units == 2)
        t.do("p", "lock.acquire()")
        t.fork("a")
        t.do("p", "lock.release()")
        until(observer, lambda s: not holders(only(s)))
        t.fork("b")
        until(observer, lambda s: len(only(s).mapped_by) == 3)
        t.do("b", "lock.acquire()")
        lock = only(until(observer, lambda s: t.pids["b"] in holders(only(s))))
        assert (certain(lock), holders(lock), lock.reason) == ([t.pids["b"]], [t.pids["b"]], None)


def test_orphan_is_found_next_to_a_computing_heir() -> None:
    with heir() as t:
        t.start_doing("a", "[say('a', 'computing', 0), [sum(range(1000)) for _ in iter(int, 1)]]", "computing")
        with observing(t.root) as observer:
            id_ = state(observer, "free").id
            until(observer, lambda s: any(b.count and b.proven for b in observer._baselines[id_].known.values()))
            t.do("b", "lock.acquire()")
            assert certain(state(observer, "held")) == [t.pids["b"]]
            t.kill("b")
            state(observer, "orphaned")


# -- children that released for their parent and have ended


@contextlib.contextmanager
def settled(by_child: bool) -> Iterator[Target]:
    """A target whose child `a` has a count of 1 and a child that has ended; another has died with the lock, if that
    child had released it.
    """
    with target() as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.fork("c", by="a")
        if by_child:
            t.do("c", "lock.release()")
            t.do("b", "lock.acquire()")
        t.kill("c")
        t.kill("b")
        yield t


@pytest.mark.parametrize("by_child", [True, False])
@pytest.mark.parametrize("waited", [True, False])
def test_holder_whose_child_has_ended_is_not_certain(by_child: bool, waited: bool) -> None:
    """Nothing shows whether the child has released the lock for its parent."""
    with settled(by_child) as t:
        if waited:
            t.do("a", f"os.waitpid({t.pids['c']}, 0)")
        with observing(t.root) as observer:
            for lock in map(only, watch(observer, 0.3)):
                assert (lock.state, holders(lock), certain(lock)) == ("held", [t.pids["a"]], [])
                assert "child" in (lock.reason or "")


def test_holder_seen_without_it_since_its_child_ended_is_certain() -> None:
    with settled(by_child=False) as t:
        t.do("a", f"os.waitpid({t.pids['c']}, 0)")
        with observing(t.root) as observer:
            state(observer, "held")
            t.do("a", "lock.release()")
            t.do("p", "lock.acquire()")
            state(observer, "held")
            t.do("p", "lock.release()")
            t.do("a", "lock.acquire()")
            lock = only(until(observer, lambda s: holders(only(s)) == [t.pids["a"]]))
            assert (certain(lock), lock.reason) == ([t.pids["a"]], None)
