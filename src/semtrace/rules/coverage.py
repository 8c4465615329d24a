"""List the parts of a snapshot that the rules could not check, so that silence is not taken for health. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.model import SEM_VALUE_MAX, NotChecked, Snapshot, Unchecked, Unread
from semtrace.rules.evidence import lock_ref
from semtrace.waits.workers import workers

_UNREAD: tuple[tuple[Unread, Unchecked], ...] = (
    ("private-locks", Unchecked.PRIVATE_LOCKS),
    ("timeout", Unchecked.TIMEOUT),
    ("shared-memory", Unchecked.SHARED_MEMORY),
    ("unused-names", Unchecked.UNUSED_NAMES),
    ("memory", Unchecked.MEMORY),
)


def not_checked(snapshot: Snapshot) -> tuple[NotChecked, ...]:
    """Return every part that was not looked at, or about which nobody can decide."""
    return (
        *_processes(snapshot),
        *_unread(snapshot),
        *_semaphores(snapshot),
        *_holders(snapshot),
        *_unnamed(snapshot),
        *_tasks(snapshot),
        NotChecked(Unchecked.OTHER_WAITS),
    )


def _tasks(snapshot: Snapshot) -> Iterator[NotChecked]:
    """A task that waits leaves no trace in a thread: only named locks of asyncio are looked into."""
    loops = sum(process.event_loop for process in snapshot.processes)
    if loops:
        yield NotChecked(Unchecked.ASYNC_TASKS, count=loops)


def _processes(snapshot: Snapshot) -> Iterator[NotChecked]:
    blind = {problem.process for problem in snapshot.problems if problem.process}
    if blind:
        yield NotChecked(Unchecked.PROCESSES, count=len(blind))


def _unread(snapshot: Snapshot) -> Iterator[NotChecked]:
    for unread, what in _UNREAD:
        if problem := snapshot.unread(unread):
            yield NotChecked(what, problem.error)


def _semaphores(snapshot: Snapshot) -> Iterator[NotChecked]:
    """Only the program knows whether a Semaphore is a signal that is still to come, or a lock that nobody releases."""
    empty = [
        lock
        for lock in snapshot.semaphores
        if lock.maximum == SEM_VALUE_MAX and lock.value == 0 and lock.waiters and not lock.signal
    ]
    if empty:
        threads = sum(len(lock.waiters) for lock in empty)
        yield NotChecked(Unchecked.SEMAPHORES, count=threads, locks=tuple(map(lock_ref, empty)))


def _holders(snapshot: Snapshot) -> Iterator[NotChecked]:
    """Threads wait for these locks, and nobody knows who holds them."""
    for lock in snapshot.semaphores:
        if lock.state == "unknown" and lock.waiters and not lock.signal:
            yield NotChecked(Unchecked.HOLDERS, lock.reason or "", len(lock.waiters), (lock_ref(lock),))


def _unnamed(snapshot: Snapshot) -> Iterator[NotChecked]:
    """Several workers have locks of their own without a name. Only names show if they should be one."""
    serving = {process.id for process in workers(snapshot)}
    own = [
        lock
        for lock in snapshot.semaphores
        if lock.name is None and lock.part_of is None and len(lock.mapped_by) == 1 and lock.mapped_by[0] in serving
    ]
    if len({lock.mapped_by[0] for lock in own}) > 1:
        yield NotChecked(Unchecked.UNNAMED_LOCKS, count=len(own))


def nothing_seen(snapshot: Snapshot) -> bool:
    """Return True if the kernel showed the inside of not one process."""
    return {p.process for p in snapshot.problems} >= {p.id for p in snapshot.processes} != set()
