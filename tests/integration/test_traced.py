"""Traced locks in a real gunicorn: under load, with workers and viewers that come and die at any moment."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE_S, PROGRAMS, Running, alive, start_gunicorn, wait_until
from support.tracereader import Viewer, book, consistent, directories, states

from semtrace.instrument import bootstrap
from semtrace.model import ProcessId
from semtrace.wire.event import EventType, Record
from semtrace.wire.place import CONTROL, SERVER_VARIABLE, SHM_VARIABLE, fifo_name

SOURCE = str(Path(__file__).parents[2] / "src")


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory in the place of /dev/shm, in it and of this test alone."""
    directory = Path(f"/dev/shm/semtrace-test-{os.getpid()}-{random.getrandbits(32)}")
    directory.mkdir(0o700)
    yield directory
    shutil.rmtree(directory)


@contextlib.contextmanager
def serving(base: Path, *args: str, app: str = "traced_app", env: dict[str, str] | None = None) -> Iterator[Running]:
    path = os.pathsep.join([str(PROGRAMS), SOURCE])
    full = {"PYTHONPATH": path, SHM_VARIABLE: str(base), SERVER_VARIABLE: "", **(env or {})}
    with start_gunicorn(f"{app}:application", *args, env=full) as server:
        yield server


def body(response: bytes) -> list[int]:
    return [int(word) for word in response.rpartition(b"\r\n\r\n")[2].split()]


class Load(threading.Thread):
    """Requests without a pause, until stopped; `failed` are those that got no good answer."""

    def __init__(self, server: Running) -> None:
        super().__init__()
        self.server, self.done, self.failed = server, 0, 0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.is_set():
            try:
                good = self.server.get("/add").startswith(b"HTTP/1.1 200")
            except OSError:
                good = False
            self.done, self.failed = self.done + good, self.failed + (not good)

    def finish(self) -> None:
        self._stop_asked.set()
        self.join()


@contextlib.contextmanager
def load(server: Running, threads: int = 3) -> Iterator[list[Load]]:
    several = [Load(server) for _ in range(threads)]
    for one in several:
        one.start()
    try:
        yield several
    finally:
        for one in several:
            one.finish()


WORKERS = [
    ("sync", "--preload"),
    ("sync",),
    ("gthread", "--threads", "4", "--preload"),
    ("gevent", "--preload"),
]


@pytest.mark.parametrize("worker", WORKERS, ids="-".join)
def test_every_acquire_of_every_worker_is_seen(base: Path, worker: tuple[str, ...]) -> None:
    with serving(base, "-w", "2", "-k", *worker) as server:
        workers = server.wait_workers(2)
        expected = 1 if "--preload" in worker else 2  # without it the workers have nothing in common but the code
        wait_until(lambda: sum((each / CONTROL).exists() for each in directories(base)) == expected, what="all")
        viewers = [Viewer(directory) for directory in directories(base)]
        # One request at a time until each worker has noticed: threads that are on their way while another one opens the
        # FIFO are told of from their next event on.
        wait_until(lambda: server.get("/add") and seen(viewers) == set(workers), what="all workers to notice")
        before = sum(len(viewer.of(EventType.ACQUIRED)) for viewer in viewers)
        counted = acquired_in(base)
        with load(server) as loads:
            wait_until(lambda: sum(one.done for one in loads) >= 300, what="300 requests")
        done = sum(one.done for one in loads)
        assert sum(one.failed for one in loads) == 0
        assert acquired_in(base) - counted == 2 * done
        server.signal(signal.SIGTERM)
        server.popen.wait(PATIENCE_S)  # gunicorn with gevent sometimes needs its whole graceful timeout, traced or not
        records = [record for viewer in viewers for record in viewer.read()]
    acquired = [record for record in records if record.type == EventType.ACQUIRED]
    released = [record for record in records if record.type == EventType.RELEASED]
    assert len(acquired) == len(released) == 2 * done + before
    assert [viewer.malformed for viewer in viewers] == [0] * expected
    assert consistent(records, lambda record: record.process)
    assert {record.process.pid for record in acquired} <= set(workers)
    assert {record.process.pid for record in records if record.type == EventType.EXITING} >= set(workers)
    assert list(base.glob("semtrace-*/*")) == []


def seen(viewers: list[Viewer]) -> set[int]:
    """The processes that told of an acquire."""
    return {record.process.pid for viewer in viewers for record in viewer.of(EventType.ACQUIRED)}


def acquired_in(base: Path) -> int:
    return sum(found.acquired for state in states(base).values() for found in state.locks)


def exclusive(records: list[Record], name_lock: Any) -> bool:
    """Whether no two holds of the lock overlap, by their own times."""
    ends = 0
    for record in sorted((r for r in records if r.lock == name_lock), key=lambda r: r.time_ns):
        if record.type == EventType.RELEASED and record.value is not None:
            if record.time_ns - record.value < ends:
                return False
            ends = record.time_ns
    return True


def test_holds_do_not_overlap(base: Path) -> None:
    with serving(base, "-w", "3", "--preload") as server:
        server.wait_workers(3)
        viewer = Viewer(directories(base)[0])
        with load(server, 4) as loads:
            wait_until(lambda: sum(one.done for one in loads) >= 300, what="300 requests")
        found = book(base, server.pid, "app.lock")
        assert found is not None
        assert exclusive(viewer.read(), found.lock)
        viewer.leave()


def test_a_killed_worker_leaves_proof_and_the_rest_is_removed(base: Path) -> None:
    with serving(base, "-w", "2", "--preload") as server:
        workers = server.wait_workers(2)
        with contextlib.suppress(OSError):
            server.get("/die")
        (dead,) = wait_until(lambda: [pid for pid in workers if not alive(pid)], what="the death")
        proof = book(base, dead, "app.lock")
        assert proof is not None
        assert (proof.count, proof.tid) == (1, dead)
        site = states(base)[dead].sites[proof.site]
        assert site.file.endswith("traced_app.py")
        source = Path(site.file).read_text().splitlines()
        assert "os.kill" in source[site.line]
        server.signal(signal.SIGTERM)
        server.popen.wait(PATIENCE_S)
    assert list(states(base)) == [dead]


def test_late_viewer_sees_a_held_lock_and_its_waiter(base: Path) -> None:
    with serving(base, "-w", "2", "--preload") as server:
        workers = server.wait_workers(2)
        first = server.connect()
        first.sendall(b"GET /hold HTTP/1.0\r\n\r\n")
        holder = wait_until(
            lambda: [pid for pid in workers if (b := book(base, pid, "app.lock")) and b.count], what="hold"
        )
        second = server.connect()
        second.sendall(b"GET /add HTTP/1.0\r\n\r\n")
        waiter = wait_until(
            lambda: [pid for pid in workers if (b := book(base, pid, "app.lock")) and b.waiting], what="wait"
        )
        assert set(holder + waiter) == set(workers)
        first.close()
        second.close()


def test_workers_killed_at_any_moment_tear_no_record(base: Path) -> None:
    with serving(base, "-w", "3", "--preload", "--timeout", "3") as server:
        server.wait_workers(3)
        viewer = Viewer(directories(base)[0])
        chance = random.Random(4)
        with load(server, 3):
            for _ in range(25):
                workers = wait_until(server.workers, what="workers")
                enough = len(viewer.read()) + chance.randrange(40)
                wait_until(lambda enough=enough: len(viewer.read()) > enough or orphaned(base), what="events")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                if orphaned(base):
                    break
        assert viewer.malformed == 0
        assert consistent(viewer.records, lambda record: record.process)
        viewer.leave()


def orphaned(base: Path) -> bool:
    """Whether a killed worker's file says that it died with a lock: the others then wait for ever."""
    dead = [state for pid, state in states(base).items() if not alive(pid)]
    return any(found.since_ns or found.trying for state in dead for found in state.locks)


def test_viewers_that_come_stop_and_die_disturb_nobody(base: Path) -> None:
    with serving(base, "-w", "2", "--preload") as server:
        server.wait_workers(2)
        directory = directories(base)[0]
        witness = Viewer(directory, number=999)
        with load(server) as loads:
            for number in range(100):
                viewer = Viewer(directory, number)
                seen = sum(one.done for one in loads)
                if number % 10 == 0:
                    wait_until(lambda seen=seen: sum(one.done for one in loads) > seen + 3, what="requests")
                    assert viewer.read()
                if number % 2:
                    os.close(viewer.descriptor)  # died: its FIFO stays behind, unread
                else:
                    viewer.leave()
                assert consistent(viewer.records, lambda record: record.process)
                witness.read()
        done = sum(one.done for one in loads)
        assert sum(one.failed for one in loads) == 0
        records = witness.read()
        witness.leave()
        assert len([r for r in records if r.type == EventType.ACQUIRED]) == 2 * done
        assert consistent(records, lambda record: record.process)
        assert [state.lost for state in states(base).values()] == [0] * len(states(base))
        descriptors = [len(os.listdir(f"/proc/{pid}/fd")) for pid in server.workers()]
        assert max(descriptors) < 40
        for path in directory.glob("*.fifo"):  # this process lives: to the server they are a living viewer's
            path.unlink()


def test_a_stopped_viewer_loses_records_that_are_counted(base: Path) -> None:
    with serving(base, "-w", "1", "--preload") as server:
        (worker,) = server.wait_workers(1)
        directory = directories(base)[0]
        stopped, awake = Viewer(directory, process=ProcessId(os.getpid(), 1)), Viewer(directory)
        subprocess.run([sys.executable, "-c", SHRINK, str(stopped.path)], check=True)
        with load(server) as loads:
            wait_until(lambda: awake.read() and states(base)[worker].lost > 100, what="losses")
        lost = states(base)[worker].lost
        assert sum(one.failed for one in loads) == 0
        records = [r for r in stopped.read() if r.process.pid == worker]
        every = [r for r in awake.read() if r.process.pid == worker]
        assert len(records) + lost == len(every)
        assert sum(states(base)[worker].lost_by_viewer.values()) == lost
        assert consistent(every, lambda record: record.process)
        stopped.leave()
        awake.leave()


SHRINK = """
import fcntl, os, sys
fcntl.fcntl(os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK), fcntl.F_SETPIPE_SZ, 4096)
"""


def test_dead_viewers_fifos_are_swept(base: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    with serving(base, "-w", "1", "--preload") as server:
        server.wait_workers(1)
        directory = directories(base)[0]
        left = directory / fifo_name(ProcessId(gone.pid, 1))
        os.mkfifo(left, 0o600)
        viewer = Viewer(directory)
        server.get("/add")
        assert not left.exists()
        viewer.leave()


@pytest.mark.parametrize("preload", [["--preload"], []])
def test_no_line_at_all(base: Path, preload: list[str]) -> None:
    path = {"PYTHONPATH": str(PROGRAMS)}
    env = {**path, **{k: v for k, v in bootstrap.environment(path).items() if k in ("PYTHONPATH", "SEMTRACE")}}
    with serving(base, "-w", "2", *preload, app="traced_plain", env=env) as server:
        server.wait_workers(2)
        server.get("/")
        ((_, lock),) = {(f.kind, f.lock) for s in states(base).values() for f in s.locks} if preload else {(0, 0)}
        viewer = Viewer(directories(base)[0])
        pid = body(server.get("/"))[0]
        records = viewer.read()
        viewer.leave()
    assert {r.process.pid for r in records if r.type == EventType.ACQUIRED} == {pid}
    if preload:
        assert records[0].lock == lock or records[-1].lock == lock


def test_a_gunicorn_configuration_installs_it(base: Path, tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("import semtrace\nsemtrace.install()\n")
    config = str(tmp_path / "gunicorn.conf.py")
    with serving(base, "-w", "2", "-c", config, "--preload", app="traced_plain") as server:
        server.wait_workers(2)
        pid = body(server.get("/"))[0]
        assert states(base)[pid].locks[0].acquired == 1
        server.signal(signal.SIGHUP)
        wait_until(lambda: "Hang up" in server.output() and pid not in server.workers(), what="the reload")
        server.wait_workers(2)
        assert body(server.get("/"))[0] != pid
        assert server.pid in states(base)
