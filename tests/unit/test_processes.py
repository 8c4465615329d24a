"""psutil's answers at our edge: what has ended or may not be seen is None or empty, never an exception."""

import os
import subprocess
import sys

import psutil
import pytest
from support import start, wait_until

from semtrace import processes
from semtrace.linux.process import read_stat
from semtrace.model import ProcessId


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


def test_the_usage_is_that_of_the_process_and_not_of_a_later_one_with_its_pid():
    with start(sys.executable, "-c", "while True: pass") as (popen, _):
        stat = read_stat(popen.pid)
        assert processes.opened(ProcessId(popen.pid, stat.id.start_ticks - 1)) is None
        handle = processes.opened(stat.id)
        used = wait_until(lambda: (u := processes.usage(handle)) and u.cpu_percent and u, what="CPU time")
        assert (used.state in ("running", "sleeping"), used.threads, used.rss > 1 << 20) == (True, 1, True)
        popen.kill()
        popen.wait()
        assert processes.usage(handle) is None
