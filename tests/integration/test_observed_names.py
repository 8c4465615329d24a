"""Names in the pictures of a server: found in the background, kept up to date, and what they prove."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from typing import Any

import pytest
from support import PATIENCE_S, start_gunicorn, wait_until
from support.targets import INTERPRETERS, observing, target, until

from semtrace.commands.check import answer_for
from semtrace.commands.doctor import Doctor
from semtrace.cpython.name_walk import Walk
from semtrace.model import LockRef, Snapshot
from semtrace.observe.names import namebook
from semtrace.observe.observer import Observer, settle
from semtrace.rules import USUAL
from semtrace.servers.discovery import server_of

NEWEST = INTERPRETERS[list(INTERPRETERS)[-1]]


def observed(pid: int) -> Observer:
    return Observer(server_of(pid))


def names(snapshot: Snapshot) -> set[str | None]:
    return {lock.name for lock in snapshot.locks if not lock.signal}


def test_with_preload_one_lock_is_shared_by_all() -> None:
    with start_gunicorn("names_flask:app", "--workers", "2", "--preload") as server:
        server.wait_workers(2)
        with contextlib.closing(observed(server.pid)) as observer:
            snapshot = until(observer, lambda s: None not in names(s) and len(s.locks) > 3)
            assert {lock.separate for lock in snapshot.locks} == {1}
            assert {len(lock.mapped_by) for lock in snapshot.locks} == {3}
            assert "names_flask.app.view_functions['index'].<closure>.guard" in names(snapshot)


def test_workers_without_preload_are_reported_to_have_separate_locks() -> None:
    with start_gunicorn("names_flask:app", "--workers", "3") as server:
        server.wait_workers(3)
        with contextlib.closing(observed(server.pid)) as observer:
            snapshot = until(observer, lambda s: s.locks and {lock.separate for lock in s.locks} == {3})
            assert {len(lock.mapped_by) for lock in snapshot.locks} == {1}
            (private,) = snapshot.thread_locks
            assert private.name == "names_flask.private"
            assert len(private.processes) == 3  # the master has not loaded the application


def test_two_workers_inside_one_threading_lock_are_kept_as_evidence() -> None:
    with start_gunicorn("names_flask:app", "--workers", "2", "--preload") as server:
        workers = server.wait_workers(2)
        with contextlib.closing(observed(server.pid)) as observer, contextlib.ExitStack() as connections:
            (lock,) = until(observer, lambda s: s.thread_locks).thread_locks
            assert lock.overlap is None
            for _ in workers:
                connection = connections.enter_context(server.connect())
                connection.sendall(b"GET /private HTTP/1.1\r\nHost: x\r\n\r\n")
            (lock,) = until(observer, lambda s: s.thread_locks and s.thread_locks[0].overlap).thread_locks
            assert lock.overlap is not None
            assert (lock.overlap.most, lock.overlap.times) == (2, 1)
            assert sorted(p.pid for p in lock.overlap.processes) == workers
            again = observer.snapshot().thread_locks[0].overlap
            assert again is not None
            assert again.times == 2
            assert again.last_at > again.first_at == lock.overlap.first_at


def test_lock_that_was_locked_before_the_fork_is_not_evidence() -> None:
    with target(NEWEST) as t:
        t.do("p", "import threading; inherited = threading.Lock(); inherited.acquire()")
        t.fork("a", "b")
        with observing(t.root) as observer:
            snapshot = until(observer, lambda s: any(lock.name == "__main__.inherited" for lock in s.thread_locks))
            (lock,) = [lock for lock in snapshot.thread_locks if lock.name == "__main__.inherited"]
            assert [use.locked for use in lock.processes] == [True] * 3
            assert lock.overlap is None


def test_what_is_made_later_gets_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namebook, "_AGAIN_S", 0.1)
    monkeypatch.setattr(namebook, "_AGAIN_SHARE", 0)
    with target(NEWEST) as t, observing(t.root) as observer:
        until(observer, lambda s: names(s) == {"__main__.lock"})
        t.do("p", "later = mp.Lock()")
        until(observer, lambda s: names(s) == {"__main__.lock", "__main__.later"})
        t.do("p", "private = threading.Lock()")
        until(observer, lambda s: "__main__.private" in {lock.name for lock in s.thread_locks})


def test_dump_waits_for_names_but_the_first_snapshot_does_not() -> None:
    with target(NEWEST) as t:
        with contextlib.closing(observed(t.root)) as observer:
            first = observer.snapshot()
            assert len(first.locks) == 1
            assert first.locks[0].state == "free"
        with contextlib.closing(observed(t.root)) as observer:
            assert names(settle(observer)) == {"__main__.lock"}


def test_unreadable_interpreter_is_a_problem_and_hides_only_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from semtrace.cpython import layout

    monkeypatch.setattr(layout, "LAYOUTS", {})
    monkeypatch.setattr("semtrace.cpython.runtime.LAYOUTS", {})
    with target(NEWEST) as t, observing(t.root) as observer:
        snapshot = until(observer, lambda s: s.problems)
        assert names(snapshot) == {None}
        assert snapshot.locks[0].state == "free"
        (problem,) = snapshot.problems
        assert "no layout for CPython" in problem.error


def test_a_worker_that_comes_later_is_named_too() -> None:
    with start_gunicorn("names_flask:app", "--workers", "1") as server:
        server.wait_workers(1)
        with contextlib.closing(observed(server.pid)) as observer:
            until(observer, lambda s: s.locks and None not in names(s))
            server.signal(signal.SIGTTIN)
            wait_until(lambda: len(server.workers()) == 2, what="the second worker")
            until(observer, lambda s: s.locks and {lock.separate for lock in s.locks} == {2})


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["plain", "preload"])
@pytest.mark.parametrize("worker_class", ["uvicorn_worker.UvicornWorker", "asgi"])
def test_asyncio_lock_is_seen_held_in_two_workers_at_once(worker_class: str, preload: tuple[str, ...]) -> None:
    with start_gunicorn("async_guard:asgi", "-w", "2", "-k", worker_class, *preload) as server:
        server.wait_workers(2)
        observer = Observer(server_of(server.pid))
        customers: list[socket.socket] = []
        try:
            until(observer, lambda s: s.thread_locks)
            deadline = time.monotonic() + PATIENCE_S
            while not (lock := observer.snapshot().thread_locks[0]).overlap and time.monotonic() < deadline:
                customers.append(server.connect())
                customers[-1].sendall(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
                time.sleep(0.02)
            assert (lock.name, lock.kind) == ("async_guard.guard", "asyncio.Lock")
            assert {use.process.pid for use in lock.processes if use.locked} == set(server.workers())
            (finding,) = observer.snapshot().findings
            assert (finding.code, finding.severity) == ("private-lock", "warning")
            assert finding.locks == (LockRef(None, "async_guard.guard", "asyncio.Lock"),)
        finally:
            observer.close()
            for customer in customers:
                customer.close()


def test_deferred_names_are_read_once_something_waits() -> None:
    with target() as t:
        t.fork("a", "b")
        with contextlib.closing(Observer(server_of(t.root), names_at_once=False)) as observer:
            for _ in range(3):
                assert names(settle(observer, 0.1)) == {None}
            t.do("a", "lock.acquire()")
            t.send("b", "lock.acquire()")
            until(observer, lambda snapshot: None not in names(snapshot))


def test_doctor_sees_locks_of_workers_though_the_first_walk_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: set[int] = set()
    walk = namebook.walk

    def walk_at_second_try(pid: int, *arguments: Any, **options: Any) -> Walk:
        again = pid in failed
        failed.add(pid)
        return walk(pid, *arguments, **options) if again else Walk(reason="the program was about to start")

    monkeypatch.setattr(namebook, "walk", walk_at_second_try)
    monkeypatch.setattr(namebook, "_RETRY_S", 5.0)  # by then the search for owners has ended, which doctor waits for
    with target(NEWEST) as t:
        t.fork("a", "b")
        t.do("a", "alike = mp.Lock()")
        t.do("b", "alike = mp.Lock()")
        with contextlib.closing(Doctor(server_of(t.root), USUAL, stacks=False)) as patient:
            diagnosis = patient.watch(0.3)
    assert "unshared-lock" in {finding.code for finding in diagnosis.snapshot.findings}


def test_check_names_the_lock_that_is_orphaned() -> None:
    """It walks no modules before something is found, and that is found before they are read."""
    with target() as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.block("b", "lock")
        t.kill("a")
        answer = answer_for(server_of(t.root), USUAL)
    assert answer.line.verdict == "orphaned"
    assert answer.line.finding is not None
    assert [lock.name for lock in answer.line.finding.locks] == ["__main__.lock"]
