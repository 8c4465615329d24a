"""Track for how long tasks have waited for asyncio locks: no thread sleeps in one, and a task keeps no times.

The first waiter is the same as long as none has left. For how long it had waited before it was first seen is known only
of a process of which no thread has run meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semtrace.cpython.threadlock import FoundThreadLock, TaskQueue, read_task_queue
from semtrace.lazydata import dataclass
from semtrace.linux.process import thread_ids
from semtrace.model import ProcessId
from semtrace.observe.history.history import longer
from semtrace.observe.history.sleepers import Sleepers
from semtrace.observe.watch.watched import Watched

Key = tuple[ProcessId, int]  # a process and the address of the lock there

_MOST_THREADS = 64  # of a process with more, some thread always runs


@dataclass(frozen=True)
class TaskWait:
    """So many tasks wait, the first for at least `for_s`; None if that is not known yet."""

    tasks: int
    for_s: float | None


class TaskWaits:
    def __init__(self) -> None:
        self._seen: dict[Key, tuple[float, TaskQueue]] = {}
        self._sleepers = Sleepers()

    def read(self, now_s: float, locked: Mapping[Watched, list[FoundThreadLock]]) -> dict[Key, TaskWait]:
        """Return the waits for these locks of asyncio, which are locked now."""
        queues = {
            (each.id, lock.address): queue
            for each, locks in locked.items()
            for lock in locks
            if each.memory is not None and (queue := read_task_queue(each.memory, lock)) is not None
        }
        self._seen = {key: (self._began(key, queue, now_s), queue) for key, queue in queues.items()}
        threads = {process: thread_ids(process.pid)[: _MOST_THREADS + 1] for process, _ in queues}
        self._sleepers.update(now_s, [(process, tid) for process, tids in threads.items() for tid in tids])
        asleep = {process: self._all_asleep_s(process, tids) for process, tids in threads.items()}
        return {key: self._wait(key, now_s, asleep[key[0]]) for key in queues}

    def _began(self, key: Key, queue: TaskQueue, now_s: float) -> float:
        """Return since when the first waiter is known to be the first."""
        began_s, before = self._seen.get(key, (now_s, queue))
        return began_s if queue.begins_as(before) else now_s

    def _all_asleep_s(self, process: ProcessId, tids: Sequence[int]) -> float | None:
        slept = [self._sleepers.seconds((process, tid)) for tid in tids]
        known = [each for each in slept if each is not None]
        return min(known) if known and len(known) == len(slept) <= _MOST_THREADS else None

    def _wait(self, key: Key, now_s: float, asleep_s: float | None) -> TaskWait:
        began_s, queue = self._seen[key]
        seen_s = now_s - began_s if began_s < now_s else None
        return TaskWait(queue.size, longer(seen_s, asleep_s))
