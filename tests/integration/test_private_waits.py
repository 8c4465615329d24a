"""Threads that sleep in private memory, and what they are found to wait for."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from support import PROGRAMS, kill_tree, wait_until
from support.pythons import need

from semtrace.cpython.privatewait import PrivateWait, WaitKind, private_wait
from semtrace.cpython.stack import PyThread, Sample, StackReader
from semtrace.linux import futex
from semtrace.linux.memory import Memory

SOME = ("3.8", "3.12", "3.14")
NEWEST = ("3.13", "3.15")  # what differs in them: parked threads, and locks that are a PyMutex everywhere


TOGETHER = (
    *("lock", "timed_acquire", "attribute", "class_attribute", "context", "rlock", "itself", "logging", "print"),
    *("queue", "simple_queue", "event", "future", "copied_pool", "join", "pool_end", "import", "buffered"),
    *("c_library", "queue_lock"),
)


@dataclass(frozen=True)
class Asleep:
    """A thread that slept while it was sampled, and the futex that it slept in."""

    sample: Sample
    thread: PyThread
    futex: int

    @property
    def wait(self) -> PrivateWait:
        return private_wait(self.sample, self.thread, self.futex)

    @property
    def others(self) -> set[int]:
        """The pthread ids of the other threads."""
        return {each.pthread_id for each in self.sample.threads} - {self.thread.pthread_id}


@pytest.fixture(scope="module")
def asleep() -> Iterator[Callable[[str, str], Asleep]]:
    """Start a program for each version with all cases, and for those that need one for themselves."""
    with contextlib.ExitStack() as stack:

        @cache
        def started(version: str, *cases: str) -> dict[str, Asleep]:
            return stack.enter_context(program(version, *cases))

        yield lambda version, case: started(version, *(TOGETHER if case in TOGETHER else (case,)))[case]


@contextlib.contextmanager
def program(version: str, *cases: str) -> Iterator[dict[str, Asleep]]:
    command = [need(version), str(PROGRAMS / "private_waits.py"), *cases]
    popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=PROGRAMS)
    try:
        assert popen.stdout is not None
        lines = [json.loads(popen.stdout.readline()) for _ in cases]
        with Memory(popen.pid) as memory:
            reader = StackReader(popen.pid, memory)
            yield {each["case"]: settled(popen.pid, reader, each) for each in lines}
    finally:
        kill_tree(popen.pid)
        popen.communicate()


def settled(pid: int, reader: StackReader, said: dict[str, Any]) -> Asleep:
    """Wait until the thread sleeps in futex, and has not run while it was sampled."""

    def sampled() -> Asleep | None:
        before, ran = futex.read_thread(pid, said["tid"]), futex.run_time_ns(pid, said["tid"])
        sample = reader.sample()
        if before is None or not before.futex or sample is None:
            return None
        found = [Asleep(sample, each, before.futex) for each in sample.threads if each.pthread_id == said["pthread"]]
        still = futex.run_time_ns(pid, said["tid"]) == ran
        return found[0] if found and still and not is_about_to_sleep(found[0]) else None

    return wait_until(sampled, what=f"{said['case']} to sleep")


def is_about_to_sleep(asleep: Asleep) -> bool:
    """Return True while it waits only to go on: every thread but the one of that case does so for a bit."""
    return asleep.wait.kind is WaitKind.GIL and asleep.thread.frames[0].function != "runs"


Ask = Callable[[str, str], Asleep]


@pytest.mark.parametrize("version", SOME)
@pytest.mark.parametrize(
    ("case", "kind", "member", "variable"),
    [
        ("lock", WaitKind.LOCK, None, "lock"),
        ("timed_acquire", WaitKind.LOCK, None, "lock"),
        ("attribute", WaitKind.LOCK, "{case}.Batcher._lock", "self._lock"),
        ("class_attribute", WaitKind.LOCK, "{case}.Batcher.shared", "batcher.shared"),
        ("context", WaitKind.LOCK, None, "guard"),
        ("rlock", WaitKind.RLOCK, None, "tree"),
        ("itself", WaitKind.LOCK, "queue.Queue.mutex", "jobs.mutex"),
        ("logging", WaitKind.LOGGING, "logging.StreamHandler.lock", None),
    ],
)
def test_a_lock_is_known_by_what_leads_to_it(
    asleep: Ask, version: str, case: str, kind: WaitKind, member: str | None, variable: str | None
) -> None:
    wait = asleep(version, case).wait
    assert wait.kind is kind
    assert wait.locked
    assert (f"{wait.member.owner}.{wait.member.label}" if wait.member else None) == (
        member and member.format(case=case)
    )
    assert (wait.user_way.text if wait.user_way else None) == variable


@pytest.mark.parametrize("version", SOME)
@pytest.mark.parametrize(
    ("case", "primitive", "operation"),
    [
        ("queue", "queue.Queue", "get"),
        ("simple_queue", "_queue.SimpleQueue", "get"),
        ("event", "threading.Event", "wait"),
        ("copied_pool", "dispatch.pool.MapResult", "get"),
        ("future", "concurrent.futures._base.Future", "result"),
    ],
)
def test_a_wait_for_a_signal_names_the_primitive(
    asleep: Ask, version: str, case: str, primitive: str, operation: str
) -> None:
    wait = asleep(version, case).wait
    assert (wait.kind, wait.primitive, wait.operation) == (WaitKind.CONDITION, primitive, operation)


@pytest.mark.parametrize("version", [*SOME, "3.13"])
@pytest.mark.parametrize("case", ["shutdown", "join", "pool_end"])
def test_a_wait_for_the_end_of_a_thread_names_it(asleep: Ask, version: str, case: str) -> None:
    found = asleep(version, case)
    wait = found.wait
    assert wait.kind is WaitKind.THREAD_END
    assert wait.thread is not None
    assert wait.thread.name == ("pool_0" if case == "pool_end" else "cache-job")
    assert wait.thread.at_exit is (case == "shutdown")
    assert wait.thread.pthread_id in found.others
    natives = {each.pthread_id: each.native_id for each in found.sample.threads}
    assert wait.thread.native_id in (natives[wait.thread.pthread_id or 0], None) or version == "3.8"


@pytest.mark.parametrize("version", SOME)
def test_a_wait_for_an_import_names_the_module(asleep: Ask, version: str) -> None:
    found = asleep(version, "import")
    wait = found.wait
    assert (wait.kind, wait.module) == (WaitKind.IMPORT_LOCK, "slow_import")
    assert wait.owner_pthread in found.others


@pytest.mark.parametrize("version", [*SOME, "3.15"])
def test_the_lock_of_a_buffered_file_has_its_owner(asleep: Ask, version: str) -> None:
    found = asleep(version, "buffered")
    wait = found.wait
    assert (wait.kind, wait.primitive) == (WaitKind.BUFFERED, "_io.BufferedWriter")
    assert wait.owner_pthread in found.others


@pytest.mark.parametrize("version", SOME)
def test_print_waits_for_the_lock_of_standard_output(asleep: Ask, version: str) -> None:
    wait = asleep(version, "print").wait
    assert wait.kind is WaitKind.BUFFERED
    assert [way.text for way in wait.ways] == ["sys.stdout.buffer"]


@pytest.mark.parametrize("version", SOME)
def test_a_recursive_lock_has_its_owner_and_depth(asleep: Ask, version: str) -> None:
    found = asleep(version, "rlock")
    wait = found.wait
    assert wait.depth == 2
    assert wait.owner_pthread in found.others


@pytest.mark.parametrize("version", SOME)
def test_a_thread_that_waits_for_the_interpreter_could_run(asleep: Ask, version: str) -> None:
    assert asleep(version, "gil").wait.kind is WaitKind.GIL


@pytest.mark.parametrize("version", SOME)
def test_a_mutex_of_a_c_library_is_unknown(asleep: Ask, version: str) -> None:
    assert asleep(version, "c_library").wait.kind is WaitKind.UNKNOWN


@pytest.mark.parametrize("version", NEWEST)
@pytest.mark.parametrize("case", ["lock", "simple_queue", "event", "rlock", "import"])
def test_parked_threads_are_understood_too(asleep: Ask, version: str, case: str) -> None:
    kinds = {"lock": WaitKind.LOCK, "rlock": WaitKind.RLOCK, "import": WaitKind.IMPORT_LOCK}
    assert asleep(version, case).wait.kind is kinds.get(case, WaitKind.CONDITION)
