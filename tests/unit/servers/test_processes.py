"""psutil's answers at our edge: what has ended or may not be seen is None or empty, never an exception."""

import os
import subprocess
import sys

import psutil
import pytest
from support import start, wait_until

from semtrace.linux.process import Stat, read_stat
from semtrace.model import ProcessId
from semtrace.servers import processes


@pytest.fixture
def gone():
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_what_is_said_of_a_living_process():
    code = "print(flush=True); input()"
    with start(sys.executable, "-c", code, "two words", "", env={"A": "b=c"}, stdin_open=True) as (popen, log):
        wait_until(lambda: log.read_text(), what="its start")
        pid = popen.pid
        assert pid in processes.pids()
        assert processes.parent(pid) == os.getpid()
        assert pid in processes.descendants(os.getppid())
        assert processes.cmdline(pid) == (sys.executable, "-c", code, "two words")
        assert processes.environ(pid)["A"] == "b=c"
        assert processes.executable(pid) == os.path.realpath(sys.executable)
        assert processes.is_python(pid) is True


def test_one_that_has_ended_is_nothing(gone):
    assert processes.parent(gone) is processes.environ(gone) is processes.executable(gone) is None
    assert processes.is_python(gone) is None
    assert (processes.descendants(gone), processes.cmdline(gone), processes.user_name(gone)) == ([], (), "?")
    assert processes.opened(ProcessId(gone, 1)) is None


@pytest.mark.parametrize(
    "error", [psutil.AccessDenied(1), psutil.ZombieProcess(1), psutil.NoSuchProcess(1), OSError(5, "EIO")]
)
def test_no_refusal_gets_out(monkeypatch, error):
    def refuse(*_, **__):
        raise error

    handle = processes.opened(read_stat(os.getpid()).id)
    for name in ("cmdline", "environ", "exe", "username", "children", "parent", "num_threads"):
        monkeypatch.setattr(psutil.Process, name, refuse)
    pid = os.getpid()
    assert (processes.cmdline(pid), processes.descendants(pid), processes.user_name(pid)) == ((), [], "?")
    assert processes.environ(pid) is processes.executable(pid) is processes.parent(pid) is None
    assert processes.usage(handle) is None


def test_a_padded_title_has_no_empty_words(monkeypatch):
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: ["gunicorn: master [a:b]", "", "", ""])
    assert processes.cmdline(os.getpid()) == ("gunicorn: master [a:b]",)


def test_usage_is_never_that_of_a_process_reusing_the_pid():
    with start(sys.executable, "-c", "while True: pass") as (popen, _):
        stat = read_stat(popen.pid)
        assert processes.opened(ProcessId(popen.pid, stat.id.start_ticks - 1)) is None
        handle = processes.opened(stat.id)
        used = wait_until(lambda: (u := processes.usage(handle)) and u.cpu_percent and u, what="CPU time")
        assert (used.state in ("running", "sleeping"), used.threads, used.rss > 1 << 20) == (True, 1, True)
        popen.kill()
        popen.wait()
        assert processes.usage(handle) is None


SPAWNED = ("/usr/bin/python3", "-c", "from multiprocessing.spawn import spawn_main; spawn_main(5, pipe_handle=7)")


@pytest.mark.parametrize(
    ("pid", "pipe", "python", "program", "by"),
    [
        (50, True, True, "/usr/bin/python3", True),
        (50, False, True, "/usr/bin/python3", False),
        (50, True, False, "/usr/bin/perl", False),
        (50, None, True, "/usr/bin/python3", True),
        (50, None, True, None, True),
        (50, None, True, "/opt/other/python3", False),
        (50, None, None, None, False),
        (1, None, True, "/usr/bin/python3", False),
        (1, True, True, "/usr/bin/python3", True),  # in a container
    ],
)
def test_who_started_a_spawned_child(monkeypatch, pid, pipe, python, program, by):
    child = Stat(ProcessId(60, 9), "python3", "sleeping", pid, 0, 0, 1, 0, 0)
    parent = Stat(ProcessId(pid, 1), "x", "sleeping", 0, 0, 0, 1, 0, 0)
    monkeypatch.setattr(processes, "cmdline", lambda of: SPAWNED)
    monkeypatch.setattr(processes, "share_a_pipe", lambda *_: pipe)
    monkeypatch.setattr(processes, "is_python", lambda of: python)
    monkeypatch.setattr(processes, "executable", lambda of: "/usr/bin/python3" if of == 60 else program)
    assert processes.spawned_by(child, parent) is by
