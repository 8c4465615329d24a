"""Check that no thread of some processes has run between two moments. Then everything that was read between them is one
snapshot, as of one instant, and nobody could have changed anything.
"""

from __future__ import annotations

from collections.abc import Collection

from semtrace.linux.futex import read_thread, run_time_ns
from semtrace.linux.process import thread_ids


class Stillness:
    """A period without running threads. It begins when it is made.

    When a thread leaves the processor, the kernel adds all its time to its account, in nanoseconds (kernel/sched/core.c
    put_prev_task). So a thread that is asleep has not run if its account has not changed.
    """

    def __init__(self, pids: Collection[int]) -> None:
        self._pids = tuple(pids)
        self._ran = {pid: {tid: run_time_ns(pid, tid) for tid in thread_ids(pid)} for pid in self._pids}

    def broken_by(self) -> int | None:
        """The first process of which a thread has run, is running, or cannot be seen; None if none."""
        return next((pid for pid in self._pids if not self._slept(pid)), None)

    def _slept(self, pid: int) -> bool:
        before = self._ran[pid]
        same = bool(before) and before.keys() == set(thread_ids(pid))
        return same and all(_slept_since(pid, tid, ran_ns) for tid, ran_ns in before.items())


def _slept_since(pid: int, tid: int, ran_ns: int | None) -> bool:
    """Asleep is looked at first: a run that began after that is after the moment that is spoken of."""
    try:
        thread = read_thread(pid, tid)
    except PermissionError:
        return False
    if thread is None or not thread.blocked:
        return False
    return ran_ns is not None and run_time_ns(pid, tid) == ran_ns
