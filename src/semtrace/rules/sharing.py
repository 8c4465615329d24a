"""private-lock, unshared-lock: locks that look as if they kept workers apart, and do not."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.model import Finding, Lock, Overlap, ProcessId, Snapshot, ThreadLock
from semtrace.rules.basis import Limits
from semtrace.rules.wording import counted, label, pids
from semtrace.text import age, clean

_WORKERS = ("worker", "dirty-worker")

# What guards something by being held. A Condition is for telling threads something, within one process by design.
_GUARDS = ("Lock", "RLock", "Semaphore", "BoundedSemaphore")


def private_lock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """A lock that each worker has its own of. Only that two were inside at once shows that it is meant for more."""
    workers = _workers(snapshot)
    for lock in snapshot.thread_locks:
        owners = [use.process for use in lock.processes if use.process in workers]
        if len(owners) < 2 or not lock.own:
            continue
        if lock.overlap is not None and len(workers.intersection(lock.overlap.processes)) > 1:
            yield _private(lock, owners, _overlapped(lock.overlap, snapshot.taken_at), error=True)
        elif lock.kind in _GUARDS:
            yield _private(lock, owners, (), error=False)


def _private(lock: ThreadLock, owners: list[ProcessId], seen: tuple[str, ...], error: bool) -> Finding:
    name = clean(lock.name)
    return Finding(
        code="private-lock",
        severity="error" if error else "warning",
        lock=None,
        name=name,
        pids=tuple(owner.pid for owner in owners),
        title=f"{name} is a threading.{clean(lock.kind)}: it keeps no worker out of another's way",
        evidence=(*seen, f"each of {counted(len(owners), 'worker')} has a copy of its own: {pids(_pids(owners))}"),
        remedy="If it guards what workers share (a file, a database row, shared memory): multiprocessing.Lock(), made "
        "when the module is imported, and gunicorn --preload. If it guards one process's memory, it is right as it is.",
    )


def _overlapped(overlap: Overlap, now: float) -> tuple[str, ...]:
    often = f"in {overlap.times} looks, first {age(now - overlap.first_at)} ago" if overlap.times > 1 else "in one look"
    return (f"{overlap.most} processes were inside at once, {often}; last {pids(_pids(overlap.processes))}",)


def unshared_lock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """One name, and in each worker another semaphore."""
    workers = _workers(snapshot)
    alike: dict[str, list[Lock]] = {}
    for lock in snapshot.locks:
        if lock.separate > 1 and lock.name is not None and _meant_to_be_shared(lock):
            alike.setdefault(lock.name, []).append(lock)
    for locks in alike.values():
        owners = [lock.mapped_by[0] for lock in locks if len(lock.mapped_by) == 1 and lock.mapped_by[0] in workers]
        if len(owners) > 1:
            yield _unshared(locks, owners, snapshot)


def _meant_to_be_shared(lock: Lock) -> bool:
    """A library may well make one for each process; a queue or pool in a worker is for children of that worker."""
    whole = lock.part_of is None or lock.name == f"{lock.part_of}._lock"
    return lock.own and not lock.signal and whole


def _unshared(locks: list[Lock], owners: list[ProcessId], snapshot: Snapshot) -> Finding:
    inside = [holder.pid for lock in locks for holder in lock.holders]
    at_once = [f"{pids(inside)} hold it at the same time"] if len(inside) > 1 else []
    name = label(locks[0])
    if locks[0].part_of is not None:
        name = clean(locks[0].part_of)
    return Finding(
        code="unshared-lock",
        severity="error",
        lock=locks[0].id,
        name=name,
        pids=tuple(owner.pid for owner in owners),
        title=f"{name} is another lock in each worker: it keeps nobody out",
        evidence=(
            f"{len(locks)} separate semaphores bear this name, each mapped by one worker: {pids(_pids(owners))}",
            *at_once,
        ),
        remedy="Make it once, before the workers are forked: at the top of a module, and start gunicorn with "
        "--preload; not in post_fork or at the first request.",
    )


def _workers(snapshot: Snapshot) -> set[ProcessId]:
    """The workers, if there are several. Of another server it is not known what its processes are for."""
    found = {process.id for process in snapshot.processes if process.role in _WORKERS}
    return found if len(found) > 1 else set()


def _pids(processes: list[ProcessId] | tuple[ProcessId, ...]) -> list[int]:
    return [process.pid for process in processes]
