"""Describe what was not checked, a line for each part. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from semtrace.model import NotChecked, Unchecked
from semtrace.present.wording import lock_names
from semtrace.text import clean, counted

_FEW = 3


def not_checked_text(gap: NotChecked) -> str:
    return _TEXTS[gap.what](gap)


def _processes(gap: NotChecked) -> str:
    return f"{counted(gap.count, 'process')} that could not be read"


def _private_locks(gap: NotChecked) -> str:
    return f"the private locks (threading, asyncio), and deadlocks through them: {clean(gap.reason)}"


def _semaphores(gap: NotChecked) -> str:
    names = lock_names(gap.locks[:_FEW]) + (", ..." if len(gap.locks) > _FEW else "")
    waits = counted(gap.count, "thread waits", "threads wait")
    units = counted(len(gap.locks), "Semaphore")
    return (
        f"whether it is right that {waits} for {units} without a free unit ({names}): a Semaphore may be a signal that "
        "is still to come, or a lock whose holder is gone"
    )


def _holders(gap: NotChecked) -> str:
    waits = counted(gap.count, "thread waits", "threads wait")
    reason = f": {clean(gap.reason)}" if gap.reason else ""
    return f"who holds {lock_names(gap.locks)}, for which {waits}{reason}"


def _tasks(gap: NotChecked) -> str:
    loops = counted(gap.count, "process has", "processes have")
    return (
        f"the tasks of asyncio ({loops} an event loop): tasks that wait for each other, or for a future that "
        "nobody sets, look idle; only waits for asyncio locks with a name are checked"
    )


def _timeout(gap: NotChecked) -> str:
    return f"which worker gunicorn is about to kill, as its --timeout is unknown: {clean(gap.reason)}"


def _shared_memory(gap: NotChecked) -> str:
    return f"/dev/shm: {clean(gap.reason)}"


def _unused_names(gap: NotChecked) -> str:
    return f"whether some old names in /dev/shm are still used: {clean(gap.reason)}"


def _memory(gap: NotChecked) -> str:
    return f"everything that names of locks and stacks of threads show: {clean(gap.reason)}"


def _unnamed_locks(gap: NotChecked) -> str:
    return (
        f"whether {counted(gap.count, 'shared lock')} without a name, each of one worker alone, should be one for all "
        "workers: only a name shows that"
    )


def _other_waits(gap: NotChecked) -> str:
    return (
        "waits for sockets and the network; waits for pipes, joins, private locks and file locks are checked only of "
        "threads that have slept for more than a second"
    )


_TEXTS: Mapping[Unchecked, Callable[[NotChecked], str]] = {
    Unchecked.PROCESSES: _processes,
    Unchecked.PRIVATE_LOCKS: _private_locks,
    Unchecked.SEMAPHORES: _semaphores,
    Unchecked.HOLDERS: _holders,
    Unchecked.TIMEOUT: _timeout,
    Unchecked.SHARED_MEMORY: _shared_memory,
    Unchecked.UNUSED_NAMES: _unused_names,
    Unchecked.MEMORY: _memory,
    Unchecked.UNNAMED_LOCKS: _unnamed_locks,
    Unchecked.ASYNC_TASKS: _tasks,
    Unchecked.OTHER_WAITS: _other_waits,
}
