"""What differs from one Python to the next: start methods, parked waiters, gunicorn itself; and what cannot be read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import PROGRAMS, child_pids, start, start_gunicorn, wait_until
from support.pythons import VERSIONS, need
from support.targets import observing, state, target, until

from semtrace.cpython import layout, runtime
from semtrace.errors import Refused
from semtrace.linux.program import is_spawned
from semtrace.model import Snapshot, ThreadLock
from semtrace.observe.observer import Observer
from semtrace.repairs import repair
from semtrace.repairs.repair import Released
from semtrace.reports.diagnosis import doctor_text
from semtrace.reports.schema import snapshot_json
from semtrace.servers.discovery import server_of
from semtrace.servers.processes import cmdline

every = pytest.mark.parametrize("version", VERSIONS)
fetched = pytest.mark.parametrize("version", ["3.14", "3.15"])


@contextlib.contextmanager
def threaded(version: str, case: str, folder: Path) -> Iterator[Observer]:
    with start(need(version), str(PROGRAMS / "threaded.py"), case, str(folder / "ids")) as (popen, _):
        wait_until((folder / "ids").exists, what="the threads to stand where they should")
        with contextlib.closing(Observer(server_of(popen.pid), all_thread_locks=True)) as observer:
            yield observer


def private(snapshot: Snapshot, name: str) -> ThreadLock | None:
    return next((lock for lock in snapshot.thread_locks if lock.name == f"__main__.{name}"), None)


@fetched
def test_lock_of_the_default_start_method_keeps_its_name(version: str) -> None:
    with target(need(version)) as t:
        t.start("forkserver", "a", "lock")
        t.do("a", "lock.acquire()")
        with observing(t.root) as observer:
            lock = state(observer, "held")
            snapshot = observer.snapshot()
        assert lock.linked
        assert [(holder.pid, holder.tid) for holder in lock.holders] == [(t.pids["a"], t.tids["a"])]
        (fork_server,) = (pid for pid in child_pids(t.root) if is_spawned(cmdline(pid)))
        assert {process.pid for process in snapshot.processes} == {t.root, fork_server, t.pids["a"]}
        assert not snapshot.findings


@fetched
def test_holder_that_died_under_forkserver_is_orphaned(version: str) -> None:
    with target(need(version)) as t:
        t.start("forkserver", "a", "lock")
        t.start("forkserver", "b", "lock")
        t.do("a", "lock.acquire()")
        t.block("b", "lock")
        with observing(t.root) as observer:
            state(observer, "contended")
            t.kill("a")
            assert [waiter.pid for waiter in state(observer, "orphaned").waiters] == [t.pids["b"]]


def attempt(observer: Observer) -> Released | None:
    """Release it; None where a busy machine does not let the proof come about in time."""
    with contextlib.suppress(Refused):
        return repair.release(observer, repair.choose(observer, "__main__.lock"), lambda _: None)
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="opens /proc/PID/map_files, or proves what others may see: needs root")
@every
def test_released_lock_lets_the_waiter_in(version: str) -> None:
    with target(need(version)) as t:
        t.fork("a", "b")
        t.do("a", "lock.acquire()")
        t.block("b", "lock")
        t.kill("a")
        with observing(t.root) as observer:
            until(observer, lambda s: s.locks and (s.locks[0].state, s.locks[0].name) == ("orphaned", "__main__.lock"))
            released = wait_until(lambda: attempt(observer), what="the release")
        assert (released.units, released.woken) == (1, 1)
        t.done("b")
        t.do("b", "lock.release()")


@every
def test_waiting_for_a_condition_is_no_wait_for_its_lock(version: str, tmp_path: Path) -> None:
    with threaded(version, "condition_waits", tmp_path) as observer:
        snapshot = until(observer, lambda s: (lock := private(s, "other")) and lock.processes[0].waiters)
        lock = private(snapshot, "meeting")
        assert lock is not None
        assert (lock.processes[0].locked, lock.processes[0].waiters) == (True, ())


@every
def test_waiters_of_a_semaphore_are_unknown_rather_than_none(version: str, tmp_path: Path) -> None:
    with threaded(version, "semaphore_waits", tmp_path) as observer:
        snapshot = until(observer, lambda s: (lock := private(s, "permits")) and lock.processes[0].locked)
    (use,) = next(lock["processes"] for lock in snapshot_json(snapshot)["thread_locks"] if "permits" in lock["name"])
    assert use["waiters"] is None


@fetched
def test_gunicorn_is_known_by_its_memory(version: str, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text("timeout = 12\nworker_class = 'gthread'\n")
    options = ["-w", "2", "-c", str(tmp_path / "conf.py"), "--preload"]
    with start_gunicorn("private_locks:app", *options, python=need(version)) as running:
        workers = running.wait_workers(2)
        with contextlib.closing(Observer(server_of(running.pid))) as observer:
            snapshot = until(observer, lambda s: s.thread_locks and s.locks and s.locks[0].name)
            assert (snapshot.server.timeout_s, snapshot.server.worker_class) == (12.0, "gthread")
            roles = {process.pid: process.role for process in snapshot.processes}
            assert roles == {running.pid: "master", **dict.fromkeys(workers, "worker")}
            assert [lock.name for lock in snapshot.locks] == ["private_locks.shared"]
            assert {lock.name: lock.kind for lock in snapshot.thread_locks} == {
                "private_locks.guard": "Lock",
                "private_locks.settings['guard']": "RLock",
            }


def test_server_of_an_unknown_version_is_never_called_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = next(version for version in reversed(VERSIONS) if _there(version))
    monkeypatch.delitem(layout.LAYOUTS, (3, int(version[2:])))
    assert layout.LAYOUTS is runtime.LAYOUTS
    with threaded(version, "plain", tmp_path) as observer:
        snapshot = until(observer, lambda s: s.problems)
    (problem,) = snapshot.problems
    assert (problem.unread, problem.error) == ("private-locks", f"no layout for CPython {version}")
    assert snapshot_json(snapshot)["thread_locks"] is None
    lines = list(doctor_text(snapshot, 30))
    assert lines[0].startswith("UNKNOWN: ")
    assert any(
        "the private locks (threading, asyncio), and deadlocks through them: no layout" in line for line in lines
    )


def test_interpreter_that_starts_late_is_looked_into_again(monkeypatch: pytest.MonkeyPatch) -> None:
    version = next(version for version in VERSIONS if _there(version))
    known = dict(layout.LAYOUTS)
    with target(need(version), "lock = threading.Lock()") as t, observing(t.root) as observer:
        layout.LAYOUTS.clear()
        try:
            until(observer, lambda s: s.unread("private-locks"))
        finally:
            layout.LAYOUTS.update(known)
        snapshot = until(observer, lambda s: s.thread_locks)
        assert not snapshot.unread("private-locks")


def _there(version: str) -> bool:
    try:
        return bool(need(version))
    except pytest.skip.Exception:
        return False
