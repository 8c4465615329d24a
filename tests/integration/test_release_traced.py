"""After the release of a traced lock the dead's state files do not hold it any more; the living's are not touched."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import PROGRAMS, Running, alive, start_gunicorn, start_ticks, until_released, wait_until
from support.commands import SOURCE
from support.commands import run as semtrace
from support.tracereader import book, states

from semtrace.model import Lock, ProcessId, SemId
from semtrace.observe.observer import Observer
from semtrace.repairs import dead_state_files, repair
from semtrace.repairs.dead_state_files import SetRight
from semtrace.servers.discovery import server_of
from semtrace.tracing.follower import Follower
from semtrace.wire.place import SERVER_VARIABLE, SHM_VARIABLE, parse_state_name
from semtrace.wire.statefile import LockBook, StateFile, decode_state

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="opens /proc/PID/map_files: needs root")


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = Path(f"/dev/shm/semtrace-test-{os.getpid()}-{random.getrandbits(32)}")
    directory.mkdir(0o700)
    monkeypatch.setenv(SHM_VARIABLE, str(directory))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def server(base: Path) -> Iterator[Running]:
    env = {"PYTHONPATH": os.pathsep.join([str(PROGRAMS), SOURCE]), SERVER_VARIABLE: ""}
    with start_gunicorn("traced_app:application", "-w", "2", "--preload", "--timeout", "60", env=env) as running:
        running.wait_workers(2)
        yield running


def _die(server: Running, base: Path) -> int:
    """One worker dies with the lock; which one."""
    before = set(server.wait_workers(2))
    with contextlib.suppress(OSError):
        server.get("/die")
    (dead,) = wait_until(lambda: before - set(server.workers()), what="a worker to die")
    assert _book(base, dead).since_ns
    server.wait_workers(2)
    return dead


def _book(base: Path, pid: int) -> LockBook:
    found = book(base, pid, "app.lock")
    assert found is not None
    return found


def _files(base: Path) -> dict[int, bytes]:
    names = {path: parse_state_name(path.name) for path in base.glob("semtrace-*/*/*.state")}
    return {process.pid: path.read_bytes() for path, process in names.items() if process}


def _is_orphan_of(dead: int, lock: Lock) -> bool:
    """Proved to be one: whom the files name is told before."""
    return lock.state == "orphaned" and f"PID {dead} died holding it" in (lock.reason or "")


def _lock(observer: Observer) -> Lock:
    return next(lock for lock in observer.snapshot().locks if lock.kind == "Lock")


def test_dead_holders_state_file_is_corrected_for_all_viewers(server: Running, base: Path) -> None:
    dead = _die(server, base)
    viewer = Observer(server_of(server.pid), trace_source=Follower())
    try:
        wait_until(lambda: _is_orphan_of(dead, _lock(viewer)), what="the proof")
        before, files = _book(base, dead), _files(base)
        done = until_released(lambda: semtrace("release", server.pid, _book(base, dead).lock, "--yes"))
        assert f"PID {dead}, which died, is no longer recorded as holding it" in done.stdout

        after = _book(base, dead)
        gone = replace(before, since_ns=None, count=0, trying=0, released=after.released)
        assert (after, after.tid) == (gone, before.tid)
        others = [
            [b for b in found.locks if b.name != "app.lock"] for found in (_state(files[dead]), states(base)[dead])
        ]
        assert others[0] == others[1]
        assert {pid: data for pid, data in _files(base).items() if pid != dead} == {
            pid: data for pid, data in files.items() if pid != dead
        }, "nobody else's file was touched"

        assert (_lock(viewer).state, _lock(viewer).holders, _lock(viewer).reason) == ("free", (), None)
        (told,) = (
            lock
            for lock in json.loads(semtrace("dump", server.pid, "--json").stdout)["locks"]
            if lock["kind"] == "Lock"
        )
        assert (told["state"], told["holders"], told["reason"]) == ("free", [], None)
        assert (after.acquired, after.released, told["statistics"]["hold"]["count"]) == (1, 0, 0)
        assert "held" not in next(
            line for line in semtrace("dump", server.pid).stdout.splitlines() if "acquired 1 time" in line
        )
        findings = json.loads(semtrace("doctor", server.pid, "--json").stdout)["findings"]
        assert "orphaned-lock" not in {finding["code"] for finding in findings}

        again = _die(server, base)
        wait_until(lambda: _is_orphan_of(again, _lock(viewer)), what="the next proof")
        assert f"PID {dead}" not in (_lock(viewer).reason or ""), "of two that died the first has been settled"
    finally:
        viewer.close()


def _state(data: bytes) -> StateFile:
    found = decode_state(data)
    assert found is not None
    return found


def _members(server: Running) -> list[ProcessId]:
    return [ProcessId(pid, start_ticks(pid) or 0) for pid in (server.pid, *server.workers())]


@contextlib.contextmanager
def _held(server: Running, base: Path) -> Iterator[tuple[int, SemId]]:
    """A living worker holds the lock."""

    def hold() -> None:
        with contextlib.suppress(OSError):
            server.get("/hold", 60)

    asking = threading.Thread(target=hold)
    asking.start()
    try:
        (holder,) = wait_until(
            lambda: [pid for pid in server.workers() if (b := book(base, pid, "app.lock")) and b.since_ns]
        )
        yield holder, _book(base, holder).lock
    finally:
        for pid in server.workers():
            os.kill(pid, 9)
        asking.join()


def test_a_living_process_keeps_its_file_whatever_it_says(server: Running, base: Path) -> None:
    with _held(server, base) as (holder, lock):
        files = _files(base)
        assert dead_state_files.clear_claims(_members(server), lock) == ()
        assert _files(base) == files
        process = _state(files[holder]).process
        os.kill(holder, 9)
        wait_until(lambda: not alive(holder))
        assert dead_state_files.clear_claims(_members(server), replace_inode(lock)) == (), "another lock"
        assert dead_state_files.clear_claims(_members(server), lock) == (SetRight(process),)
        assert dead_state_files.clear_claims(_members(server), lock) == (), "there is nothing left to set right"


def replace_inode(lock: SemId) -> SemId:
    return lock._replace(inode=lock.inode + 1)


def test_state_file_that_cannot_be_written_is_only_a_note(
    server: Running, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    dead = _die(server, base)
    monkeypatch.setattr(dead_state_files.os, "pwrite", refused)
    observer = Observer(server_of(server.pid))
    try:
        released = repair.release(observer, repair.choose(observer, str(_book(base, dead).lock)), lambda _: None)
    finally:
        observer.close()
    assert released.after.value == 1
    assert [(each.process.pid, each.failed) for each in released.set_right] == [(dead, "Read-only file system")]
