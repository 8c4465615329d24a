"""Locks that a living process may have dropped while it held them, as a Pool's parent does, and true orphans like them.

A Pool's parent acquires `_inqueue._rlock` to end the Pool and never gives it back. Workers that were forked before it
dropped the Pool map the lock alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.targets import FEW, UNLINKED, Target, observing, only, state, target, until, watch

from semtrace.linux.maps import SemaphoreMaps
from semtrace.model import FindingCode
from semtrace.observe.observer import Observer
from semtrace.observe.watch.watched import RELIST_S

# Which processes have the lock is the kernel's to say: the interpreter decides nothing here.
newest = pytest.mark.parametrize("python", list(FEW.values())[-1:], ids=list(FEW)[-1:])

DROP = "exec('import gc; del lock; gc.collect()', GLOBALS)"
TWICE_LISTED_S = 2 * RELIST_S + 0.5


@pytest.fixture(params=[True, False], ids=["root", "without rights"])
def times_shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the kernel shows when a semaphore was made: to root alone."""
    if not request.param:
        monkeypatch.setattr(SemaphoreMaps, "made_s", lambda self, address: None)
    return bool(request.param)


def drops(t: Target) -> None:
    """The first process drops the lock, held or not; its children keep it."""
    t.do("p", DROP)


def codes(observer: Observer) -> Iterator[FindingCode]:
    return (finding.code for finding in observer.snapshot().findings)


@newest
@pytest.mark.parametrize("children", ["a", "ab"], ids=["one child", "two children"])
def test_lock_that_its_living_maker_dropped_is_no_orphan(python: str, children: str, times_shown: bool) -> None:
    with target(python, UNLINKED) as t:
        t.fork(*children)
        t.do("p", "lock.acquire()")
        drops(t)
        with observing(t.root) as observer:
            until(observer, lambda s: only(s).state == "unknown" and not observer.undecided(), never="orphaned")
            assert {only(each).state for each in watch(observer, TWICE_LISTED_S, 0.1)} == {"unknown"}
            assert FindingCode.ORPHANED_LOCK not in codes(observer)


@newest
def test_lock_seen_in_its_makers_hands_is_no_orphan_later(python: str) -> None:
    with target(python, UNLINKED) as t:
        t.fork("a", "b")
        with observing(t.root) as observer:
            state(observer, "free")
            t.do("p", "lock.acquire()")
            state(observer, "held")
            watch(observer, TWICE_LISTED_S, 0.1)
            drops(t)
            until(observer, lambda s: only(s).state == "unknown" and not observer.undecided(), never="orphaned")
            assert {only(each).state for each in watch(observer, TWICE_LISTED_S, 0.1)} == {"unknown"}


@newest
def test_killed_workers_lock_that_its_maker_maps_is_orphaned(python: str) -> None:
    with target(python, UNLINKED) as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.kill("a")
        with observing(t.root) as observer:
            state(observer, "orphaned")
            assert FindingCode.ORPHANED_LOCK in codes(observer)


@newest
def test_dropped_lock_somebody_waits_for_is_reported(python: str) -> None:
    """Nobody can give it back, whoever took it."""
    with target(python, UNLINKED) as t:
        t.fork("a", "b")
        t.do("p", "lock.acquire()")
        drops(t)
        t.block("b", "lock")
        with observing(t.root) as observer:
            assert [waiter.pid for waiter in state(observer, "orphaned").waiters] == [t.pids["b"]]


@newest
@pytest.mark.parametrize("waits", [True, False], ids=["waiter", "no waiter"])
def test_child_killed_after_its_parent_dropped_is_reported(python: str, waits: bool) -> None:
    with target(python, UNLINKED) as t:
        t.fork("a", "b", "c")
        drops(t)
        with observing(t.root) as observer:
            state(observer, "free")
            watch(observer, TWICE_LISTED_S, 0.1)
            t.do("a", "lock.acquire()")
            state(observer, "held")
            if waits:
                t.block("b", "lock")
            t.kill("a")
            assert len(state(observer, "orphaned").waiters) == waits


@newest
def test_lock_of_a_childs_own_is_orphaned_by_its_child(python: str, times_shown: bool) -> None:
    """Its parent never had it."""
    with target(python, "None") as t:
        t.fork("a")
        t.do("a", f"exec({UNLINKED!r}, GLOBALS)")
        t.fork("c", by="a")
        t.do("c", "lock.acquire()")
        t.kill("c")
        with observing(t.root) as observer:
            state(observer, "orphaned")
