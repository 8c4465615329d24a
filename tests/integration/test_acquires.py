"""The line at which a real process acquired a real semaphore."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import kill_tree, wait_until
from support.pythons import need

from semtrace.linux import futex
from semtrace.linux.maps import read_mappings
from semtrace.linux.process import read_stat
from semtrace.model import Frame, Holder, Lock, SemId
from semtrace.observe.acquires import acquired_at

PROGRAM = """
import multiprocessing, time
lock = multiprocessing.get_context("fork").RLock()
value = multiprocessing.get_context("fork").Value("i")
def withdraw():
    with value.get_lock():
        pass
    with lock:
        sleep()
def sleep():
    print("ready", flush=True)
    time.sleep(1000)
withdraw()
"""


@contextmanager
def running(tmp_path: Path, python: str) -> Iterator[int]:
    program = tmp_path / "bank.py"
    program.write_text(PROGRAM)
    with subprocess.Popen([need(python), str(program)], stdout=subprocess.PIPE) as popen:
        try:
            assert popen.stdout is not None
            assert popen.stdout.readline()
            wait_until(lambda: all(thread.syscall for thread in futex.threads(popen.pid) or ()), what="sleep")
            yield popen.pid
        finally:
            kill_tree(popen.pid)


@pytest.mark.parametrize("python", ["3.8", "3.12"])
def test_the_line_of_the_with_is_found_without_tracing(tmp_path: Path, python: str) -> None:
    with running(tmp_path, python) as pid:
        stat = read_stat(pid)
        assert stat is not None
        shared = [m for m in read_mappings(pid) or () if m.is_usual and "/dev/shm/" in m.path]
        semaphores = {SemId(*m.device, m.inode) for m in shared}
        holder = Holder(stat.id, pid, 1)
        locks = [Lock(each, "RLock", "held", 0, 1, holders=(holder,)) for each in semaphores]
        found = [place for lock in locks for place in acquired_at(lock).items()]
        assert found == [((stat.id, pid), Frame("withdraw", str(tmp_path / "bank.py"), 8, "with lock:"))]


def test_a_traced_lock_says_itself_where_it_was_acquired(tmp_path: Path) -> None:
    with running(tmp_path, "3.12") as pid:
        stat = read_stat(pid)
        assert stat is not None
        holders = [Holder(stat.id, pid, 1, site=site) for site in (f"{tmp_path / 'bank.py'}:6", "bank.py:x", ":7")]
        places = [
            list(acquired_at(Lock(SemId(0, 0, 1), "Lock", "held", 0, 1, holders=(each,))).values()) for each in holders
        ]
    assert places == [[Frame("", str(tmp_path / "bank.py"), 6, "with value.get_lock():")], [], []]
