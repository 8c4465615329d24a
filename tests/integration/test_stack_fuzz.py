"""Frames of damaged memory: every question ends in time and raises nothing, whatever it reads."""

from __future__ import annotations

import random
import struct
import subprocess
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import PROGRAMS, kill_tree, wait_until
from support.pythons import need

from semtrace.cpython.forks import own_frames
from semtrace.cpython.held import evidence
from semtrace.cpython.managers import proxy_call, service
from semtrace.cpython.privatewait import private_wait
from semtrace.cpython.stack import Sample, StackReader
from semtrace.cpython.variables import interrupted
from semtrace.linux.memory import Memory

SLACK_S = 10.0  # a loaded machine; without a bound garbage takes for ever
CASES = ("in_with", "in_context", "in_exit_stack", "in_loop", "between", "after", "twice", "in_wait")


class Recorded:
    """Memory as it was read once, some of it damaged."""

    def __init__(self, memory: Memory) -> None:
        self.memory: Memory | None = memory
        self.pieces: dict[tuple[int, int], bytes] = {}

    def read(self, address: int, size: int) -> bytes | None:
        if self.memory is not None and (address, size) not in self.pieces:
            data = self.memory.read(address, size)
            if data is not None:
                self.pieces[address, size] = data
        return self.pieces.get((address, size))


def ask_everything(reader: StackReader) -> Sample | None:
    sample = reader.sample()
    if sample is None:
        return None
    locks = set()
    for thread in sample.threads:
        own_frames(sample, thread.frames, forked=True)
        interrupted(sample, thread.frames)
        for futex in (thread.state, sample.runtime, *(frame.address for frame in thread.frames[:2])):
            wait = private_wait(sample, thread, futex)
            locks.add(wait.lock or 0)
    evidence(sample, locks | {frame.address for thread in sample.threads for frame in thread.frames})
    return sample


@pytest.fixture(scope="module", params=["3.8", "3.11", "3.14"])
def recorded(request: pytest.FixtureRequest) -> tuple[StackReader, Recorded]:
    command = [need(request.param), str(PROGRAMS / "holding.py"), *CASES]
    popen = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROGRAMS)
    try:
        assert popen.stdout is not None
        for _ in CASES:
            popen.stdout.readline()
        with Memory(popen.pid) as memory:
            reader = StackReader(popen.pid, memory)
            image = Recorded(memory)
            reader._memory = image  # type: ignore[assignment]
            assert ask_everything(reader) is not None
            image.memory = None
    finally:
        kill_tree(popen.pid)
        popen.communicate()
    return reader, image


@pytest.fixture(scope="module", params=["3.8", "3.11", "3.14"])
def managed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[StackReader, Recorded]]:
    """Return a client of a Manager, and the manager."""
    command = [need(request.param), str(PROGRAMS / "managers.py"), "rlock", str(tmp_path_factory.mktemp("manager"))]
    popen = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROGRAMS)
    images = []
    try:
        assert popen.stdout is not None
        _, *pids = map(int, popen.stdout.readline().split())
        for pid in pids:
            with Memory(pid) as memory:
                reader = StackReader(pid, memory)
                image = Recorded(memory)
                reader._memory = image  # type: ignore[assignment]
                wait_until(lambda reader=reader, image=image: calls_read_again(reader, image), what="a call")  # type: ignore[misc]
                image.memory = None
            images.append((reader, image))
    finally:
        kill_tree(popen.pid)
        popen.communicate()
    return images


def calls_read_again(reader: StackReader, image: Recorded) -> list[object]:
    image.pieces.clear()
    return calls(reader)


def calls(reader: StackReader) -> list[object]:
    sample = reader.sample()
    threads = sample.threads if sample is not None else ()
    found = [ask(sample, thread.frames) for thread in threads if sample for ask in (proxy_call, service)]
    return [each for each in found if each is not None and each.method]


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), share=st.sampled_from([0.0001, 0.001, 0.01, 0.2]))
def test_damaged_calls_of_a_manager_come_to_an_end(
    managed: list[tuple[StackReader, Recorded]], seed: int, share: float
) -> None:
    for reader, image in managed:
        ask_damaged(reader, image, seed, share, calls)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), share=st.sampled_from([0.0001, 0.001, 0.01, 0.2]))
def test_damaged_frames_come_to_an_end(recorded: tuple[StackReader, Recorded], seed: int, share: float) -> None:
    reader, image = recorded
    ask_damaged(reader, image, seed, share, ask_everything)


def ask_damaged(
    reader: StackReader, image: Recorded, seed: int, share: float, ask: Callable[[StackReader], object]
) -> None:
    """Ask a reader whose memory is damaged for the time being: it comes to an end soon."""
    intact = dict(image.pieces)
    image.pieces.update(damaged(intact, random.Random(seed), share))
    began = time.perf_counter()
    try:
        ask(reader)
    finally:
        image.pieces.clear()
        image.pieces.update(intact)
    assert time.perf_counter() - began < SLACK_S


def damaged(pieces: dict[tuple[int, int], bytes], chance: random.Random, share: float) -> dict[tuple[int, int], bytes]:
    """Put other words of the same memory, or nonsense, in place of some."""
    addresses = [address + chance.randrange(0, size, 8) for address, size in pieces if size >= 8]
    found = {}
    for place, data in pieces.items():
        words = bytearray(data)
        for _ in range(int(len(data) // 8 * share) + (chance.random() < share)):
            at = chance.randrange(0, max(1, len(data) - 7), 8)
            value = chance.choice([chance.choice(addresses), chance.getrandbits(64), 0, chance.getrandbits(16)])
            if at + 8 <= len(words):
                struct.pack_into("<Q", words, at, value)
        found[place] = bytes(words)
    return found
