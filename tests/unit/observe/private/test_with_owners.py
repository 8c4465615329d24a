"""Who is inside `with` a lock, asked of this very process: what cannot be read is not taken for nobody."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import pytest
from support import wait_until

from semtrace.cpython import held, stack
from semtrace.cpython.held import HoldKind
from semtrace.linux.memory import Memory
from semtrace.linux.process import read_stat
from semtrace.observe.private import with_owners
from semtrace.observe.private.with_owners import WithOwners
from semtrace.observe.watch.watched import Watched


@pytest.fixture
def own() -> Iterator[Watched]:
    stat = read_stat(os.getpid())
    assert stat is not None
    with contextlib.closing(Watched(stat)) as watched:
        yield watched


def inside_of(*locks: object) -> list[int] | None:
    with Memory.own() as memory:
        sample = stack.StackReader(os.getpid(), memory).sample()
        found = held.evidence(sample, [id(lock) for lock in locks]) if sample else None
    if found is None:
        return None
    return [each.lock for every in found.values() for each in every if each.kind is HoldKind.INSIDE_WITH]


def test_lock_of_a_with_block_is_found_and_no_other() -> None:
    lock, other = threading.Lock(), threading.Lock()
    with lock:
        assert inside_of(lock, other) == [id(lock)]
    assert inside_of(lock, other) == []


def test_who_waits_for_a_signal_is_not_inside_its_lock() -> None:
    lock = threading.Lock()
    condition = threading.Condition(lock)

    def waits() -> None:
        with condition:
            condition.wait()

    waiter = threading.Thread(target=waits)
    waiter.start()
    wait_until(lambda: condition._waiters, what="a waiter")  # type: ignore[attr-defined]
    try:
        with lock:  # it is free, so the waiter has given it back
            assert inside_of(lock) == [id(lock)]
        assert inside_of(lock) == []
    finally:
        with condition:
            condition.notify()
        waiter.join()


def test_an_interpreter_that_is_not_found_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "lock_place", lambda *arguments: None)
    assert inside_of(threading.Lock()) is None


def test_nobody_is_inside_only_where_the_frames_were_readable(own: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.Lock()
    key = own.id, id(lock)
    for told, nobody in (({}, True), (None, False)):
        monkeypatch.setattr(with_owners, "evidence", lambda sample, locks, waits, told=told: told)
        asked = WithOwners()
        asked.ask(0.0, {own: {id(lock)}})
        assert asked.nobody(key) is nobody
        assert asked.of(key) is None


# What a hostile program may do: a context manager that is inside itself many times over.
class _GeneratorContextManager:
    __module__ = "contextlib"
    gen: Iterator[None]

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def _nested(m: _GeneratorContextManager) -> Iterator[None]:
    with m, m, m, m, m, m, m, m, m, m, m, m, m, m, m, m:
        yield


def test_context_manager_inside_itself_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = _GeneratorContextManager()
    manager.gen = _nested(manager)
    next(manager.gen)
    began = time.perf_counter()
    with manager, manager, manager, manager, manager, manager, manager, manager:
        assert inside_of(threading.Lock()) == []
        monkeypatch.setattr(held, "MOST_VALUES", 5)  # less than there is to look at
        assert inside_of(threading.Lock()) is None
    assert time.perf_counter() - began < 5
