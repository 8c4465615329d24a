"""A viewer's FIFO is made where it must be and nowhere else, tells of itself, and is gone in the end."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE_S, alive, start_ticks, wait_until
from support.tracewriter import LOCK, FakeServer, record

from semtrace.console.signals import ending_on_signals
from semtrace.model import ProcessId
from semtrace.tracing import follower as following
from semtrace.tracing import tracedirs
from semtrace.tracing.follower import Follower, TraceDirectories
from semtrace.tracing.polling import StateFilePoller
from semtrace.tracing.reader import EventPipe, this_viewer
from semtrace.tracing.tracedirs import Directory
from semtrace.wire.event import EVENT_SIZE, EventType, encode_event
from semtrace.wire.offsets import STATE_SIZE, site_id
from semtrace.wire.place import CONTROL, CONTROL_SIZE, SHM_VARIABLE, encode_control, fifo_name, state_name
from semtrace.wire.words import who

DEAD = ProcessId(4_000_000, 1)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(SHM_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def server(base: Path) -> FakeServer:
    return FakeServer(base)


def find(server: FakeServer) -> list[Directory]:
    return list(tracedirs.find([server.process]))


@pytest.fixture
def directory(server: FakeServer) -> Iterator[Directory]:
    (found,) = find(server)
    yield found
    found.close()


def an_event(sequence: int = 1) -> bytes:
    return encode_event(record(EventType.WAIT, 10, sequence))


def test_a_pipe_is_made_announced_read_and_removed(server: FakeServer, directory: Directory) -> None:
    pipe = EventPipe(directory)
    (path,) = server.fifos
    assert path.name == fifo_name(this_viewer(), int(path.name.rpartition("-")[2].partition(".")[0]))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert server.generation
    assert pipe.read() == []
    assert server.tell(an_event(1) + an_event(2)) == 1
    assert [event.sequence for event in pipe.read()] == [1, 2]
    pipe.close()
    assert server.fifos == []
    pipe.close()


def test_several_pipes_of_one_viewer_each_get_everything(server: FakeServer, directory: Directory) -> None:
    pipes = [EventPipe(directory), EventPipe(directory)]
    assert server.tell(an_event()) == 2
    assert [len(pipe.read()) for pipe in pipes] == [1, 1]
    for pipe in pipes:
        pipe.close()


def test_full_pipe_refuses_events_until_it_is_read(server: FakeServer, directory: Directory) -> None:
    pipe = EventPipe(directory)
    took = 0
    while server.tell(an_event(took + 1)):
        took += 1
    assert took == pipe.capacity // EVENT_SIZE
    read = []
    while events := pipe.read():
        read += events
    assert len(read) == took
    assert server.tell(an_event()) == 1
    pipe.close()


def test_what_killed_viewers_left_is_removed(server: FakeServer, directory: Directory) -> None:
    os.mkfifo(server.path / fifo_name(DEAD))
    os.mkfifo(server.path / fifo_name(ProcessId(os.getpid(), 1), 5))
    pipe = EventPipe(directory)
    assert len(server.fifos) == 1
    pipe.close()


def test_a_fifo_that_somebody_reads_stays_whatever_its_name(server: FakeServer, directory: Directory) -> None:
    path = server.path / fifo_name(DEAD)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    pipe = EventPipe(directory)
    assert path.exists(), "a viewer of another pid namespace"
    pipe.close()
    os.close(reader)


def test_a_pipe_survives_a_directory_that_is_removed_under_it(server: FakeServer, directory: Directory) -> None:
    pipe = EventPipe(directory)
    for path in server.path.iterdir():
        path.unlink()
    server.path.rmdir()
    assert pipe.read() == []
    pipe.close()
    assert directory.gone


# ---- what is not to be trusted


def test_a_directory_that_others_may_enter_is_nobodys(server: FakeServer) -> None:
    server.path.chmod(0o750)
    assert find(server) == []


def test_a_symbolic_link_is_not_followed(server: FakeServer, base: Path) -> None:
    elsewhere = base / "elsewhere"
    server.path.rename(elsewhere)
    server.path.symlink_to(elsewhere)
    assert find(server) == []


def test_the_users_directory_is_not_followed_either(server: FakeServer, base: Path) -> None:
    server.path.parent.rename(base / "elsewhere")
    server.path.parent.symlink_to(base / "elsewhere")
    assert find(server) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_directory_whose_owner_contradicts_its_name_is_refused(server: FakeServer) -> None:
    os.chown(server.path, 12345, -1)
    assert find(server) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_user_cannot_claim_anothers_process(server: FakeServer, base: Path) -> None:
    """All is consistent, but the process that it is named after runs as somebody else."""
    theirs = base / "semtrace-12345"
    server.path.parent.rename(theirs)
    for path in [theirs, *theirs.rglob("*")]:
        os.chown(path, 12345, -1)
    assert find(server) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")
def test_root_watches_another_users_server_who_can_open_the_pipe(base: Path) -> None:
    base.chmod(0o755)
    for parent in base.parents:
        if str(parent).startswith("/tmp/pytest"):
            parent.chmod(0o755)
    child = subprocess.Popen(["sleep", "60"], user=12345)
    try:
        process = ProcessId(child.pid, wait_until(lambda: start_ticks(child.pid)))
        server = FakeServer(base, process)
        theirs = base / "semtrace-12345"
        server.path.parent.rename(theirs)
        for path in [theirs, *theirs.rglob("*")]:
            os.chown(path, 12345, -1)
        (directory,) = tracedirs.find([process])
        pipe = EventPipe(directory)
        (fifo,) = theirs.rglob("*.fifo")
        assert fifo.stat().st_uid == 12345
        told = subprocess.run(["dd", f"of={fifo}", "oflag=nonblock", "status=none"], input=an_event(), user=12345)
        assert told.returncode == 0
        assert [event.sequence for event in pipe.read()] == [1]
        pipe.close()
        directory.close()
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("spoil", [
    lambda control: control.write_bytes(b"x" * CONTROL_SIZE),
    lambda control: control.write_bytes(b""),
    lambda control: (control.unlink(), control.symlink_to("/etc/passwd")),
    lambda control: (control.unlink(), os.mkfifo(control)),
    lambda control: (control.parent / "other").hardlink_to(control),
])  # fmt: skip
def test_a_control_file_that_is_none_is_left_alone(
    server: FakeServer, directory: Directory, spoil: Callable[[Path], object]
) -> None:
    spoil(server.path / CONTROL)
    with pytest.raises(OSError):  # noqa: PT011  any
        EventPipe(directory)
    assert server.fifos == []


def test_pids_of_another_namespace_are_not_taken_for_ours(server: FakeServer) -> None:
    (server.path / CONTROL).write_bytes(encode_control(1))
    assert find(server) == []


def test_other_servers_directories_are_not_ours(server: FakeServer) -> None:
    assert list(tracedirs.find([ProcessId(1, 1)])) == []


def test_directory_named_after_a_launcher_is_found_by_its_files(base: Path) -> None:
    server = FakeServer(base, DEAD, names_process=False)
    me = this_viewer()
    assert list(tracedirs.find([me])) == []
    server.write_state(me)
    (found,) = tracedirs.find([me])
    found.close()


# ---- state files


def test_poll_reads_the_living_and_the_dead_and_changes_nothing(server: FakeServer) -> None:
    server.write_state(server.process, ACQUIRED=4)
    server.write_state(DEAD, SINCE=77, WHO=who(5, site_id("/app/a.py", 7)))
    before = sorted(path.name for path in server.path.iterdir())
    poller = StateFilePoller()
    state = poller.state([server.process])
    poller.close()
    assert state is not None
    assert state.files.keys() == {server.process, DEAD}
    assert state.living == {server.process}
    assert state.cells[DEAD, LOCK].holds == {77: 5 << 32 | site_id("/app/a.py", 7)}
    assert state.names == {LOCK: "app.lock"}
    assert [str(site) for site in state.sites.values()] == ["/app/a.py:7"]
    assert sorted(path.name for path in server.path.iterdir()) == before
    assert server.generation == 0


@pytest.mark.parametrize("content", [b"", b"x" * STATE_SIZE, b"x" * (STATE_SIZE + 1)])
def test_a_state_file_that_is_none_is_passed_over(server: FakeServer, content: bytes) -> None:
    (server.path / state_name(DEAD)).write_bytes(content)
    poller = StateFilePoller()
    state = poller.state([server.process])
    assert state is not None
    assert state.files.keys() == {server.process}
    poller.close()


def test_without_a_directory_nothing_is_traced(base: Path) -> None:
    for source in (StateFilePoller(), Follower()):
        assert source.state([this_viewer()]) is None
        source.close()


# ---- following


def test_a_follower_folds_what_comes(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for patience in ("_FIRST_S", "_CATCH_UP_S"):  # which a loaded machine may need
        monkeypatch.setattr(following, patience, PATIENCE_S)
    follower = Follower()
    assert follower.state([server.process]) is not None
    server.tell(an_event(1) + an_event(2))
    state = follower.state([server.process])
    assert state is not None
    assert state.received == 2, "a look waits for what is in the pipe already"
    follower.close()
    assert server.fifos == []


def test_a_follower_finds_a_directory_that_comes_later(base: Path) -> None:
    follower = Follower()
    assert follower.state([this_viewer()]) is None
    server = FakeServer(base)
    wait_until(lambda: follower.state([server.process]), what="the directory to be found")
    follower.close()


def test_the_last_viewer_removes_what_an_ended_server_could_not(base: Path) -> None:
    child = subprocess.Popen(["sleep", "60"])
    server = FakeServer(base, ProcessId(child.pid, wait_until(lambda: start_ticks(child.pid))))
    directories = TraceDirectories(live=True)
    directories.scan([server.process])
    child.kill()
    child.wait()
    directories.close()
    assert server.path.exists(), "its state file is evidence"
    directories.scan([])
    (server.path / state_name(server.process)).unlink()
    (directory,) = _opened(server)
    directory.remove_if_left()
    directory.close()
    assert not server.path.exists()


def _opened(server: FakeServer) -> Iterator[Directory]:
    parent = os.open(server.path.parent, os.O_RDONLY)
    yield Directory(os.open(server.path, os.O_RDONLY), parent, os.geteuid(), server.process, (0, 0))


WATCH = """
import sys, time
from semtrace.tracing.follower import Follower
from semtrace.model import ProcessId
follower = Follower()
follower.state([ProcessId(int(sys.argv[1]), int(sys.argv[2]))])
print("ready", flush=True)
while True:  # 3.15 sleeps to the end if the signal comes after it was last asked for and before the sleep
    time.sleep(0.05)
"""


def test_signal_while_the_pipe_is_made_leaves_nothing(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = os.mkfifo

    def interrupted(*arguments: Any, **changes: Any) -> None:
        made(*arguments, **changes)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(os, "mkfifo", interrupted)
    directories = TraceDirectories(live=True)
    with pytest.raises(SystemExit), ending_on_signals():
        directories.scan([server.process])
    assert len(server.fifos) == 1
    directories.close()
    assert server.fifos == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_viewers_that_end_in_any_way_leave_nothing_for_long(server: FakeServer, number: signal.Signals) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-c", WATCH, *map(str, server.process)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert watching.stdout is not None
    assert watching.stdout.readline() == b"ready\n"
    assert len(server.fifos) == 1
    watching.send_signal(number)
    watching.wait(PATIENCE_S)
    watching.stdout.close()
    assert not alive(watching.pid)
    assert len(server.fifos) == (number == signal.SIGKILL)
    directories = TraceDirectories(live=True)
    directories.scan([server.process])
    assert len(server.fifos) == 1, "its own"
    directories.close()
    assert server.fifos == []
