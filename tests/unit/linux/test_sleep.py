"""How long a thread has slept, by the scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from support import wait_until

from semtrace.linux.futex import run_time_ns
from semtrace.linux.sleep import slept_s

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/sched"), reason="this kernel has no /proc/PID/sched (CONFIG_SCHED_DEBUG)"
)


def slept(pid: int) -> float | None:
    ran_ns = run_time_ns(pid, pid)
    return None if ran_ns is None else slept_s(pid, pid, ran_ns)


def test_sleeper_has_slept_since_it_fell_asleep_and_no_longer() -> None:
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as popen:
        try:
            wait_until(lambda: (slept(popen.pid) or 0.0) > 0.5, what="half a second of sleep")
            told = slept(popen.pid)
            assert told is not None
            assert 0.5 < told < time.monotonic() - began
        finally:
            popen.kill()


def test_who_asks_stays_on_the_processors_that_it_had() -> None:
    mine = os.sched_getaffinity(0)
    slept(1)
    assert os.sched_getaffinity(0) == mine


def test_a_processor_that_was_kept_for_others_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by taskset: the sleeper may have run where whoever asks shall not."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as popen:
        try:
            wait_until(lambda: slept(popen.pid), what="sleep")
            monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4095})
            moved: list[object] = []
            monkeypatch.setattr(os, "sched_setaffinity", lambda pid, mask: moved.append(mask))
            assert (slept(popen.pid), moved) == (None, [])
        finally:
            popen.kill()


def test_who_has_run_meanwhile_is_not_told_to_sleep() -> None:
    ran_ns = run_time_ns(os.getpid(), os.getpid())
    assert ran_ns is not None
    asked = []
    thread = threading.Thread(target=lambda: asked.append(slept_s(os.getpid(), os.getpid(), ran_ns - 1)))
    thread.start()
    thread.join()
    assert asked == [None]


def test_of_nobody_nothing_is_told() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert slept_s(gone.pid, gone.pid, 0) is None
