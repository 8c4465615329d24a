"""Stacks that were true once, as long as they stay true: until their threads have run. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from semtrace.model import Frame, Holder, Lock, ProcessId, Snapshot, ThreadLock, ThreadLockUse, Waiter

T = TypeVar("T", Holder, Waiter)


class StackBook:
    """Remember the stacks of holders and waiters, and put them where a later snapshot lacks them."""

    def __init__(self) -> None:
        self._stacks: dict[tuple[ProcessId, int], tuple[float, tuple[Frame, ...]]] = {}
        self._before = self._stacks
        self._now_s = 0.0

    def filled(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with what is known; forget what is not true any more, and learn what is new."""
        self._before, self._stacks, self._now_s = self._stacks, {}, snapshot.monotonic_s
        locks = tuple(map(self._lock, snapshot.locks))
        private = tuple(map(self._private, snapshot.thread_locks))
        if not self._before:
            return snapshot
        return replace(snapshot, locks=locks, thread_locks=private)

    def _lock(self, lock: Lock) -> Lock:
        if not (lock.holders or lock.waiters):
            return lock
        return replace(lock, holders=tuple(map(self._one, lock.holders)), waiters=tuple(map(self._one, lock.waiters)))

    def _private(self, lock: ThreadLock) -> ThreadLock:
        if not any(use.holder or use.waiters for use in lock.processes):
            return lock
        return replace(lock, processes=tuple(map(self._use, lock.processes)))

    def _use(self, use: ThreadLockUse) -> ThreadLockUse:
        holder = self._one(use.holder) if use.holder else None
        return replace(use, holder=holder, waiters=use.waiters and tuple(map(self._one, use.waiters)))

    def _one(self, each: T) -> T:
        if each.tid is None:
            return each
        key = each.process, each.tid
        if each.stack is not None:
            self._stacks[key] = self._now_s, each.stack
            return each
        taken_s, stack = self._before.get(key, (0.0, None))
        if stack is None or each.asleep_s is None or self._now_s - each.asleep_s > taken_s:
            return each
        self._stacks[key] = taken_s, stack
        return replace(each, stack=stack)
