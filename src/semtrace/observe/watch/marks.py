"""Marks that a server leaves when it moves: while they stay, a snapshot would equal the last one."""

from __future__ import annotations

from semtrace.linux.futex import run_time
from semtrace.linux.process import thread_ids
from semtrace.observe.watch.fleet import Fleet
from semtrace.observe.watch.reading import value_of

# For a larger server, to read all of them costs as much as a snapshot.
_MOST_THREADS = 128
_MOST_SEMAPHORES = 256


def marks_of(fleet: Fleet) -> tuple[object, ...] | None:
    """Return how long and how often each thread has run so far, and the value of each semaphore; None if one is not
    known. Only a thread that runs makes another thread or process, so those of the last snapshot are enough. Outsiders
    can change nothing but semaphores.
    """
    if len(fleet.mappers) > _MOST_SEMAPHORES:
        return None
    found: list[object] = []
    for watched in fleet.with_guests:
        pid = watched.id.pid
        for tid in (pid,) if watched.stat.threads == 1 else thread_ids(pid):
            ran = run_time(pid, tid)
            if ran is None or len(found) >= _MOST_THREADS:
                return None
            found.append((watched.id, tid, ran.ns, ran.slices))
    values = tuple((semaphore, value_of(semaphore, mappers)) for semaphore, mappers in fleet.mappers.items())
    return (*found, *values) if found and all(value is not None for _, value in values) else None
