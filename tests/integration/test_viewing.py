"""Viewers of a real traced gunicorn: what they say is what happened, and nothing of them stays."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE_S, PROGRAMS, Running, alive, start_gunicorn, wait_until
from support.tracereader import directories, generation

from semtrace.commands import events
from semtrace.instrument import bootstrap
from semtrace.model import Lock, ProcessId, Snapshot, Statistics
from semtrace.observe.observer import Observer, settle
from semtrace.servers.discovery import server_of
from semtrace.tracing.follower import Follower
from semtrace.wire.place import SHM_VARIABLE, parse_state_name

SEMTRACE = [sys.executable, "-m", "semtrace"]


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in the place of /dev/shm, in it and of this test alone; viewers and servers are told of it."""
    directory = Path(f"/dev/shm/semtrace-test-{os.getpid()}-{random.getrandbits(32)}")
    directory.mkdir(mode=0o755)
    monkeypatch.setenv(SHM_VARIABLE, str(directory))
    yield directory
    shutil.rmtree(directory)


@contextlib.contextmanager
def serving(workers: int = 2) -> Iterator[Running]:
    traced = bootstrap.environment(os.environ)
    path = os.pathsep.join([traced["PYTHONPATH"], str(PROGRAMS)])
    environment = {**traced, "PYTHONPATH": path}
    with start_gunicorn("traced_app:application", "-w", str(workers), "--preload", env=environment) as running:
        running.wait_workers(workers)
        yield running


@contextlib.contextmanager
def observing(running: Running) -> Iterator[Observer]:
    observer = Observer(server_of(running.pid), trace_source=Follower())
    try:
        yield observer
    finally:
        observer.close()


def semtrace(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SEMTRACE, *arguments], capture_output=True, text=True, timeout=PATIENCE_S)


def named(snapshot: Snapshot, name: str) -> Lock | None:
    return next((lock for lock in snapshot.locks if lock.name and lock.name.endswith(name)), None)


@contextlib.contextmanager
def asking(running: Running, path: str) -> Iterator[None]:
    """A request that is under way and not answered."""
    with running.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        yield


def until(look: Callable[[], Any], what: str) -> Any:
    return wait_until(look, what=what)


def test_a_dump_tells_since_when_and_where(base: Path) -> None:
    with serving() as running, asking(running, "/hold"), asking(running, "/hold"):

        def held() -> dict[str, Any] | None:
            found = json.loads(semtrace("dump", "--json", str(running.pid)).stdout)
            lock = next((each for each in found["locks"] if each["name"] == "traced_app.lock"), None)
            return lock if lock and lock["waiters"] and lock["holders"] else None

        lock = until(held, "the lock to be held and waited for")
        (holder,), (waiter,) = lock["holders"], lock["waiters"]
        assert (holder["evidence"], waiter["evidence"]) == ("events", "events")
        line = f"{PROGRAMS}/traced_app.py:"
        assert holder["site"].startswith(line)
        assert waiter["site"].startswith(line)
        assert 0 < waiter["for_s"] < 60
        assert lock["statistics"]["acquired"] == 1
        assert semtrace("dump", str(running.pid)).returncode == 0
        assert not list(base.rglob("*.fifo")), "a dump makes nothing"


def acquired(running: Running) -> int:
    """What a viewer that comes now is given as the acquires of the lock."""
    found = json.loads(semtrace("dump", "--json", str(running.pid)).stdout)
    lock = next((each for each in found["locks"] if each["name"] == "traced_app.lock"), None)
    return lock["statistics"]["acquired"] if lock else 0


def replace_worker(running: Running, number: signal.Signals) -> None:
    before = running.wait_workers(2)
    os.kill(before[0], number)
    until(lambda: before[0] not in running.wait_workers(2) and not alive(before[0]), "another worker")


def test_counts_survive_workers_that_end_or_are_killed(base: Path) -> None:
    def states() -> set[ProcessId | None]:
        return {parse_state_name(path.name) for path in base.rglob("*.state")}

    with serving(2) as running:
        done = 0
        for number in (signal.SIGTERM, signal.SIGKILL):
            for _ in range(20):
                running.get("/add")
            replace_worker(running, number)
            running.get("/add")
            done += 21
            assert until(lambda: acquired(running), "the counts") == done
        ours = {running.pid, *running.workers()}
        until(
            lambda: running.get("/add") and {each.pid for each in states() if each} <= ours,
            "a new worker to take over what the killed one had counted",
        )


def test_events_tells_every_act_of_a_known_number_of_requests(base: Path) -> None:
    with serving() as running:
        command = [*SEMTRACE, "events", "--json", str(running.pid)]
        (directory,) = directories(base)
        before = generation(directory)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            until(lambda: generation(directory) != before, "the viewer's word that its pipe is there")
            running.get("/add")
            first = following.stdout.readline()  # the lines of the source are read from files that go with the server
            for _ in range(49):
                running.get("/add")
            running.signal(signal.SIGTERM)
            said = [json.loads(line) for line in (first, *following.stdout)]
            assert following.wait(PATIENCE_S) == 0, "it ends with its server"
        died, said = [e for e in said if e["event"] == "died"], [e for e in said if e["event"] != "died"]
        assert {(each["cause"], each["exit_code"]) for each in died} <= {("exit", 0), ("unknown", None)}
        acts = Counter((each["event"], each["name"]) for each in said)
        assert acts["acquired", "traced_app.lock"] == acts["released", "traced_app.lock"] == 50
        assert acts["acquired", "traced_app.bounded"] == 50
        assert {each["event"] for each in said} <= {"wait", "acquired", "released", "failed"}
        keys = ["t_s", "pid", "tid", "event", "lock", "name", "wait_s", "held_s", "site", "seq"]
        assert all(list(each) == keys for each in said)
        assert all(each["site"].startswith(str(PROGRAMS)) for each in said if each["event"] == "acquired")
        assert not list(base.rglob("*.fifo"))
        assert directories(base) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_events_cleans_up_whatever_ends_it(base: Path, number: signal.Signals) -> None:
    with serving(1) as running:
        following = subprocess.Popen([*SEMTRACE, "events", str(running.pid)], stdout=subprocess.DEVNULL)
        until(lambda: list(base.rglob("*.fifo")), "the viewer's pipe")
        following.send_signal(number)
        assert following.wait(PATIENCE_S) == 128 + number
        assert not list(base.rglob("*.fifo"))


def test_events_for_a_time_and_for_people(base: Path) -> None:
    with serving(1) as running:
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                running.get("/add")

        loading = threading.Thread(target=load)
        loading.start()
        done = semtrace("events", str(running.pid), "--for", "1")
        stop.set()
        loading.join()
        assert done.returncode == 0
        line = next(line for line in done.stdout.splitlines() if " released " in line)
        assert "traced_app.lock" in line or "traced_app.bounded" in line
        assert " held " in line
        assert "programs/traced_app.py:" in line
        assert "\x1b" not in done.stdout


def test_time_of_events_begins_once_the_server_is_known(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(observer: Observer) -> Snapshot:
        time.sleep(2.1)
        return settle(observer)

    monkeypatch.setattr(events, "settle", slow)
    with serving(1) as running, contextlib.closing(events.Tail(server_of(running.pid), for_s=2.0)) as tail:
        stop = threading.Event()
        loading = threading.Thread(target=lambda: [running.get("/add") for _ in iter(stop.is_set, True)])
        loading.start()
        try:
            assert any(events for events, _ in tail.batches())
        finally:
            stop.set()
            loading.join()


def test_without_traced_locks_events_says_how_to_trace(base: Path) -> None:
    with start_gunicorn("seed:app", "-w", "1", "--preload") as running:
        done = semtrace("events", str(running.pid))
        assert done.returncode == 1
        assert "no lock of" in done.stderr
        assert "semtrace run -- gunicorn" in done.stderr


def test_an_orphan_names_the_dead_holder_and_its_line(base: Path) -> None:
    with serving() as running:
        before = set(running.workers())
        with contextlib.suppress(OSError):
            running.get("/die")
        (dead,) = until(lambda: before - set(running.workers()), "the worker to die")
        running.wait_workers(2)
        with observing(running) as observer:
            settle(observer)

            def orphaned() -> Lock | None:
                lock = named(observer.snapshot(), "lock")
                return lock if lock and lock.state == "orphaned" and "died" in (lock.reason or "") else None

            lock = until(orphaned, "the proof, and the dead's state file, which another thread reads")
            assert f"PID {dead} died holding it, acquired" in lock.reason
            assert "traced_app.py:" in lock.reason


def test_a_follower_counts_what_a_loaded_server_counted(base: Path) -> None:
    with serving(3) as running, observing(running) as observer:
        settle(observer)
        for _ in range(100):
            running.get("/add")

        def counted() -> Lock | None:
            lock = named(observer.snapshot(), ".lock")
            return lock if lock and lock.statistics and told(lock.statistics) == (100, 100) else None

        def told(statistics: Statistics) -> tuple[int, int]:
            """By the state files, and by the events, which may come a little later."""
            return statistics.acquired, sum(each.acquired for _, each in statistics.sites)

        lock = until(counted, "the counts")
        statistics = lock.statistics
        assert statistics is not None
        assert statistics.hold.p99_s is not None
        assert 0 < statistics.hold.p50_s <= statistics.hold.p95_s <= statistics.hold.p99_s <= statistics.hold.max_s
        tracing = observer.snapshot().tracing
        assert tracing is not None
        assert (tracing.live, tracing.lost) == (True, 0)


@pytest.mark.slow
def test_dozens_of_killed_viewers_leave_the_server_untouched(base: Path) -> None:
    with serving(2) as running, contextlib.ExitStack() as stack:
        failed: list[bytes] = []
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                answer = running.get("/add")
                if b"200 OK" not in answer:
                    failed.append(answer)

        loading = threading.Thread(target=load)
        loading.start()
        stack.callback(loading.join)
        stack.callback(stop.set)
        workers = running.workers()
        for _ in range(12):
            viewer = subprocess.Popen([*SEMTRACE, "events", str(running.pid)], stdout=subprocess.DEVNULL)
            until(lambda: list(base.rglob("*.fifo")), "the viewer's pipe")
            viewer.kill()
            viewer.wait()
        stop.set()
        loading.join()
        assert not failed
        assert running.workers() == workers
        assert all(map(alive, workers))
        assert semtrace("events", str(running.pid), "--for", "0.3").returncode == 0
        assert not list(base.rglob("*.fifo")), "the last viewer removed them all"
