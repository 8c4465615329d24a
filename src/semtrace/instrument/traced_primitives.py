"""The drop-in replacements: what multiprocessing's functions of the same names return, traced and with a name.

They need no install(). `ctx` is a multiprocessing context; by default the one that is set when they are called.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing import synchronize
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

from semtrace.instrument.patch import trace

L = TypeVar("L", bound=synchronize.SemLock)


def Lock(name: str | None = None, *, ctx: BaseContext | None = None) -> synchronize.Lock:  # noqa: N802
    """A traced multiprocessing.Lock."""
    return _named(_context(ctx).Lock(), name)


def RLock(name: str | None = None, *, ctx: BaseContext | None = None) -> synchronize.RLock:  # noqa: N802
    """A traced multiprocessing.RLock."""
    return _named(_context(ctx).RLock(), name)


def Semaphore(  # noqa: N802
    value: int = 1, name: str | None = None, *, ctx: BaseContext | None = None
) -> synchronize.Semaphore:
    """A traced multiprocessing.Semaphore."""
    return _named(_context(ctx).Semaphore(value), name)


def BoundedSemaphore(  # noqa: N802
    value: int = 1, name: str | None = None, *, ctx: BaseContext | None = None
) -> synchronize.BoundedSemaphore:
    """A traced multiprocessing.BoundedSemaphore."""
    return _named(_context(ctx).BoundedSemaphore(value), name)


def Condition(  # noqa: N802
    lock: synchronize.Lock | synchronize.RLock | None = None,
    name: str | None = None,
    *,
    ctx: BaseContext | None = None,
) -> synchronize.Condition:
    """A traced multiprocessing.Condition; a lock that is given keeps its own name, or stays untraced."""
    condition = _context(ctx).Condition(lock)
    _trace_condition(condition, name, own_lock=lock is None)
    return condition


def Event(name: str | None = None, *, ctx: BaseContext | None = None) -> synchronize.Event:  # noqa: N802
    """A traced multiprocessing.Event."""
    event: Any = _context(ctx).Event()
    _trace_condition(event._cond, name)
    trace(event._flag, _part(name, "_flag"))
    return event  # type: ignore[no-any-return]


def Barrier(  # noqa: N802
    parties: int,
    action: Callable[[], object] | None = None,
    timeout: float | None = None,
    name: str | None = None,
    *,
    ctx: BaseContext | None = None,
) -> synchronize.Barrier:
    """A traced multiprocessing.Barrier."""
    barrier: Any = _context(ctx).Barrier(parties, action, timeout)
    _trace_condition(barrier._cond, name)
    return barrier  # type: ignore[no-any-return]


def _context(ctx: BaseContext | None) -> BaseContext:
    return ctx or multiprocessing.get_context()


def _named(lock: L, name: str | None) -> L:
    trace(lock, name)
    return lock


def _trace_condition(condition: Any, name: str | None, own_lock: bool = True) -> None:
    if own_lock:
        trace(condition._lock, name)
    for part in ("_sleeping_count", "_woken_count", "_wait_semaphore"):
        trace(getattr(condition, part), _part(name, part))
    condition._make_methods()  # it has bound its lock's methods, which are others now


def _part(name: str | None, part: str) -> str | None:
    return f"{name}.{part}" if name else None
