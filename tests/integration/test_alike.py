"""Private locks of a process are found by the names that they have in another one of the same program."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from support import PROGRAMS, start, wait_until
from support.pythons import VERSIONS, need

from semtrace.cpython.alike import locks_alike
from semtrace.cpython.name_walk import Walk, walk
from semtrace.cpython.threadlock import FoundThreadLock, read_thread_lock
from semtrace.linux.memory import Memory


def by_name(found: Walk | None) -> dict[str, FoundThreadLock]:
    return {lock.name: lock for lock in found.thread_locks} if found else {}


def _is_ready(log: Path) -> bool:
    return "ready" in log.read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_locks_of_a_sibling_are_found_without_a_walk(version: str) -> None:
    command = (need(version), str(PROGRAMS / "two_private_locks.py"))
    with start(*command) as (one, first), start(*command) as (other, second):
        for log in (first, second):
            wait_until(partial(_is_ready, log), what="the locks")
        with Memory(one.pid) as there, Memory(other.pid) as memory:
            known = by_name(walk(one.pid, there))
            alike = locks_alike(other.pid, memory, tuple(known.values()))
            assert alike is not None
            assert alike.layout is not None
            assert by_name(alike) == by_name(walk(other.pid, memory))
            assert read_thread_lock(memory, by_name(alike)["__main__.guard"], alike.layout)


def test_own_modules_are_walked_without_all_others() -> None:
    with start(need("3.11"), str(PROGRAMS / "two_private_locks.py")) as (popen, log):
        wait_until(partial(_is_ready, log), what="the locks")
        with Memory(popen.pid) as memory:
            whole, own = walk(popen.pid, memory), walk(popen.pid, memory, only_user=True)
    assert by_name(own) == by_name(whole)
    assert own.objects < whole.objects / 10
