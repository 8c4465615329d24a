"""For how long tasks have waited for an asyncio lock, by what its deque of waiters shows."""

from __future__ import annotations

import ctypes
from collections import deque

from semtrace.cpython.threadlock import TaskQueue


def queue(size: int, changes: int, address: int = 64) -> TaskQueue:
    return TaskQueue(address, size, changes)


def test_first_waiter_stays_while_others_come() -> None:
    assert queue(3, 12).begins_as(queue(1, 10))
    assert queue(1, 10).begins_as(queue(1, 10))


def test_any_waiter_that_left_starts_the_time_again() -> None:
    assert not queue(1, 12).begins_as(queue(1, 10))  # one left, one came
    assert not queue(1, 11).begins_as(queue(2, 10))
    assert not queue(1, 10, address=128).begins_as(queue(1, 10))
    assert not queue(1, 11).begins_as(queue(0, 10))


def test_deque_of_this_interpreter_counts_as_expected() -> None:
    """CPython counts each append and each removal."""

    def seen(waiters: deque[int]) -> TaskQueue:
        return TaskQueue(id(waiters), len(waiters), ctypes.c_size_t.from_address(id(waiters) + 56).value)

    waiters = deque([1, 2, 3])
    before = seen(waiters)
    waiters.append(4)
    assert seen(waiters).begins_as(before)
    before = seen(waiters)
    waiters.remove(1)
    waiters.append(5)
    assert not seen(waiters).begins_as(before)
    before = seen(waiters)
    waiters.remove(3)
    waiters.append(6)
    assert not seen(waiters).begins_as(before)
