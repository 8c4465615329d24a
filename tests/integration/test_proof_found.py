"""True orphans that are found soon, whatever else the processes that map the lock are doing."""

from __future__ import annotations

import time

import pytest
from support import PATIENCE_S, page_numbers_are_shown, wait_until
from support.targets import FEW, Target, observing, only, state, target

from semtrace.linux.process import TICKS_PER_S
from semtrace.model import Lock
from semtrace.observe.evidence import sightings
from semtrace.observe.observer import Observer
from semtrace.observe.watch.fleet import Fleet

few = pytest.mark.parametrize("python", FEW.values(), ids=FEW.keys())

COMPUTING = """
def computes(uses):
    while True:
        if uses and lock.acquire(False):
            lock.release()
        sum(range(20000))
def starts(uses, threads):
    for _ in range(threads):
        threading.Thread(target=computes, args=(uses,), daemon=True).start()
"""
FORKING = """
import time
def forks():
    say(threading.current_thread().executor, 'forking')
    while True:
        if os.fork() == 0:
            end = time.monotonic() + 0.03
            while time.monotonic() < end:
                sum(range(1000))
            os._exit(0)
        time.sleep(0.02)
"""


def define(t: Target, source: str) -> None:
    t.do("p", f"exec({source!r}, GLOBALS)")


def orphan(t: Target, name: str) -> None:
    t.do(name, "lock.acquire()")
    t.kill(name)


def ticks() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS_PER_S)


def is_found(observer: Observer) -> Lock:
    """At the default refresh. On a machine that is not loaded it takes a second or two."""
    end = time.monotonic() + PATIENCE_S
    while (lock := only(observer.snapshot())).state != "orphaned":
        assert time.monotonic() < end, lock.reason
        time.sleep(0.2)
    return lock


@few
@pytest.mark.parametrize("uses", [False, True], ids=["elsewhere", "beside the lock"])
def test_an_orphan_is_found_beside_two_computing_threads(python: str, uses: bool) -> None:
    with target(python) as t:
        define(t, COMPUTING)
        t.fork("a", "b")
        t.do("b", f"starts({uses}, 2)")
        orphan(t, "a")
        with observing(t.root) as observer:
            is_found(observer)
            end = time.monotonic() + 2.0
            while time.monotonic() < end:
                lock = only(observer.snapshot())
                assert lock.state == "orphaned", lock.reason
                time.sleep(0.1)


@few
def test_orphan_is_found_with_the_module_linked_into_the_interpreter(
    python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "acquiring_code", lambda *_: None)
    with target(python) as t:
        define(t, COMPUTING)
        t.fork("a", "b")
        t.do("b", "starts(False, 2)")
        t.thread("b2", by="b")
        t.send("b2", "threading.Event().wait(100)")
        orphan(t, "a")
        with observing(t.root) as observer:
            is_found(observer)


@few
def test_an_idle_daemon_that_maps_the_lock_hinders_nothing(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        away = t.fork_away("away", by="b")
        orphan(t, "a")
        with observing(t.root) as observer:
            lock = is_found(observer)
            assert away in [process.pid for process in lock.mapped_by]
            assert away not in [process.id.pid for process in observer.snapshot().processes]


@few
def test_a_daemon_that_computes_in_two_threads_hinders_nothing(python: str) -> None:
    with target(python) as t:
        define(t, COMPUTING)
        t.fork("a", "b")
        t.fork_away("away", by="b")
        t.do("away", "starts(False, 2)")
        orphan(t, "a")
        with observing(t.root) as observer:
            is_found(observer)


@few
def test_orphan_is_found_next_to_a_constantly_forking_worker(python: str) -> None:
    with target(python) as t:
        define(t, FORKING)
        t.fork("a", "b")
        t.do("b", "signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
        t.start_doing("b", "forks()", "forking")
        orphan(t, "a")
        with observing(t.root) as observer:
            is_found(observer)


@few
def test_the_proof_for_a_release_is_found_beside_them_too(python: str) -> None:
    with target(python) as t:
        define(t, COMPUTING + FORKING)
        t.fork("a", "b", "c")
        t.do("b", "starts(False, 2)")
        t.do("c", "signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
        t.start_doing("c", "forks()", "forking")
        orphan(t, "a")
        with observing(t.root) as observer:
            is_found(observer)
            observer.restart_proofs()
            is_found(observer)


@few
def test_newborn_daemon_is_included_at_once(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        orphan(t, "a")
        with observing(t.root) as observer:
            observer.snapshot()
            away = t.fork_away("away", by="b")
            assert away in [process.pid for process in is_found(observer).mapped_by]
            before = ticks()  # a birth in the same tick may have been before the proof
            wait_until(lambda: ticks() > before + 1)
            t.fork_away("another", by="b")
            for _ in range(15):  # until it has been swept for again
                lock = only(observer.snapshot())
                assert lock.state == "orphaned", lock.reason
                time.sleep(0.2)


@few
def test_a_daemon_that_ends_is_no_guest_any_more(python: str) -> None:
    with target(python) as t:
        t.fork("a", "b")
        away = t.fork_away("away", by="b")
        orphan(t, "a")
        with observing(t.root) as observer:
            is_found(observer)
            t.kill("away")
            assert away not in [process.pid for process in state(observer, "orphaned").mapped_by]


def test_parents_walk_spares_the_search_of_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fleet, "search", lambda *_: False)
    with target() as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        with observing(t.root) as observer:
            state(observer, "held")


@pytest.mark.slow
def test_orphan_in_large_memory_needs_one_search_of_shared_pages() -> None:
    with target() as t:
        t.do("p", "globals().update(data=bytearray(os.urandom(1 << 20)) * 256)")
        t.fork("a", "b", "c", "d")
        orphan(t, "a")
        with observing(t.root) as observer:
            is_found(observer)
            spared = [each.last_search.bytes_spared for each in observer._fleet.all]
    assert sum(each > 200 << 20 for each in spared) == 3 or not page_numbers_are_shown()
