"""Traced locks in one process: what they write down, and that they are locks like the others."""

from __future__ import annotations

import gc
import inspect
import logging
import multiprocessing
import os
import resource
import signal
import threading
import weakref
from collections.abc import Iterator
from multiprocessing import synchronize
from pathlib import Path
from typing import Any

import pytest
from support import wait_until
from support.tracereader import Viewer, book, consistent, directories, states

import semtrace
from semtrace.instrument import patch, places
from semtrace.wire.event import EventType
from semtrace.wire.offsets import LOCK_SLOTS
from semtrace.wire.place import SERVER_VARIABLE, SHM_VARIABLE
from semtrace.wire.statefile import LockBook, Site
from semtrace.wire.words import Flag, Kind

ME = os.getpid()


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Tracing with a directory of its own, taken back at the end."""
    monkeypatch.setenv(SHM_VARIABLE, str(tmp_path))
    monkeypatch.setenv(SERVER_VARIABLE, "")
    gc.freeze()  # what was there before need not be looked at again
    yield tmp_path
    gc.collect()
    gc.unfreeze()
    semtrace.uninstall()


@pytest.fixture
def context() -> Any:
    return multiprocessing.get_context("fork")


def only(base: Path, name: str) -> LockBook:
    found = book(base, ME, name)
    assert found is not None
    return found


def here() -> int:
    """The line that calls."""
    return inspect.stack()[1].lineno


def test_a_hold_is_in_the_state_file_with_its_line(base: Path) -> None:
    lock = semtrace.Lock("orders")
    with lock:
        line = here() - 1
        held = only(base, "orders")
    assert (held.kind, held.count, held.tid) == (Kind.LOCK, 1, threading.get_native_id())
    assert held.since_ns is not None
    assert states(base)[ME].sites[held.site] == Site(__file__, line)
    free = only(base, "orders")
    assert (free.since_ns, free.count, free.acquired, free.released, free.trying) == (None, 0, 1, 1, 0)
    assert free.tid == held.tid
    assert free.hold_total_ns == free.hold_max_ns > 0


def test_the_identity_is_that_of_the_mapping(base: Path) -> None:
    lock = semtrace.Lock("orders")
    identity = places.semaphore_at(lock._semlock.handle)  # type: ignore[attr-defined]
    assert only(base, "orders").lock == identity
    assert places.semaphore_at(1) is None


@pytest.mark.parametrize("call", [lambda lock: lock.acquire(), lambda lock: lock.acquire(True, 5)])
def test_acquire_names_its_caller(base: Path, call: Any) -> None:
    lock = semtrace.Lock("orders")
    assert call(lock) is True
    assert states(base)[ME].sites[only(base, "orders").site].file == __file__
    lock.release()


def test_a_viewer_gets_each_event(base: Path) -> None:
    lock = semtrace.Lock("orders")
    viewer = Viewer(directories(base)[0])
    for _ in range(100):
        with lock:
            pass
    assert not lock.acquire(False) or lock.release() is None
    records = viewer.read()
    viewer.leave()
    types = [record.type for record in records]
    assert types == [EventType.ACQUIRED, EventType.RELEASED] * 101
    assert all(record.process == places.this_process() for record in records)
    assert {record.lock for record in records} == {only(base, "orders").lock}
    assert consistent(records, lambda record: record.process)
    for acquired, released in zip(records[::2], records[1::2], strict=True):
        assert released.value == released.time_ns - acquired.time_ns
        assert (acquired.value, released.site) == (0, acquired.site)


def test_a_wait_is_told_when_it_begins_and_measured(base: Path) -> None:
    lock = semtrace.Lock("orders")
    viewer = Viewer(directories(base)[0])
    lock.acquire()
    thread = threading.Thread(target=lambda: (lock.acquire(), lock.release()))
    thread.start()
    wait_until(lambda: viewer.of(EventType.WAIT), what="the wait")
    waiting = only(base, "orders")
    assert (waiting.waiting, waiting.waiting_tid) == (1, thread.native_id)
    lock.release()
    thread.join()
    wait, acquired = viewer.of(EventType.WAIT)[0], viewer.of(EventType.ACQUIRED)[1]
    viewer.leave()
    assert (wait.tid, acquired.tid) == (thread.native_id, thread.native_id)
    assert acquired.value == pytest.approx(acquired.time_ns - wait.time_ns, abs=5_000_000)
    after = only(base, "orders")
    assert (after.waiting, after.contended, after.acquired) == (0, 1, 2)
    assert after.wait_total_ns == after.wait_max_ns > 0


def test_two_threads_wait(base: Path) -> None:
    lock = semtrace.Lock("orders")
    lock.acquire()
    threads = [threading.Thread(target=lambda: (lock.acquire(), lock.release())) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: only(base, "orders").waiting == 2, what="two waiters")
    lock.release()
    for thread in threads:
        thread.join()
    after = only(base, "orders")
    assert (after.waiting, after.contended, after.acquired, after.count) == (0, 2, 3, 0)


@pytest.mark.parametrize("arguments", [(False,), (True, 0.001), (True, 0), (True, -1), (0,)])
def test_a_refusal_is_counted(base: Path, arguments: tuple[Any, ...]) -> None:
    lock = semtrace.Lock("orders")
    viewer = Viewer(directories(base)[0])
    with lock:
        assert lock.acquire(*arguments) is False
        held = only(base, "orders")
    assert (held.failed, held.count, held.waiting) == (1, 1, 0)
    assert len(viewer.of(EventType.FAILED)) == 1
    viewer.leave()


def test_one_thread_acquires_another_releases(base: Path) -> None:
    lock = semtrace.Lock("orders")
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert (only(base, "orders").since_ns, only(base, "orders").count) == (None, 0)
    assert lock.acquire(False)
    lock.release()


def test_an_rlock_shows_its_depth(base: Path) -> None:
    lock = semtrace.RLock("deep")
    viewer = Viewer(directories(base)[0])
    depths = []
    with lock, lock:
        lock.acquire()
        depths.append(only(base, "deep").count)
        lock.release()
        depths.append(only(base, "deep").count)
    depths.append(only(base, "deep").count)
    assert depths == [3, 2, 0]
    assert [record.type for record in viewer.read()] == [EventType.ACQUIRED, EventType.RELEASED]
    viewer.leave()
    with pytest.raises(AssertionError):
        lock.release()
    assert only(base, "deep").count == 0


def test_a_semaphore_of_several_threads(base: Path) -> None:
    semaphore = semtrace.BoundedSemaphore(2, "pool")
    go, held = threading.Event(), threading.Barrier(3)

    def use() -> None:
        with semaphore:
            held.wait()
            go.wait()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    held.wait()
    busy = only(base, "pool")
    assert (busy.kind, busy.count, busy.acquired) == (Kind.BOUNDED_SEMAPHORE, 2, 2)
    assert busy.tid in [thread.native_id for thread in threads]
    go.set()
    for thread in threads:
        thread.join()
    free = only(base, "pool")
    assert (free.count, free.since_ns, free.released) == (0, None, 2)
    with pytest.raises(ValueError, match="semaphore"):
        semaphore.release()
    assert only(base, "pool").released == 2


def test_signals_are_marked(base: Path, context: Any) -> None:
    semtrace.install()
    everything = [context.Condition(), context.Event(), context.Queue(3), context.Barrier(1), context.Pool]
    books = states(base)[ME].locks
    counting = [found for found in books if found.kind in (Kind.SEMAPHORE, Kind.BOUNDED_SEMAPHORE)]
    assert counting
    assert all(found.flags == Flag.SIGNAL for found in counting)
    assert all(found.flags == Flag.NONE for found in books if found.kind in (Kind.LOCK, Kind.RLOCK))
    mine = context.Semaphore(2)
    assert states(base)[ME].locks[-1].flags == Flag.NONE
    assert patch.hooks_of(mine) is not None
    everything[2].close()


def test_what_the_maker_of_a_semaphore_deletes_is_gone(base: Path, context: Any) -> None:
    class Large:
        pass

    semtrace.install()
    large = Large()
    seen = weakref.ref(large)
    context.Semaphore(2)
    del large
    assert seen() is None


@pytest.mark.parametrize(
    ("make", "class_"),
    [
        (semtrace.Lock, synchronize.Lock),
        (semtrace.RLock, synchronize.RLock),
        (semtrace.Semaphore, synchronize.Semaphore),
        (semtrace.BoundedSemaphore, synchronize.BoundedSemaphore),
        (semtrace.Condition, synchronize.Condition),
        (semtrace.Event, synchronize.Event),
        (lambda: semtrace.Barrier(1), synchronize.Barrier),
    ],
)
def test_a_replacement_is_the_real_thing(make: Any, class_: type) -> None:
    assert type(make()) is class_


def test_a_condition_s_parts_have_names(base: Path) -> None:
    condition = semtrace.Condition(name="turn")
    with condition:
        line = here() - 1
        held = only(base, "turn")
        assert states(base)[ME].sites[held.site] == Site(__file__, line)
        assert not condition.wait(0.001)
        assert only(base, "turn").count == 1
    assert only(base, "turn._wait_semaphore").failed == 1
    assert (only(base, "turn").count, only(base, "turn").acquired) == (0, 2)


def test_an_event_and_a_barrier_work(base: Path) -> None:
    event = semtrace.Event("ready")
    thread = threading.Thread(target=event.set)
    thread.start()
    assert event.wait(5)
    thread.join()
    assert only(base, "ready").acquired >= 2
    barrier = semtrace.Barrier(1, name="gate")
    assert barrier.wait() == 0
    assert only(base, "gate").acquired >= 1


def test_a_lock_from_before_install_is_left_alone(base: Path, context: Any) -> None:
    before = context.Lock()
    semtrace.install()
    with before:
        assert not before.acquire(False)
    assert patch.hooks_of(before) is None
    assert not states(base)


def test_uninstall_takes_everything_back(base: Path, context: Any) -> None:
    attributes = dict(vars(synchronize.SemLock))
    semtrace.install()
    lock, condition = context.Lock(), context.Condition()
    with lock, condition:
        semtrace.uninstall()
        assert not lock.acquire(False)
    now = {name: value for name, value in vars(synchronize.SemLock).items() if not name.startswith("_semtrace")}
    assert now == {name: value for name, value in attributes.items() if not name.startswith("_semtrace")}
    assert lock.acquire is not None
    assert lock.acquire.__self__ is lock._semlock
    with lock, condition:
        pass
    assert list(base.glob("semtrace-*/*")) == []
    assert patch.hooks_of(context.Lock()) is None


def test_install_twice_is_once(base: Path, context: Any) -> None:
    semtrace.install()
    semtrace.install()
    lock = context.Lock()
    with lock:
        assert states(base)[ME].locks[0].acquired == 1
    semtrace.uninstall()
    semtrace.uninstall()
    semtrace.install()
    again = context.Lock()
    with again:
        assert states(base)[ME].locks[0].count == 1


def test_a_dropped_lock_gives_its_slot_and_its_semaphore_back(base: Path) -> None:
    gc.disable()  # by reference counts alone, as a bare lock
    try:
        lock = semtrace.Lock("short-lived")
        identity = only(base, "short-lived").lock
        with lock:
            pass
        del lock
        assert states(base)[ME].locks == ()
        assert f" {identity.inode} " not in Path("/proc/self/maps").read_text()
    finally:
        gc.enable()


def test_more_locks_than_slots_are_plain(base: Path) -> None:
    locks = [semtrace.Lock() for _ in range(LOCK_SLOTS + 2)]
    with locks[-1]:
        assert not locks[-1].acquire(False)
    assert patch.hooks_of(locks[-1]) is None
    assert states(base)[ME].untraced == 2
    assert len(states(base)[ME].locks) == LOCK_SLOTS


def test_internal_error_switches_tracing_off_and_is_logged_once(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lock, other = semtrace.Lock("orders"), semtrace.RLock("other")
    session = patch.prepare()
    assert session is not None

    def broken(_: object) -> int:
        raise KeyError("a bug of ours")

    broken.__code__ = broken.__code__.replace(co_filename=patch.__file__)
    monkeypatch.setattr(session.sites, "locate", broken)
    with caplog.at_level(logging.WARNING, "semtrace"):
        with lock, other:
            assert not lock.acquire(False)
        with lock, other:
            pass
    assert [record.name for record in caplog.records] == ["semtrace"]
    assert "a bug of ours" in caplog.text
    assert not states(base)[ME].active
    assert lock.acquire(False)
    lock.release()


@pytest.mark.parametrize("kind", ["Lock", "RLock", "BoundedSemaphore"])
def test_interrupts_at_any_moment_leave_lock_and_books_agreeing(base: Path, kind: str) -> None:
    """A timer whose handler raises. As with a bare lock, one that strikes on a function's way out leaves it locked."""
    lock = getattr(semtrace, kind)(name="orders")
    viewer = Viewer(directories(base)[0])
    struck = 0

    class Struck(Exception):
        pass

    def strike(*_: object) -> None:
        raise Struck

    previous = signal.signal(signal.SIGALRM, strike)
    gc.disable()  # one that strikes in a collector's callback (hypothesis has one) is swallowed by the interpreter
    try:
        while struck < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + struck % 40 * 0.000005)
                while True:
                    with lock:
                        pass
                    lock.acquire(True, 1)
                    lock.release()
                    viewer.read()
            except Struck:
                struck += 1
            agree(lock, base)
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert states(base)[ME].active
    assert viewer.malformed == 0
    viewer.leave()


def agree(lock: Any, base: Path) -> None:
    """The books say what the semaphore says; then free it, for the next round."""
    held, said = lock._semlock._get_value() == 0, only(base, "orders")
    assert said.doubtful or (said.since_ns is not None) == held
    if held:
        lock.release()
    assert lock._semlock._get_value() == 1


def test_timeout_raised_by_a_signal_handler_reaches_the_waiting_caller(base: Path) -> None:
    lock = semtrace.Lock("orders")
    lock.acquire()

    def strike(*_: object) -> None:
        raise TimeoutError("the application's")

    previous = signal.signal(signal.SIGALRM, strike)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.2)  # again, should the first strike before it waits
        with pytest.raises(TimeoutError, match="the application's"):
            lock.acquire()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    after = only(base, "orders")
    assert (after.count, after.waiting, after.failed) == (1, 0, 1)
    assert states(base)[ME].active
    lock.release()


def test_an_application_that_does_not_ignore_sigpipe_outlives_its_viewers(base: Path) -> None:
    lock = semtrace.Lock("orders")
    viewer = Viewer(directories(base)[0])
    with lock:
        assert viewer.of(EventType.ACQUIRED)
    piped: list[int] = []
    previous = signal.signal(signal.SIGPIPE, lambda number, frame: piped.append(number))
    try:
        viewer.leave()
        with lock:
            pass
        assert not piped
    finally:
        signal.signal(signal.SIGPIPE, previous)
    assert (states(base)[ME].active, states(base)[ME].lost) == (True, 2)


def test_without_a_descriptor_for_a_viewer_tracing_goes_on(base: Path) -> None:
    lock = semtrace.Lock("orders")
    with lock:
        pass
    viewer = Viewer(directories(base)[0])
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(viewer.descriptor)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        with lock:
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (states(base)[ME].active, only(base, "orders").acquired, viewer.read()) == (True, 2, [])
    viewer.announce()
    with lock:
        pass
    assert viewer.of(EventType.ACQUIRED)
    viewer.leave()


def test_a_handler_may_use_the_lock_itself(base: Path) -> None:
    lock = semtrace.RLock("orders")
    entered = []

    def use(*_: object) -> None:
        with lock:
            entered.append(1)

    previous = signal.signal(signal.SIGALRM, use)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
        while len(entered) < 200:
            with lock:
                pass
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert (only(base, "orders").count, only(base, "orders").since_ns) == (0, None)
    assert lock._semlock._get_value() == 1  # type: ignore[attr-defined]
