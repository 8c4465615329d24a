"""Read from the scheduler how long a thread has not run, also from before semtrace attached.

The scheduler notes when a thread last had a processor, by the clock of that processor (kernel/sched/fair.c update_curr;
kernel/sched/debug.c proc_sched_show_task; before Linux 6.15 only with CONFIG_SCHED_DEBUG, which distributions set).
These clocks differ, for each leaves out what interrupts and other virtual machines took: so a thread of our own goes to
that processor to read its clock there. None of them runs faster than time, so what comes out is a lower bound.
"""

from __future__ import annotations

import contextlib
import os

from semtrace.linux.futex import run_time_ns
from semtrace.linux.program import read

_STARTED = b"se.exec_start"


def slept_s(pid: int, tid: int, ran_ns: int) -> float | None:
    """None where it is not known, or if the thread has run since its `run_time_ns` was `ran_ns`."""
    processor, then_s = _processor(pid, tid), _last_ran_s(f"/proc/{pid}/task/{tid}/sched")
    if processor is None or not then_s:  # 0: it was moved to another processor, and has not run there yet
        return None
    now_s = _clock_of(processor)
    if now_s is None or _processor(pid, tid) != processor or run_time_ns(pid, tid) != ran_ns:
        return None
    return max(now_s - then_s, 0.0)


def _clock_of(processor: int) -> float | None:
    """None for a processor that this thread is not to use: somebody kept it for others, or took it away."""
    usual = os.sched_getaffinity(0)
    if processor not in usual:
        return None
    try:
        os.sched_setaffinity(0, {processor})
        return _last_ran_s("/proc/thread-self/sched")
    except OSError:
        return None
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, usual)


def _processor(pid: int, tid: int) -> int | None:
    """`/proc/PID/task/TID/stat`, field 39: the processor that it last ran on."""
    raw = read(f"/proc/{pid}/task/{tid}/stat") or b""
    try:
        return int(raw[raw.rindex(b")") + 2 :].split()[36])
    except (ValueError, IndexError):
        return None


def _last_ran_s(path: str) -> float | None:
    """The line `se.exec_start   :   16578519.706092`, in milliseconds."""
    for line in (read(path) or b"").split(b"\n"):
        name, _, value = line.partition(b":")
        if name.strip() == _STARTED:
            try:
                return float(value) / 1e3
            except ValueError:
                return None
    return None
