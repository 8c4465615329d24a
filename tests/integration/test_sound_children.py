"""Verdicts where children matter: born while the locks are read, dead after they released, or with a copied count."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driving import Target, observing, only, state, target

from semtrace.model import Lock, SemId
from semtrace.observe.observer import Observer
from semtrace.observe.prover import Judged


def holders(lock: Lock) -> list[int]:
    return [holder.pid for holder in lock.holders]


def certain(lock: Lock) -> list[int]:
    return [holder.pid for holder in lock.sure_holders]


# -- born while the locks are read


def before_looks(monkeypatch: pytest.MonkeyPatch, observer: Observer, act: Callable[[], object], times: int) -> None:
    """Have something done right before each of the next looks at a lock, after the processes were listed."""
    look_at, left = observer._look_at, iter(range(times))

    def looking(semaphore: SemId) -> Judged:
        if next(left, None) is not None:
            act()
        return look_at(semaphore)

    monkeypatch.setattr(observer, "_look_at", looking)


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


def test_lock_whose_users_fork_in_every_sample_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    with target() as t, observing(t.root) as observer:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        state(observer, "held")
        before_looks(monkeypatch, observer, born(t, by="b"), times=10)
        lock = only(observer.snapshot())
        assert (lock.state, holders(lock)) == ("unknown", [])
        assert "forked in every sample" in (lock.reason or "")
