"""The `threading` locks of a server: named alike in every process, and each process's own. Seen locked in two at once
they are shown to exclude nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from semtrace.cpython.layout import Layout
from semtrace.cpython.threadlock import FoundThreadLock, read_thread_lock
from semtrace.model import Overlap, ProcessId, ThreadLock, ThreadLockUse
from semtrace.namebook import NameBook
from semtrace.watched import Watched

# Each costs a read in each process and refresh.
_MOST = 64


@dataclass(frozen=True, slots=True)
class _Copy:
    """One process's copy of a lock."""

    watched: Watched
    lock: FoundThreadLock
    layout: Layout

    def locked(self) -> bool | None:
        memory = self.watched.memory
        return None if memory is None else read_thread_lock(memory, self.lock, self.layout)


class ThreadLocks:
    """Reads all copies in every refresh and keeps the evidence of overlaps."""

    def __init__(self, book: NameBook) -> None:
        self._book = book
        self._overlaps: dict[str, Overlap] = {}

    def read(self, taken_at: float, watched: Sequence[Watched]) -> tuple[ThreadLock, ...]:
        copies: dict[str, list[_Copy]] = {}
        for each in watched:
            known = self._book.thread_locks(each.id)
            if known is None or known[0].layout is None:
                continue
            for lock in known[1][:_MOST]:
                copies.setdefault(lock.name, []).append(_Copy(each, lock, known[0].layout))
        locks = (self._read_one(name, taken_at, copies[name]) for name in sorted(copies))
        return tuple(lock for lock in locks if lock.processes)

    def _read_one(self, name: str, taken_at: float, copies: Sequence[_Copy]) -> ThreadLock:
        states = [(copy, locked) for copy in copies if (locked := copy.locked()) is not None]
        inside = _not_inherited([copy for copy, locked in states if locked])
        if len(inside) > 1:
            # Locked before and after the others were seen locked: then they were so at one time.
            self._note(name, taken_at, [copy.watched.id for copy in inside if copy.locked()])
        uses = tuple(ThreadLockUse(copy.watched.id, locked) for copy, locked in states)
        own = all(copy.lock.own for copy in copies)
        return ThreadLock(name, copies[0].lock.kind, uses, self._overlaps.get(name), own)

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


def _not_inherited(locked: Sequence[_Copy]) -> list[_Copy]:
    """Without the copies that a fork made of a lock that was locked already: those say nothing about two being
    inside.
    """
    by_pid = {copy.watched.id.pid: copy for copy in locked}
    return [copy for copy in locked if not _same(copy, by_pid.get(copy.watched.stat.ppid))]


def _same(child: _Copy, parent: _Copy | None) -> bool:
    return parent is not None and parent.lock.address == child.lock.address
