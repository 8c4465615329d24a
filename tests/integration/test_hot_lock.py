"""A lock that changes hands all the time, sampled many times: not one wrong "orphaned", no holder who cannot be."""

from __future__ import annotations

import itertools
import time
from collections import Counter

import pytest
from support import PATIENCE_S
from support.targets import FEW, Target, observing, only, target

from semtrace.model import Snapshot
from semtrace.observe.observer import Observer

pytestmark = [pytest.mark.serial, pytest.mark.slow]
few = pytest.mark.parametrize("python", FEW.values(), ids=FEW.keys())

TURN = """
def turn():
    while True:
        lock.acquire()
        lock.release()
"""
# A request that keeps the interpreter lock in one long C call, beside threads that use the lock around some output.
CONVOY = """
null = os.open(os.devnull, os.O_WRONLY)
def use():
    while True:
        with lock:
            os.write(null, bytes(1))
def compute():
    while True:
        sum(range(10000000))
        time.sleep(0.0005)
def convoy():
    for work in (use, use, compute):
        threading.Thread(target=work, daemon=True).start()
"""


def _define(t: Target, source: str) -> None:
    t.do("p", f"exec({source!r}, GLOBALS)")


def _sample(observer: Observer, seconds: float, pause: float, most: int, least: int = 0) -> list[Snapshot]:
    """For so long, and longer where a loaded machine has not let us take as many as `least`."""
    end = time.monotonic() + seconds
    taken: list[Snapshot] = []
    while (time.monotonic() < end and len(taken) < most) or len(taken) < least:
        taken.append(observer.snapshot())
        time.sleep(pause)
    return taken


def _assert_sound(taken: list[Snapshot], workers: set[int]) -> Counter[str]:
    states = Counter(only(snapshot).state for snapshot in taken)
    assert not states["orphaned"], (states, next(only(s).reason for s in taken if only(s).state == "orphaned"))
    for snapshot in taken:
        lock = only(snapshot)
        assert {h.pid for h in lock.holders} <= workers
        assert {w.pid for w in lock.waiters} <= workers
        assert len(lock.holders) <= 1
        assert lock.state not in ("held", "contended") or lock.holders
        assert lock.state != "unknown" or lock.reason
    return states


@few
def test_a_hot_lock_sampled_as_fast_as_possible(python: str) -> None:
    with target(python) as t:
        _define(t, TURN)
        names = ["a", "b", "c", "d"]
        workers = set(t.fork(*names))
        with observing(t.root) as observer:
            observer.snapshot()
            for name in names:
                t.send(name, "turn()")
            taken = _sample(observer, 3.0, 0.0, 1200, 300)
        states = _assert_sound(taken, workers)
        assert states["unknown"] < len(taken) * 0.25, states
        held = {h.pid for s in taken for h in only(s).holders}
        assert len(held) > 1, "nobody else was ever seen to hold it"


def test_a_hot_lock_at_the_default_refresh() -> None:
    with target() as t:
        _define(t, TURN)
        names = ["a", "b", "c", "d"]
        workers = set(t.fork(*names))
        with observing(t.root) as observer:
            for name in names:
                t.send(name, "turn()")
            states = _assert_sound(_sample(observer, 3.0, 0.2, 100), workers)
        assert states["unknown"] <= sum(states.values()) // 4, states


@pytest.mark.parametrize(
    ("python", "pause"), list(zip(FEW.values(), itertools.cycle([0.02, 0.2]), strict=False)), ids=list(FEW)
)
def test_threads_queuing_for_lock_and_gil_are_never_an_orphan(python: str, pause: float) -> None:
    """At nearly every look somebody has been granted the lock and not yet counted it, and each time it is another."""
    with target(python) as t:
        _define(t, CONVOY)
        names = ["a", "b", "c"]
        workers = set(t.fork(*names))
        with observing(t.root) as observer:
            for name in names:
                t.do(name, "convoy()")
            _assert_sound(_sample(observer, 2.5, pause, 1000), workers)


def _post_and_end(t: Target, name: str) -> None:
    """In a process of its own, for one that has sem_post by ctypes could hold the lock from then on."""
    t.fork(name)
    t.do(name, "ctypes.CDLL(None).sem_post(ctypes.c_void_p(lock._semlock.handle))")
    t.kill(name)


def test_a_hot_lock_whose_holder_is_killed_becomes_an_orphan() -> None:
    """The kill may hit it while it holds the lock or not: only what really stays locked is orphaned."""
    with target() as t:
        _define(t, TURN)
        for round_ in range(7):
            name = f"w{round_}"
            t.fork(name)
            t.send(name, "turn()")
            time.sleep(0.02)  # no condition to wait for: any moment will do
            t.kill(name)
            truth = t.do("p", "lock._semlock._is_zero()") == "True"
            with observing(t.root) as observer:
                end = time.monotonic() + PATIENCE_S
                while (seen := only(observer.snapshot()).state) not in ("free", "orphaned"):
                    assert time.monotonic() < end, seen
                    time.sleep(0.02)
            assert (seen == "orphaned") == truth
            if truth:
                _post_and_end(t, f"r{round_}")
