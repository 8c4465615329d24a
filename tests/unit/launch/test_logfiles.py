"""The logs of servers that `semtrace run` started: removed are those of servers that have ended, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from support import start_ticks, wait_until
from support.commands import NOBODY

from semtrace.errors import SemtraceError
from semtrace.launch import logfiles
from semtrace.launch.launched import Launched

GONE = "semtrace-run-4194399-12-abcd1234.log"  # beyond the largest pid: include/linux/threads.h PID_MAX_LIMIT


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(logfiles.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _mine() -> str:
    return f"{os.getpid()}-{start_ticks(os.getpid())}"


def test_log_has_the_name_of_its_server_and_stays_writable(directory: Path) -> None:
    descriptor, made = logfiles.make()
    named = logfiles.name_after(made, os.getpid())
    os.write(descriptor, b"said")
    os.close(descriptor)
    assert named.name.startswith(f"semtrace-run-{_mine()}-")
    assert [path.name for path in directory.iterdir()] == [named.name]
    assert (named.read_text(), named.stat().st_mode & 0o777) == ("said", 0o600)


def test_log_of_an_ended_server_is_removed_others_stay(directory: Path) -> None:
    names = []
    with subprocess.Popen(["sleep", "60"]) as server:
        for pid in (server.pid, os.getpid()):
            descriptor, made = logfiles.make()
            os.close(descriptor)
            names.append(logfiles.name_after(made, pid))
        logfiles.sweep()
        assert all(name.exists() for name in names)
        server.kill()
    logfiles.sweep()
    assert [name.exists() for name in names] == [False, True]


def test_a_reused_pid_is_another_server(directory: Path) -> None:
    log = directory / f"semtrace-run-{os.getpid()}-{(start_ticks(os.getpid()) or 0) - 1}-abcd1234.log"
    log.touch()
    logfiles.sweep()
    assert not log.exists()


def test_what_somebody_still_writes_stays(directory: Path) -> None:
    """A shell that started the server has ended, or it runs in another container."""
    log = directory / GONE
    with log.open("w"):
        logfiles.sweep()
        assert log.exists()
    wait_until(lambda: logfiles.sweep() or not log.exists())


@pytest.mark.parametrize(
    "name",
    [
        "semtrace-run-abcd1234.log",  # of an earlier version: whose it is is not known
        "semtrace-run-4194399-12-abcd1234.log.gz",
        "x-" + GONE,
        "semtrace-run-4194399-12-ABCD1234.log",
        "semtrace-run-4194399-12-abcd123.log",
        "semtrace-run-0-12-abcd1234.log",
    ],
)
def test_a_file_of_another_name_stays(directory: Path, name: str) -> None:
    (directory / name).touch()
    logfiles.sweep()
    assert (directory / name).exists()


def test_links_and_directories_stay(directory: Path) -> None:
    other = directory / "precious"
    other.write_text("x")
    (directory / GONE).symlink_to(other)
    (directory / GONE.replace("abcd", "bcde")).mkdir()
    os.link(other, directory / GONE.replace("abcd", "cdef"))
    logfiles.sweep()
    assert len(list(directory.iterdir())) == 4
    assert other.read_text() == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away: needs root")
def test_another_users_stays(directory: Path) -> None:
    (directory / GONE).touch()
    os.chown(directory / GONE, NOBODY, NOBODY)
    logfiles.sweep()
    assert (directory / GONE).exists()


def test_a_directory_that_is_not_there_is_none(directory: Path) -> None:
    logfiles.sweep(directory / "no")


def test_run_removes_older_logs_and_keeps_its_own_until_read(directory: Path) -> None:
    (directory / GONE).touch()
    launched = Launched(["sh", "-c", "echo said"])
    wait_until(lambda: not launched.running)
    assert [path.name for path in directory.iterdir()] == [launched.log.name]
    logfiles.sweep()  # by another run
    assert launched.last_lines() == ["said"]
    launched.forget()
    launched.forget()
    assert list(directory.iterdir()) == []


def test_last_lines_of_a_long_deleted_log_are_shown(directory: Path) -> None:
    launched = Launched(["sh", "-c", "yes | head -c 3000000; echo; echo last"])
    wait_until(lambda: not launched.running)
    launched.log.unlink()
    tracemalloc.start()
    lines = launched.last_lines()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (lines[-1], len(lines)) == ("last", 20)
    assert most < 3_000_000, "not all of it is read"
    launched.forget()


def test_without_a_place_for_its_output_nothing_is_started(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfiles.tempfile, "tempdir", str(directory / "no"))
    with pytest.raises(SemtraceError, match="No such file"):
        Launched(["sh", "-c", "echo said"])


def test_line_without_an_end_keeps_only_its_beginning(directory: Path) -> None:
    launched = Launched(["sh", "-c", "head -c 2000000 /dev/zero | tr '\\0' x; echo; echo after"])
    wait_until(lambda: not launched.running)
    lines = [line for _ in range(20) for line in launched.output()]
    assert [len(line) for line in lines] == [4096, 5]
    assert [len(line) for line in launched.last_lines()] == [4096, 5]
    launched.forget()


def test_the_output_is_read_though_its_name_has_gone(directory: Path) -> None:
    launched = Launched(["sh", "-c", "echo said"])
    wait_until(lambda: not launched.running)
    launched.log.unlink()
    assert launched.output() == launched.last_lines() == ["said"]
    launched.forget()


def test_slow_stop_of_a_server_is_announced_and_awaited(directory: Path) -> None:
    slow = "trap 'sleep 1; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    launched, told = Launched(["sh", "-c", slow]), list[str]()
    wait_until(lambda: launched.last_lines() == ["ready"])
    assert launched.stop(told.append) == 7
    assert told == [f"waiting for process {launched.pid} to stop (Ctrl-C hurries it)"]
    launched.forget()


def test_a_server_that_stops_at_once_needs_no_word(directory: Path) -> None:
    launched, told = Launched(["sleep", "60"]), list[str]()
    assert launched.stop(told.append) == 128 + signal.SIGTERM
    assert not told
    launched.forget()
