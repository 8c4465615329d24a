"""Processes that cannot run, and children that nobody has reaped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import wait_until

from semtrace.linux.process import Stat, read_stat
from semtrace.linux.stopped import Stop, Stopped, defunct_children, frozen, stopped

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207


@contextlib.contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as popen:
        try:
            yield popen
        finally:
            popen.kill()


def stat_of(pid: int) -> Stat:
    found = read_stat(pid)
    assert found is not None
    return found


def test_process_stopped_by_a_signal_is_stopped_until_continued() -> None:
    with sleeper() as popen:
        assert stopped(stat_of(popen.pid)) is None
        popen.send_signal(signal.SIGSTOP)
        wait_until(lambda: stopped(stat_of(popen.pid)) == Stopped(Stop.STOPPED), what="it to stop")
        popen.send_signal(signal.SIGCONT)
        wait_until(lambda: stopped(stat_of(popen.pid)) is None, what="it to go on")


TRACER = f"""import ctypes, os, sys
libc, pid = ctypes.CDLL(None), int(sys.argv[1])
failed = libc.ptrace({PTRACE_SEIZE}, pid, None, None) or libc.ptrace({PTRACE_INTERRUPT}, pid, None, None)
print(failed, flush=True)
sys.stdin.read()
"""


def test_a_process_under_a_debugger_names_it() -> None:
    argv = [sys.executable, "-c", TRACER]
    with sleeper() as popen:
        command = [*argv, str(popen.pid)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tracer:
            assert tracer.stdout
            if tracer.stdout.readline() != "0\n":
                pytest.skip("ptrace is not allowed here")
            wait_until(lambda: stopped(stat_of(popen.pid)) == Stopped(Stop.TRACED, tracer.pid), what="it to be traced")


def _groups() -> Iterator[tuple[Path, str, str, str]]:
    """The hierarchies that can freeze: the folder, the file that freezes, what to write, and to thaw."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        system = right.split()
        folder = Path(left.split()[4])
        if system[0] == "cgroup2":
            yield folder, "cgroup.freeze", "1", "0"
        elif system[0] == "cgroup" and "freezer" in system[2].split(","):
            yield folder, "freezer.state", "FROZEN", "THAWED"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a cgroup")
@pytest.mark.parametrize("file", ["cgroup.freeze", "freezer.state"])
def test_a_process_in_a_frozen_cgroup_is_frozen(file: str) -> None:
    found = next((each for each in _groups() if each[1] == file), None)
    if found is None:
        pytest.skip(f"there is no {file} here")
    folder, _, freeze, thaw = found
    outer = folder / f"semtrace-test-{uuid.uuid4().hex}"
    inner = outer / "inner"
    try:
        inner.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    try:
        with sleeper() as popen:
            (inner / "cgroup.procs").write_text(str(popen.pid))
            assert frozen(popen.pid) is False
            (outer / file).write_text(freeze)
            try:
                wait_until(lambda: frozen(popen.pid), what="it to freeze")
                assert stopped(stat_of(popen.pid)) == Stopped(Stop.FROZEN)
            finally:
                (outer / file).write_text(thaw)
            wait_until(lambda: frozen(popen.pid) is False, what="it to thaw")
    finally:
        inner.rmdir()
        outer.rmdir()


def test_a_killed_child_that_nobody_reaped_is_defunct() -> None:
    with sleeper() as popen, sleeper() as alive:
        popen.kill()
        wait_until(lambda: stat_of(popen.pid).ended, what="it to end")
        found = {each.id.pid: each for each in defunct_children([stat_of(os.getpid())])}
        assert alive.pid not in found
        child = found[popen.pid]
        assert (child.parent, child.comm, child.exit_code) == (os.getpid(), "sleep", -signal.SIGKILL)
        if child.ended_s is not None:
            wait_until(lambda: (_ended_s(popen.pid) or 0.0) > 0.2, what="time to pass since its end")
    assert popen.pid not in {each.id.pid for each in defunct_children([stat_of(os.getpid())])}


def _ended_s(pid: int) -> float | None:
    return next(each.ended_s for each in defunct_children([stat_of(os.getpid())]) if each.id.pid == pid)


def test_the_exit_code_of_another_users_child_is_unknown() -> None:
    """The kernel gives a 0 to who may not read the process."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    child = os.fork()
    if child == 0:
        os._exit(3)
    wait_until(lambda: stat_of(child).ended, what="it to end")
    code = f"""import os
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from semtrace.linux.process import read_stat
from semtrace.linux.stopped import defunct_children
print([each.exit_code for each in defunct_children([read_stat({os.getpid()})]) if each.id.pid == {child}])
"""
    try:
        # What the other user may not import is loaded before: the source tree can be root's alone.
        code = "import semtrace.linux.process, semtrace.linux.stopped\n" + code
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        own = [each.exit_code for each in defunct_children([stat_of(os.getpid())]) if each.id.pid == child]
    finally:
        os.waitpid(child, 0)
    assert (done.stdout.strip(), own) == ("[None]", [3])
