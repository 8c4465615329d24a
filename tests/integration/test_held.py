"""Evidence for who holds a lock, from frames of real processes."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from support import PROGRAMS, kill_tree, wait_until
from support.pythons import need

from semtrace.cpython.held import Evidence, HoldKind, evidence
from semtrace.cpython.stack import StackReader
from semtrace.linux import futex
from semtrace.linux.memory import Memory

SOME = ("3.8", "3.12", "3.14")
HOLDING = PROGRAMS / "holding.py"


# How each way of the program is known, by the function where it is.
KNOWN = {
    "in_with": (HoldKind.INSIDE_WITH, "in_with"),
    "in_condition": (HoldKind.INSIDE_WITH, "in_condition"),
    "in_nested": (HoldKind.INSIDE_WITH, "in_nested"),
    "in_context": (HoldKind.IN_GENERATOR, "exclusive"),
    "in_context_by_calls": (HoldKind.IN_GENERATOR, "exclusive_by_calls"),
    "in_loop": (HoldKind.IN_GENERATOR, "under_lock"),
    "in_variable": (HoldKind.IN_GENERATOR, "under_lock"),
    "in_main_task": (HoldKind.IN_GENERATOR, "works"),
    "in_exit_stack": (HoldKind.IN_EXIT_STACK, "in_exit_stack"),
    "in_exit_stack_of_contexts": (HoldKind.IN_EXIT_STACK, "in_exit_stack_of_contexts"),
    "in_callback": (HoldKind.IN_EXIT_STACK, "later"),
    "between": (HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "between"),
    "between_again": (HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "between_again"),
    "between_shared": (HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "between_shared"),
    "between_in_method": (HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "handle"),
    "between_in_closure": (HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "inner"),
    "between_tested": (HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "between_tested"),
    "after": (HoldKind.AFTER_ACQUIRE_WITHOUT_RELEASE, "after"),
}
TASKS = ("in_coroutine", "in_async_with")  # of asyncio, up to 3.13
NOBODY = ("released", "elsewhere", "of_a_pool", "of_another", "in_wait")
WAIT = ("once", "twice")  # they sleep in the lock itself


@dataclass(frozen=True)
class Held:
    """What was found of each way of the program, by the lock's name there."""

    version: tuple[int, int]
    evidence: dict[str, tuple[Evidence, ...]]
    threads: dict[str, int]


@pytest.fixture(scope="module", params=SOME)
def held(request: pytest.FixtureRequest) -> Iterator[Held]:
    with program(request.param, *KNOWN, *TASKS, *NOBODY, *WAIT) as (pid, lines), Memory(pid) as memory:
        reader = StackReader(pid, memory)
        wait_until(lambda: all(thread.blocked for thread in futex.threads(pid) or ()), what="all threads to sleep")
        wait_until(lambda: is_waiting(reader), what="the last two to sleep in their lock")
        sample = reader.sample()
        assert sample is not None
        locks = {each["lock"]: each["case"] for each in lines}
        waits = {each["pthread"]: each["lock"] for each in lines if each["case"] in WAIT}
        found = evidence(sample, locks, waits)
        assert found is not None
        by_case = {locks[lock]: each for lock, each in found.items()}
        yield Held(sample.objects.layout.version, by_case, {each["case"]: each["pthread"] for each in lines})


@contextlib.contextmanager
def program(version: str, *cases: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    popen = subprocess.Popen([need(version), str(HOLDING), *cases], stdout=subprocess.PIPE, cwd=PROGRAMS)
    try:
        assert popen.stdout is not None
        yield popen.pid, [json.loads(popen.stdout.readline()) for _ in cases]
    finally:
        kill_tree(popen.pid)
        popen.communicate()


def is_waiting(reader: StackReader) -> bool:
    sample = reader.sample()
    return sample is not None and all(
        thread.frames[0].function in (*WAIT, "tell", "wait", "main", "select") for thread in sample.threads
    )


@pytest.mark.parametrize("case", KNOWN)
def test_a_holder_is_known_by_where_it_is(held: Held, case: str) -> None:
    kind, function = KNOWN[case]
    one = next(each for each in held.evidence[case] if each.kind is kind)
    assert one.frame.function == function
    assert one.tested is (case == "between_tested")
    assert {each.thread.pthread_id for each in held.evidence[case]} == {held.threads[case]}
    acquire = HOLDING.read_text().splitlines()[(one.acquired_line or 1) - 1]
    assert (one.acquired_line is None) is (kind is HoldKind.IN_EXIT_STACK)
    assert case != "in_nested" or acquire.endswith("# the one")
    assert acquire.lstrip().startswith("with ") or ".acquire(" in acquire or not one.acquired_line


@pytest.mark.parametrize("case", TASKS)
def test_a_suspended_coroutine_that_holds_a_lock_is_found(held: Held, case: str) -> None:
    if held.version >= (3, 14):
        assert case not in held.evidence
        return
    (one,) = held.evidence[case]
    assert (one.kind, one.frame.function) == (HoldKind.IN_GENERATOR, "works")
    assert one.thread.pthread_id == held.threads[case]


@pytest.mark.parametrize("case", NOBODY)
def test_nobody_is_blamed_without_evidence(held: Held, case: str) -> None:
    assert case not in held.evidence


def test_the_acquire_that_a_thread_sleeps_in_is_no_evidence(held: Held) -> None:
    assert "once" not in held.evidence


def test_one_that_waits_for_what_it_acquired_before(held: Held) -> None:
    (one,) = held.evidence["twice"]
    lines = HOLDING.read_text().splitlines()
    assert one.kind is HoldKind.AFTER_ACQUIRE_WITHOUT_RELEASE
    assert one.acquired_line is not None
    assert lines[one.acquired_line - 1] == lines[one.acquired_line] == "    lock.acquire()"
    assert one.frame.line == one.acquired_line + 1
