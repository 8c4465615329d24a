"""Builds of Python whose objects cannot be read: never healthy without a word, and shared locks as far as they go."""

from __future__ import annotations

import os
import shutil

import pytest
from support import pythons, start, wait_until
from support.targets import observing, target, until

from semtrace.cpython.layout import DEBUG_FREE_THREADED, DEBUG_VERSION
from semtrace.cpython.page_cache import Pages
from semtrace.cpython.runtime import _find_runtime
from semtrace.linux.maps import read_mappings
from semtrace.linux.memory import Memory
from semtrace.model import Snapshot
from semtrace.reports.diagnosis import doctor_text
from semtrace.reports.schema import snapshot_json

PROGRAM = """
import multiprocessing, os, sys, threading, time
lock, guard = multiprocessing.Lock(), threading.Lock()
lock.acquire()
if not os.fork():
    lock.acquire()
open(sys.argv[1], "w").close()
time.sleep(600)
"""


def unread(snapshot: Snapshot) -> str:
    """Return why private locks were not looked at, with everything checked that has to be null or said then."""
    (problem,) = (problem for problem in snapshot.problems if problem.unread == "private-locks")
    assert snapshot_json(snapshot)["thread_locks"] is None
    lines = list(doctor_text(snapshot, 30))
    assert lines[0].startswith(("UNKNOWN: ", "WAITING: "))
    assert not any(line.startswith("Nothing wrong") for line in lines)
    assert any("the private locks (threading, asyncio), and deadlocks through them: " in line for line in lines)
    return problem.error


@pytest.mark.skipif(shutil.which("pypy3") is None, reason="no PyPy here (Debian: pypy3)")
def test_pypy_is_named_and_its_waiters_are_seen(tmp_path: os.PathLike[str]) -> None:
    ready = f"{os.fspath(tmp_path)}/ready"
    with start("pypy3", "-c", PROGRAM, ready) as (popen, _):
        wait_until(lambda: os.path.exists(ready), what="it to begin")
        with observing(popen.pid) as observer:
            snapshot = until(observer, lambda s: s.locks and s.locks[0].waiters and s.problems)
    assert unread(snapshot) == "it runs on PyPy, and only CPython's objects can be read"
    (lock,) = snapshot.locks
    assert (lock.state, lock.value, lock.holders) == ("unknown", 0, ())


def poke(pid: int, word: int, value: int) -> None:
    """Have the interpreter describe itself as another build (`_Py_DebugOffsets`). It does not read that itself."""
    with Memory(pid) as memory:
        runtime, _ = _find_runtime(Pages(memory), read_mappings(pid) or [])
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as file:
        file.seek(runtime + 8 * word)
        file.write(value.to_bytes(8, "little"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change a process's memory")
@pytest.mark.parametrize(
    ("version", "word", "value", "why"),
    [
        ("3.13", DEBUG_FREE_THREADED, 1, "free-threaded"),
        ("3.14", DEBUG_FREE_THREADED, 1, "free-threaded"),
        ("3.15", DEBUG_FREE_THREADED, 1, "free-threaded"),
        ("3.15", DEBUG_VERSION, 0x031000F0, "no layout for CPython 3.16"),
    ],
)
def test_build_without_a_layout_is_refused(version: str, word: int, value: int, why: str) -> None:
    with target(pythons.need(version)) as t:
        poke(t.root, word, value)
        with observing(t.root) as observer:
            assert why in unread(until(observer, lambda s: s.problems))
