"""One name, several semaphores: without --preload each worker makes "the" lock for itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from semtrace.lazydata import replace
from semtrace.model import Lock, LockState

T = TypeVar("T")

# The state that a row for several shows: the one that most deserves the eye.
_WORST: tuple[LockState, ...] = ("orphaned", "contended", "exhausted", "held", "unknown", "free")


def count_separate(locks: Sequence[Lock]) -> tuple[Lock, ...]:
    """The locks with `separate` set: how many there are of one name that no process maps two of."""
    alike: dict[tuple[str, str | None], list[Lock]] = {}
    for lock in locks:
        if lock.name is not None:
            alike.setdefault((lock.name, lock.part_of), []).append(lock)
    counts = {lock.id: len(these) for these in alike.values() if _apart(these) for lock in these}
    return tuple(replace(lock, separate=counts[lock.id]) if counts.get(lock.id, 1) > 1 else lock for lock in locks)


def combine(locks: Iterable[Lock]) -> tuple[Lock, ...]:
    """The locks with those that are separate under one name as one, in the place of the first of them."""
    rows: dict[object, list[Lock]] = {}
    for lock in locks:
        rows.setdefault((lock.name, lock.part_of) if lock.separate > 1 else lock.id, []).append(lock)
    return tuple(these[0] if len(these) == 1 else _one(these) for these in rows.values())


def _apart(locks: Sequence[Lock]) -> bool:
    mapped = list(chain.from_iterable(lock.mapped_by for lock in locks))
    return len(mapped) == len(set(mapped))


def _one(locks: Sequence[Lock]) -> Lock:
    each = "one a worker" if all(len(lock.mapped_by) == 1 for lock in locks) else "in processes of their own"
    notes = dict.fromkeys(lock.reason for lock in locks if lock.reason)
    return replace(
        locks[0],
        state=min((lock.state for lock in locks), key=_WORST.index),
        value=None,
        holders=tuple(_in_order(lock.holders for lock in locks)),
        waiters=tuple(_in_order(lock.waiters for lock in locks)),
        mapped_by=tuple(_in_order(lock.mapped_by for lock in locks)),
        reason="; ".join([f"{len(locks)} separate locks, {each}: none protects across processes", *notes]),
    )


def _in_order(groups: Iterable[Sequence[T]]) -> Iterator[T]:
    return chain.from_iterable(groups)
