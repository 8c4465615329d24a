"""Recording real servers: what `record` writes is what was seen, however it ends."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support import Running, start_gunicorn, wait_until
from support.commands import SOURCE, run

from semtrace.record.head import NotARecording
from semtrace.record.reader import Recording
from semtrace.record.recorder import Recorder, Wanted
from semtrace.record.replay import Replay
from semtrace.record.sink import File
from semtrace.rules import Limits
from semtrace.servers.discovery import server_of


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with start_gunicorn("traced_app:application", "-w", "2", "--preload") as running:
        running.wait_workers(2)
        yield running


def recording(server: Running, path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `semtrace record`, and wait until it records."""
    command = [sys.executable, "-m", "semtrace", "record", str(server.pid), "-o", str(path), *arguments]
    env = {**os.environ, "PYTHONPATH": SOURCE}
    popen = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: path.exists() and path.stat().st_size > 0, what="the recording to begin")
    return popen


def ended(popen: subprocess.Popen[str], number: int) -> str:
    popen.send_signal(number)
    _, said = popen.communicate(timeout=60)
    assert popen.returncode == 0, said
    return said


def snapshots(path: Path) -> int:
    found = Recording(path)
    try:
        return sum(1 for _ in found.frames())
    finally:
        found.close()


def has_snapshots(path: Path, least: int) -> bool:
    try:
        return snapshots(path) >= least
    except NotARecording:  # its head is being written
        return False


def test_replay_equals_live_field_by_field(tmp_path: Path) -> None:
    """Through an orphaned lock, its waiters, and the end of the server."""
    limits = Limits()
    with start_gunicorn("traced_app:application", "-w", "2", "--preload") as server:
        server.wait_workers(2)
        recorder = Recorder(server_of(server.pid), Wanted(0.05, limits=limits), File(tmp_path / "x"))
        seen = []

        def step() -> bool:
            recorder.step()
            assert recorder.last is not None
            seen.append(recorder.last)
            return any(finding.severity == "error" for finding in recorder.last.findings)

        step()
        with server.connect() as connection:
            connection.sendall(b"GET /die HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(step, what="the orphan to be found", pause=0.05)
        server.signal(signal.SIGTERM)
        wait_until(lambda: step() and recorder.ended, what="the end", pause=0.05)
        recorder.close()
    with Replay(tmp_path / "x", limits) as replay:
        for number, found in enumerate(replay.between(None, None)):
            assert repr(found) == repr(seen[number])
        assert number == len(seen) - 1
        assert not replay.at(None).alive


def test_commands_read_a_recording_where_they_take_a_pid(server: Running, tmp_path: Path) -> None:
    path = tmp_path / "x.semrec"
    popen = recording(server, path, "--also-events", "--interval", "0.1")
    wait_until(partial(has_pipe, server), what="its pipe")
    for _ in range(5):
        server.get("/add")
    assert "in " + str(path) in ended(popen, signal.SIGTERM)
    dumped = json.loads(run("dump", path, "--json").stdout)
    assert dumped["server"]["pid"] == server.pid
    assert [lock["statistics"]["acquired"] for lock in dumped["locks"]] == [5, 5]
    assert run("doctor", path).returncode == 0
    first = json.loads(run("dump", path, "--json", "--at", "+0s").stdout)
    assert first["taken_at"] < dumped["taken_at"]
    several = run("dump", path, "--json", "--from=-0.5s").stdout.splitlines()
    assert [json.loads(line) for line in several][-1] == dumped
    events = [json.loads(line) for line in run("events", path, "--json").stdout.splitlines()]
    assert sum(event["event"] == "acquired" for event in events) == 10
    assert {event["name"].removeprefix("traced_") for event in events} == {"app.lock", "app.bounded"}
    assert all("traced_app.py" in event["site"] for event in events)


def has_pipe(server: Running) -> bool:
    return any(Path("/dev/shm").glob(f"semtrace-*/{server.pid}-*/*.fifo"))


def test_a_killed_recorder_loses_nothing_that_was_whole(server: Running, tmp_path: Path) -> None:
    for least in (1, 4, 9):
        path = tmp_path / f"{least}.semrec"
        popen = recording(server, path, "--interval", "0.02")
        wait_until(partial(has_snapshots, path, least), what="snapshots")
        popen.kill()
        popen.communicate()
        assert has_snapshots(path, least)
    assert run("dump", path).returncode == 0


def test_a_ring_is_written_when_somebody_asks(server: Running, tmp_path: Path) -> None:
    path = tmp_path / "x.semrec"
    popen = recording(server, path, "--keep", "1m", "--interval", "0.05")
    assert run("dump", path).returncode == 1, "nothing is written yet"
    popen.send_signal(signal.SIGUSR1)
    wait_until(lambda: path.stat().st_size > 4096 and snapshots(path), what="the ring to be written")
    assert "SIGUSR1" in ended(popen, signal.SIGINT)
    assert snapshots(path) > 1


def test_a_ring_without_a_reason_leaves_no_file(server: Running, tmp_path: Path) -> None:
    path = tmp_path / "x.semrec"
    assert "nothing was written" in ended(recording(server, path, "--keep", "10m"), signal.SIGTERM)
    assert not path.exists()


def test_a_ring_is_written_when_a_worker_dies(tmp_path: Path) -> None:
    with start_gunicorn("traced_app:application", "-w", "2", "--preload") as server:
        workers = server.wait_workers(2)
        recorder = Recorder(server_of(server.pid), Wanted(0.05, keep_s=60.0), File(tmp_path / "x"))
        recorder.step()
        os.kill(workers[0], signal.SIGKILL)

        def written() -> bool:
            recorder.step()
            return bool(recorder.written)

        wait_until(written, what="the ring to be written", pause=0.05)
        recorder.close()
    assert any(str(workers[0]) in reason for reason in recorder.reasons)
    found = Recording(tmp_path / "x")
    pids = [{process.pid for process in frame.snapshot.processes} for frame in found.frames()]
    found.close()
    assert workers[0] in pids[0]
    assert workers[0] not in pids[-1]


def test_full_disk_is_one_error_line_and_complete_records_survive(server: Running, tmp_path: Path) -> None:
    path = tmp_path / "x.semrec"
    command = [sys.executable, "-m", "semtrace", "record", str(server.pid), "-o", str(path), "--interval", "0.02"]
    env = {**os.environ, "PYTHONPATH": SOURCE}
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (6000, 6000))
    done = subprocess.run([*command, "--also-events"], env=env, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    assert "File too large; what was recorded before can be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert has_snapshots(path, 1)
    assert not has_pipe(server)


def test_what_goes_wrong_is_one_line_and_an_exit_code(server: Running, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    for out, code, says in [
        (there, 2, "is there already"),
        (tmp_path / "no" / "x", 1, "No such file or directory"),
    ]:
        done = run("record", server.pid, "-o", out)
        assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr
    assert there.read_text() == "mine"
    assert run("record", 2**22 + 5, "-o", tmp_path / "y").returncode == 5
    assert run("dump", there).returncode == 1
