"""Find what the parent of a stuck process does with the same private lock: a fork copies a lock as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from semtrace.cpython import layout as at
from semtrace.cpython.layout import Layout
from semtrace.cpython.threadlock import FoundThreadLock, read_thread_lock
from semtrace.model import Inside, ProcessId, ThreadId, Wait, WaitKind
from semtrace.observe.watch.watched import Watched

_MOST = 256


class ParentCopies:
    """Count in how many samples the parent held it. A thread of the parent that takes the lock again and again may well
    have held it while the process was forked.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[ProcessId, ProcessId, int], tuple[int, int]] = {}

    def note(
        self, waits: Iterable[Wait], watched: Sequence[Watched], layouts: Mapping[ProcessId, Layout]
    ) -> dict[ThreadId, tuple[ProcessId, int, int]]:
        """Take a sample; return for each wait its parent, and in how many of how many samples that held the lock."""
        by_id, by_pid = {each.id: each for each in watched}, {each.id.pid: each for each in watched}
        found = {}
        for wait in waits:
            child, address = by_id.get(wait.thread.process), wait.target.address
            if wait.target.kind is not WaitKind.PRIVATE_LOCK or child is None or address is None:
                continue
            if wait.target.inside in (Inside.FILE, Inside.IMPORT):
                continue  # no lock object lies there
            parent = by_pid.get(child.stat.ppid) if child.stat.forked else None
            layout = layouts.get(child.id)
            locked = None if parent is None or layout is None else _locked(child, parent, address, layout)
            if parent is None or locked is None or len(self._seen) >= _MOST:
                continue
            key = (child.id, parent.id, address)
            times, samples = self._seen.get(key, (0, 0))
            self._seen[key] = (times + locked, samples + 1)
            found[wait.thread] = (parent.id, *self._seen[key])
        return found


def _locked(child: Watched, parent: Watched, address: int, layout: Layout) -> bool | None:
    """Return whether the parent has this lock locked; None if another object lies there."""
    if child.memory is None or parent.memory is None:
        return None
    kind = child.memory.u64(address + at.OB_TYPE)
    if not kind or parent.memory.u64(address + at.OB_TYPE) != kind:
        return None
    lock = FoundThreadLock("", (), "", address, "lock", kind)
    return read_thread_lock(parent.memory, lock, layout)
