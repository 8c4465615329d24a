"""Evidence for who holds a lock, from frames of real processes."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

import pytest
from pythons import need
from support import PROGRAMS, kill_tree, wait_until

from semtrace.cpython.held import Evidence, HoldKind, evidence
from semtrace.cpython.stack import StackReader
from semtrace.linux import futex
from semtrace.linux.memory import Memory

SOME = ("3.8", "3.12", "3.14")
HOLDING = PROGRAMS / "holding.py"


@contextlib.contextmanager
def program(version: str, case: str) -> Iterator[tuple[int, dict[str, int]]]:
    popen = subprocess.Popen([need(version), str(HOLDING), case], stdout=subprocess.PIPE, cwd=PROGRAMS)
    try:
        assert popen.stdout is not None
        yield popen.pid, json.loads(popen.stdout.readline())
    finally:
        kill_tree(popen.pid)
        popen.communicate()


def found(version: str, case: str, waits: bool = False) -> tuple[Evidence, ...]:
    """Return the evidence for the program's lock, once its only thread sleeps."""
    with program(version, case) as (pid, said), Memory(pid) as memory:
        reader = StackReader(pid, memory)

        def sleeps() -> bool:
            thread = futex.read_thread(pid, pid)
            return thread is not None and thread.blocked

        wait_until(sleeps, what="the thread to sleep")
        sample = reader.sample()
        assert sample is not None
        lock = said["lock"]
        by_lock = evidence(sample, {lock}, {said["pthread"]: lock} if waits else None)
        assert by_lock is not None
        return by_lock.get(lock, ())


@pytest.mark.parametrize("version", SOME)
@pytest.mark.parametrize(
    ("case", "kind", "function"),
    [
        ("in_with", HoldKind.INSIDE_WITH, "in_with"),
        ("in_condition", HoldKind.INSIDE_WITH, "in_condition"),
        ("in_context", HoldKind.IN_GENERATOR, "exclusive"),
        ("in_context_by_calls", HoldKind.IN_GENERATOR, "exclusive_by_calls"),
        ("in_loop", HoldKind.IN_GENERATOR, "under_lock"),
        ("in_variable", HoldKind.IN_GENERATOR, "under_lock"),
        ("in_exit_stack", HoldKind.IN_EXIT_STACK, "in_exit_stack"),
        ("in_exit_stack_of_contexts", HoldKind.IN_EXIT_STACK, "in_exit_stack_of_contexts"),
        ("in_callback", HoldKind.IN_EXIT_STACK, "later"),
        ("between", HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "between"),
        ("between_again", HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "between_again"),
        ("between_shared", HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "between_shared"),
        ("between_in_method", HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "handle"),
        ("between_in_closure", HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "inner"),
        ("between_tested", HoldKind.BETWEEN_ACQUIRE_AND_RELEASE, "between_tested"),
        ("after", HoldKind.AFTER_ACQUIRE_WITHOUT_RELEASE, "after"),
    ],
)
def test_a_holder_is_known_by_where_it_is(version: str, case: str, kind: HoldKind, function: str) -> None:
    every = found(version, case)
    one = next(each for each in every if each.kind is kind)
    assert one.frame.function == function
    assert one.tested is (case == "between_tested")
    assert {each.thread for each in every} == {one.thread}


@pytest.mark.parametrize("version", SOME)
@pytest.mark.parametrize("case", ["released", "elsewhere", "of_a_pool", "of_another"])
def test_nobody_is_blamed_without_evidence(version: str, case: str) -> None:
    assert found(version, case) == ()


@pytest.mark.parametrize("version", SOME)
def test_the_acquire_that_a_thread_sleeps_in_is_no_evidence(version: str) -> None:
    assert found(version, "once", waits=True) == ()


@pytest.mark.parametrize("version", SOME)
def test_one_that_waits_for_what_it_acquired_before(version: str) -> None:
    (one,) = found(version, "twice", waits=True)
    lines = HOLDING.read_text().splitlines()
    assert one.kind is HoldKind.AFTER_ACQUIRE_WITHOUT_RELEASE
    assert one.acquired_line is not None
    assert lines[one.acquired_line - 1] == lines[one.acquired_line] == "    lock.acquire()"
    assert one.frame.line == one.acquired_line + 1
