"""Find out which threads of a process ran between two moments, and which were blocked. Pure but for `take`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semtrace.lazydata import dataclass
from semtrace.linux import futex


@dataclass(frozen=True)
class Activity:
    """The threads of one process at one moment, with their time on a processor so far (None: not known).

    `blocked` are those in the kernel; `all_wait`: all of them in one futex.
    """

    ran_ns: Mapping[int, int | None]
    blocked: frozenset[int]
    all_wait: bool

    @property
    def all_blocked(self) -> bool:
        return bool(self.ran_ns) and self.blocked >= self.ran_ns.keys()

    def unchanged_since(self, before: Activity) -> bool:
        """Return True if no thread has run since."""
        return bool(self.ran_ns) and None not in self.ran_ns.values() and self.ran_ns == before.ran_ns

    def asleep_since(self, before: Activity) -> bool:
        """Return True if all threads have been blocked since: then nothing of the process was half done."""
        return self.all_blocked and self.unchanged_since(before)

    def ran_since(self, before: Activity) -> int:
        """Return the nanoseconds that its threads spent on processors since."""
        pairs = ((ran, before.ran_ns.get(tid)) for tid, ran in self.ran_ns.items())
        return sum(ran - earlier for ran, earlier in pairs if ran is not None and earlier is not None)


def take(pid: int, threads: Sequence[futex.Thread], address: int | None) -> Activity:
    """Return what `threads` of `pid` are doing; `address` is that of the futex in question.

    Whether they are blocked was seen before their times are read: one that woke up in between has run.
    """
    ran_ns = {thread.tid: futex.run_time_ns(pid, thread.tid) for thread in threads}
    return Activity(
        ran_ns,
        blocked=frozenset(thread.tid for thread in threads if thread.blocked),
        all_wait=bool(threads) and address is not None and all(thread.futex == address for thread in threads),
    )
