"""The `threading` locks of a server: named alike in every process, and each process's own. Seen locked in two at once
they are shown to exclude nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from semtrace.cpython.threadlock import read_thread_lock
from semtrace.model import Overlap, ProcessId, ThreadLock, ThreadLockUse
from semtrace.namebook import NameBook
from semtrace.threadwaits import Copy, Key, ThreadWaits, Waits
from semtrace.watched import Watched

# Each costs a read in each process and refresh.
_MOST = 64


class ThreadLocks:
    """Reads all copies in every refresh and keeps the evidence of overlaps."""

    def __init__(self, book: NameBook) -> None:
        self._book = book
        self._overlaps: dict[str, Overlap] = {}
        self._waits = ThreadWaits()

    def read(self, now_s: float, taken_at: float, watched: Sequence[Watched]) -> tuple[ThreadLock, ...]:
        copies: dict[str, list[Copy]] = {}
        for each in watched:
            known = self._book.thread_locks(each.id)
            if known is None or known[0].layout is None:
                continue
            for lock in known[1][:_MOST]:
                copies.setdefault(lock.name, []).append(Copy(each, lock, known[0].layout))
        states = {name: _states(copies[name]) for name in sorted(copies)}
        waits = self._waits.read(now_s, [copy for found in states.values() for copy, locked in found if locked])
        locks = (self._one(name, taken_at, found, waits) for name, found in states.items())
        return tuple(lock for lock in locks if lock.processes)

    def _one(
        self, name: str, taken_at: float, states: Sequence[tuple[Copy, bool]], waits: Mapping[Key, Waits]
    ) -> ThreadLock:
        copies = [copy for copy, _ in states]
        inside = _not_inherited([copy for copy, locked in states if locked])
        if len(inside) > 1:
            # Locked before and after the others were seen locked: then they were so at one time.
            self._note(name, taken_at, [copy.watched.id for copy in inside if _locked(copy)])
        uses = tuple(_use(copy, locked, waits.get(copy.key)) for copy, locked in states)
        own = all(copy.lock.own for copy in copies)
        return ThreadLock(name, copies[0].lock.kind if copies else "", uses, self._overlaps.get(name), own)

    def _note(self, name: str, taken_at: float, inside: Sequence[ProcessId]) -> None:
        if len(inside) < 2:
            return
        before = self._overlaps.get(name) or Overlap(0, 0, taken_at, taken_at, ())
        self._overlaps[name] = replace(
            before,
            times=before.times + 1,
            most=max(before.most, len(inside)),
            last_at=taken_at,
            processes=tuple(inside),
        )


def _states(copies: Sequence[Copy]) -> list[tuple[Copy, bool]]:
    """Those that could be read, and whether they are locked."""
    return [(copy, locked) for copy in copies if (locked := _locked(copy)) is not None]


def _locked(copy: Copy) -> bool | None:
    memory = copy.watched.memory
    return None if memory is None else read_thread_lock(memory, copy.lock, copy.layout)


def _use(copy: Copy, locked: bool, waits: Waits | None) -> ThreadLockUse:
    holder, waiters = (waits.holder, waits.waiters) if waits else (None, ())
    return ThreadLockUse(copy.watched.id, locked, holder, waiters)


def _not_inherited(locked: Sequence[Copy]) -> list[Copy]:
    """Without the copies that a fork made of a lock that was locked already: those say nothing about two being
    inside.
    """
    by_pid = {copy.watched.id.pid: copy for copy in locked}
    return [copy for copy in locked if not _same(copy, by_pid.get(copy.watched.stat.ppid))]


def _same(child: Copy, parent: Copy | None) -> bool:
    return parent is not None and parent.lock.address == child.lock.address
