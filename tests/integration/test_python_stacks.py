"""Stacks of real processes, read from outside, against what Python says of itself."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from support import PROGRAMS, kill_tree, wait_until
from support.pythons import VERSIONS, need

from semtrace.cpython.forks import own_frames
from semtrace.cpython.stack import PyFrame, PyThread, Sample, StackReader, stacks
from semtrace.cpython.threadids import tid_offset
from semtrace.cpython.variables import interrupted
from semtrace.linux import futex
from semtrace.linux.maps import read_mappings
from semtrace.linux.memory import Memory
from semtrace.linux.process import thread_ids
from semtrace.linux.pthread import kernel_tid

SOME = ("3.8", "3.12", "3.14")
STACKED = PROGRAMS / "stacked.py"
MAIN_LINE = next(n for n, line in enumerate(STACKED.read_text().splitlines(), 1) if "main sleeps here" in line)


@contextlib.contextmanager
def running(version: str, program: Path, *args: str) -> Iterator[tuple[int, str]]:
    """Yield the pid of a program and the first line that it has printed; all of its threads sleep in futex by then."""
    command = [need(version), str(program), *args]
    popen = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        assert popen.stdout is not None
        line = popen.stdout.readline()
        pid = int(line) if line.strip().isdigit() else popen.pid
        wait_until(lambda: all(t.futex for t in futex.threads(pid) or ()), what="all threads to sleep")
        yield pid, line
    finally:
        kill_tree(popen.pid)
        popen.communicate()


def sampled(pid: int, memory: Memory) -> Sample:
    sample = StackReader(pid, memory).sample()
    assert sample is not None
    return sample


def shown(thread: PyThread) -> list[list[str | int | None]]:
    return [[frame.function, frame.qualname, frame.file, frame.line] for frame in thread.frames]


@pytest.mark.parametrize("version", VERSIONS)
def test_stacks_are_those_that_python_reports(version: str) -> None:
    with running(version, STACKED) as (pid, line), Memory(pid) as memory:
        expected = {int(pthread): stack for pthread, stack in json.loads(line).items()}
        sample = sampled(pid, memory)
        assert not sample.cut
        threads = {thread.pthread_id: thread for thread in sample.threads}
        for pthread, stack in expected.items():
            assert shown(threads[pthread]) == stack
        (main,) = (thread for pthread, thread in threads.items() if pthread not in expected)
        assert (main.frames[0].function, main.frames[0].line) == ("main", MAIN_LINE)


@pytest.mark.parametrize("version", VERSIONS)
def test_threads_are_known_by_their_native_ids(version: str) -> None:
    with running(version, STACKED) as (pid, _), Memory(pid) as memory:
        tids = set(thread_ids(pid))
        offset = tid_offset(memory, read_mappings(pid) or [], tids)
        found = stacks(pid, memory, lambda pthread: kernel_tid(memory, pid, pthread, 4, offset))
        assert found is not None
        assert set(found) == tids
        assert found[pid][0].function == "main"
        own = stacks(pid, memory)
        assert own is not None
        assert set(own) == (tids if version not in ("3.8", "3.9", "3.10") else set())


def test_a_process_without_python_has_no_stacks() -> None:
    popen = subprocess.Popen(["sleep", "100"])
    try:
        with Memory(popen.pid) as memory:
            assert stacks(popen.pid, memory) is None
    finally:
        popen.kill()
        popen.wait()


def test_a_process_that_has_ended_has_no_stacks() -> None:
    with running("3.11", STACKED) as (pid, _):
        memory = Memory(pid)
        reader = StackReader(pid, memory)
        assert reader.sample() is not None
    with memory:
        assert reader.sample() is None


def functions(frames: Iterable[PyFrame]) -> list[str]:
    return [frame.function for frame in frames]


@pytest.mark.parametrize("version", SOME)
@pytest.mark.parametrize(
    ("way", "own", "forked"),
    [
        ("by_process", ["work", "run", "_bootstrap"], False),
        ("by_server", ["work", "finish_request"], False),
        ("by_hand", ["work", "by_hand"], True),
        ("by_name", ["work", "by_name"], True),
        ("by_hand", ["work", "by_hand", "<module>"], False),
    ],
)
def test_the_place_of_a_child_ends_at_its_fork(version: str, way: str, own: list[str], forked: bool) -> None:
    with running(version, PROGRAMS / "forked.py", way) as (pid, _), Memory(pid) as memory:
        sample = sampled(pid, memory)
        (thread,) = sample.threads
        assert functions(own_frames(sample, thread.frames, forked)) == own
        assert functions(thread.frames)[-1] == "<module>"


@pytest.mark.parametrize("version", SOME)
@pytest.mark.parametrize("handler", ["plain", "keeping", "method", "anything", "partial", "passing"])
def test_signal_handler_is_recognised_by_the_frame_it_received(version: str, handler: str) -> None:
    with running(version, PROGRAMS / "interrupting.py", handler) as (pid, _), Memory(pid) as memory:
        sample = sampled(pid, memory)
        frames = sample.threads[0].frames
        position = interrupted(sample, frames)
        assert position is not None
        assert frames[position].function == "busy"


@pytest.mark.parametrize("version", SOME)
def test_a_function_that_is_called_is_no_signal_handler(version: str) -> None:
    with running(version, PROGRAMS / "interrupting.py", "none") as (pid, _), Memory(pid) as memory:
        sample = sampled(pid, memory)
        assert functions(sample.threads[0].frames)[:2] == ["sleep", "called"]
        assert interrupted(sample, sample.threads[0].frames) is None
