"""Find threads that may have slept for long: they have not run since the first sample, and the scheduler does not show
since when (`linux.sleep`). Any of them may be stuck.
"""

from __future__ import annotations

from semtrace.linux.futex import run_time_ns
from semtrace.linux.process import thread_ids
from semtrace.linux.sleep import slept_s
from semtrace.model import Snapshot
from semtrace.waits.workers import workers

Thread = tuple[int, int]  # its process and its own number

# A thread that sleeps is known to wait after so long (observe.blocked.asleep: two passes).
KNOWN_AFTER_S = 2.2


def resting(snapshot: Snapshot) -> dict[Thread, int]:
    """Return the threads of workers whose sleep has no known beginning, and how long each has run (ns).

    A worker of one thread that waits for work is left out.
    """
    able = [process for process in workers(snapshot) if not (process.idle and process.threads == 1)]
    threads = [(process.pid, tid) for process in able for tid in thread_ids(process.pid)]
    ran = {thread: ran_ns for thread in threads if (ran_ns := run_time_ns(*thread)) is not None}
    return {thread: ran_ns for thread, ran_ns in ran.items() if slept_s(*thread, ran_ns) is None}


def still_resting(threads: dict[Thread, int]) -> dict[Thread, int]:
    """Return those that have not run since."""
    return {thread: ran_ns for thread, ran_ns in threads.items() if run_time_ns(*thread) == ran_ns}
