"""Threads that sleep in private memory, and what they are found to wait for."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

import pytest
from pythons import need
from support import PROGRAMS, kill_tree, wait_until

from semtrace.cpython.privatewait import PrivateWait, WaitKind, private_wait
from semtrace.cpython.stack import PyThread, Sample, StackReader
from semtrace.linux import futex
from semtrace.linux.memory import Memory

SOME = ("3.8", "3.12", "3.14")
NEWEST = ("3.13", "3.15")  # what differs in them: parked threads, and locks that are a PyMutex everywhere


@contextlib.contextmanager
def asleep(version: str, case: str) -> Iterator[tuple[Sample, PyThread, int, dict[str, int]]]:
    """Yield a sample, the thread that sleeps in it, the futex that it sleeps in, and what the program said."""
    command = [need(version), str(PROGRAMS / "private_waits.py"), case]
    popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=PROGRAMS)
    try:
        assert popen.stdout is not None
        said = json.loads(popen.stdout.readline())
        with Memory(popen.pid) as memory:
            yield *_settled(popen.pid, StackReader(popen.pid, memory), said), said
    finally:
        kill_tree(popen.pid)
        popen.communicate()


def _settled(pid: int, reader: StackReader, said: dict[str, int]) -> tuple[Sample, PyThread, int]:
    """Wait until the thread sleeps in futex, and has not run while it was sampled."""

    def settled() -> tuple[Sample, PyThread, int] | None:
        before, ran = futex.read_thread(pid, said["tid"]), futex.run_time_ns(pid, said["tid"])
        sample = reader.sample()
        if before is None or not before.futex or sample is None:
            return None
        thread = next((each for each in sample.threads if each.pthread_id == said["pthread"]), None)
        still = futex.run_time_ns(pid, said["tid"]) == ran
        return (sample, thread, before.futex) if thread and still and not is_gil_alone(sample, thread, before) else None

    return wait_until(settled, what=f"a sleeping thread of {pid}")


def is_gil_alone(sample: Sample, thread: PyThread, asleep: futex.Thread) -> bool:
    """Return True while it waits only to say that it sleeps: each thread but the one of that case does so for a bit."""
    waits_for_gil = private_wait(sample, thread, asleep.futex or 0).kind is WaitKind.GIL
    return waits_for_gil and thread.frames[0].function != "runs"


def waits(version: str, case: str) -> PrivateWait:
    with asleep(version, case) as (sample, thread, word, _):
        return private_wait(sample, thread, word)


@pytest.mark.parametrize("version", SOME)
@pytest.mark.parametrize(
    ("case", "kind", "member", "variable"),
    [
        ("lock", WaitKind.LOCK, None, "lock"),
        ("timed_acquire", WaitKind.LOCK, None, "lock"),
        ("attribute", WaitKind.LOCK, "__main__.Batcher._lock", "self._lock"),
        ("class_attribute", WaitKind.LOCK, "__main__.Batcher.shared", "batcher.shared"),
        ("context", WaitKind.LOCK, None, "guard"),
        ("rlock", WaitKind.RLOCK, None, "tree"),
        ("itself", WaitKind.LOCK, "queue.Queue.mutex", "jobs.mutex"),
        ("logging", WaitKind.LOGGING, "logging.StreamHandler.lock", None),
    ],
)
def test_a_lock_is_known_by_what_leads_to_it(
    version: str, case: str, kind: WaitKind, member: str | None, variable: str | None
) -> None:
    wait = waits(version, case)
    assert wait.kind is kind
    assert wait.locked
    assert (f"{wait.member.owner}.{wait.member.label}" if wait.member else None) == member
    assert (wait.user_way.text if wait.user_way else None) == variable


@pytest.mark.parametrize("version", SOME)
@pytest.mark.parametrize(
    ("case", "primitive", "operation"),
    [
        ("queue", "queue.Queue", "get"),
        ("simple_queue", "_queue.SimpleQueue", "get"),
        ("event", "threading.Event", "wait"),
        ("future", "concurrent.futures._base.Future", "result"),
    ],
)
def test_a_wait_for_a_signal_names_the_primitive(version: str, case: str, primitive: str, operation: str) -> None:
    wait = waits(version, case)
    assert (wait.kind, wait.primitive, wait.operation) == (WaitKind.CONDITION, primitive, operation)


@pytest.mark.parametrize("version", [*SOME, "3.13"])
@pytest.mark.parametrize("case", ["shutdown", "join", "pool_end"])
def test_a_wait_for_the_end_of_a_thread_names_it(version: str, case: str) -> None:
    with asleep(version, case) as (sample, thread, word, said):
        wait = private_wait(sample, thread, word)
        assert wait.kind is WaitKind.THREAD_END
        assert wait.thread is not None
        assert wait.thread.name == ("pool_0" if case == "pool_end" else "cache-job")
        assert wait.thread.at_exit is (case == "shutdown")
        assert wait.thread.pthread_id in {each.pthread_id for each in sample.threads}
        assert said.get("worker", wait.thread.native_id) == wait.thread.native_id


@pytest.mark.parametrize("version", SOME)
def test_a_wait_for_an_import_names_the_module(version: str) -> None:
    with asleep(version, "import") as (sample, thread, word, _):
        wait = private_wait(sample, thread, word)
        assert (wait.kind, wait.module) == (WaitKind.IMPORT_LOCK, "slow_import")
        assert wait.owner_pthread in {each.pthread_id for each in sample.threads} - {thread.pthread_id}


@pytest.mark.parametrize("version", [*SOME, "3.15"])
def test_the_lock_of_a_buffered_file_has_its_owner(version: str) -> None:
    with asleep(version, "buffered") as (sample, thread, word, _):
        wait = private_wait(sample, thread, word)
        assert (wait.kind, wait.primitive) == (WaitKind.BUFFERED, "_io.BufferedWriter")
        assert wait.owner_pthread in {each.pthread_id for each in sample.threads} - {thread.pthread_id}


@pytest.mark.parametrize("version", SOME)
def test_a_recursive_lock_has_its_owner_and_depth(version: str) -> None:
    with asleep(version, "rlock") as (sample, thread, word, _):
        wait = private_wait(sample, thread, word)
        assert wait.depth == 2
        assert wait.owner_pthread in {each.pthread_id for each in sample.threads} - {thread.pthread_id}


@pytest.mark.parametrize("version", SOME)
def test_a_thread_that_waits_for_the_interpreter_could_run(version: str) -> None:
    assert waits(version, "gil").kind is WaitKind.GIL


@pytest.mark.parametrize("version", SOME)
def test_a_mutex_of_a_c_library_is_unknown(version: str) -> None:
    assert waits(version, "c_library").kind is WaitKind.UNKNOWN


@pytest.mark.parametrize("version", NEWEST)
@pytest.mark.parametrize("case", ["lock", "simple_queue", "event", "rlock", "import"])
def test_parked_threads_are_understood_too(version: str, case: str) -> None:
    kinds = {"lock": WaitKind.LOCK, "rlock": WaitKind.RLOCK, "import": WaitKind.IMPORT_LOCK}
    assert waits(version, case).kind is kinds.get(case, WaitKind.CONDITION)
