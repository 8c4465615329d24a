"""The kernel's id of a thread, from the id that Python knows: by the target's C library and by its thread states."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import pytest
from support import kill_tree
from support.pythons import VERSIONS, need

from semtrace.cpython import threadids
from semtrace.linux.maps import read_mappings
from semtrace.linux.memory import Memory
from semtrace.linux.pthread import innermost_ids, kernel_tid

# Two threads and a forked child, each with its pthread id; the children of 3.12 have their parent's native_thread_id.
PROGRAM = """
import os, threading, time
def tell(): os.write(1, b"%d %d %d\\n" % (os.getpid(), threading.get_ident(), threading.get_native_id()))
other = threading.Thread(target=lambda: (tell(), time.sleep(600)), daemon=True)
other.start()
tell()
if not os.fork(): tell()
time.sleep(600)
"""
COUNTED = [version for version in VERSIONS if int(version[2:]) >= 11]


@contextlib.contextmanager
def running(version: str) -> Iterator[list[tuple[int, int, int]]]:
    """Yield the pid, pthread id and kernel id of each thread that has told them."""
    command = [need(version), "-W", "ignore", "-c", PROGRAM]
    popen = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert popen.stdout
        yield [tuple(map(int, popen.stdout.readline().split())) for _ in range(3)]  # type: ignore[misc]
    finally:
        kill_tree(popen.pid)
        popen.communicate()


def offset_of(memory: Memory, living: frozenset[int] | None = None) -> int | None:
    mappings = read_mappings(memory.pid) or []
    return threadids.tid_offset(memory, mappings, innermost_ids(memory.pid) if living is None else living)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_target_s_library_leads_to_each_thread(version: str) -> None:
    with running(version) as told:
        for pid, pthread, tid in told:
            with Memory(pid) as memory:
                assert kernel_tid(memory, pid, pthread, 2, offset_of(memory)) == tid


@pytest.mark.parametrize("version", COUNTED)
def test_thread_states_lead_there_without_a_library(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threadids, "_by_library", lambda *_: None)
    with running(version) as told:
        pid, pthread, tid = told[0]
        with Memory(pid) as memory:
            assert kernel_tid(memory, pid, pthread, 2, offset_of(memory)) == tid


@pytest.mark.parametrize("version", COUNTED)
def test_offset_that_thread_states_contradict_is_not_used(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threadids, "_by_library", lambda *_: 8)
    with running(version) as told, Memory(told[0][0]) as memory:
        assert offset_of(memory) is None


def test_memory_without_a_library_tells_nothing() -> None:
    with Memory.own() as memory:
        assert threadids.tid_offset(memory, [], frozenset()) is None
