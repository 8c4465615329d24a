"""private-lock, unshared-lock: locks that look as if they kept workers apart, and do not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from semtrace.model import (
    Advice,
    At,
    CopyOfEach,
    Fact,
    Finding,
    FindingCode,
    ForkCopies,
    HeldAtOnce,
    Lock,
    LockedSinceFork,
    LockRef,
    Overlap,
    Overlapped,
    ProcessId,
    Remedy,
    SeparateSemaphores,
    Server,
    Severity,
    Snapshot,
    ThreadId,
    ThreadLock,
    ThreadLockUse,
    ThreadRef,
    WaitedFor,
)
from semtrace.rules.basis import Limits
from semtrace.rules.evidence import lock_ref, private_ref, process_refs, thread_ref
from semtrace.waits.workers import WORKING_ROLES, workers

# The two locks that every queue has (Lib/multiprocessing/queues.py), that of a Value or Condition, and that of an Event
# or Barrier (synchronize.py).
_READ, _WRITE, _LOCK, _CONDITION = "_rlock", "_wlock", "_lock", "_cond._lock"
_SIGNALS = ("Event", "Barrier")

# Kinds that guard something by being held. A Condition signals threads, within one process by design.
_GUARDS = ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "asyncio.Lock")


def private_lock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """A lock that each worker has its own copy of.

    That one exists shows nothing. That several processes held their copies at once shows that it does not protect
    across them, under whatever server. It is an error if each of these has only one thread: the lock can then be meant
    for the other processes alone. In a process of several threads, and with asyncio, it may guard that process's own
    state, which is right: a warning. Where no copies were held at once it is a note, for workers that are known as
    such.
    """
    known = _of_role(snapshot)
    single = {process.id for process in snapshot.processes if process.threads == 1}
    for lock in snapshot.thread_locks:
        if not lock.own or lock.kind == "Condition":
            continue
        inside = lock.overlap.processes if lock.overlap is not None else ()
        if snapshot.server.kind == "gunicorn":  # its master is not a worker, and its holds do not matter
            inside = tuple(process for process in inside if process in known)
        owners = [use.process for use in lock.processes if use.process in known or use.process in inside]
        if lock.overlap is not None and len(set(inside)) > 1:
            sure = single.issuperset(inside) and not lock.kind.startswith("asyncio.")
            seen = [_overlapped(lock.overlap, snapshot.taken_at)]
            yield _private(lock, owners, "error" if sure else "warning", seen, snapshot.server)
        elif len(owners) > 1 and lock.kind in _GUARDS and not locked_since_fork(lock, snapshot.server.id, known):
            yield _private(lock, owners, "note", [], snapshot.server)


def locked_at_fork(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield `threading` locks that the parent held while it forked: nobody will ever release the child's copies."""
    known = _of_role(snapshot)
    for lock in snapshot.thread_locks:
        stuck = locked_since_fork(lock, snapshot.server.id, known) if lock.own and lock.kind in _GUARDS else []
        if stuck and not any(_is_stuck(use, snapshot) for use in stuck):  # else that is the finding
            yield _locked_at_fork(lock, stuck, known.issuperset(use.process for use in stuck))


def _is_stuck(use: ThreadLockUse, snapshot: Snapshot) -> bool:
    return any(ThreadId(waiter.process, waiter.tid) in snapshot.waits.stuck for waiter in use.waiters or ())


def locked_since_fork(lock: ThreadLock, root: ProcessId, workers: set[ProcessId]) -> list[ThreadLockUse]:
    """Return the copies that seem locked since the fork. A thread may have taken one copy itself, or several outside of
    gunicorn's workers, which all do the same. So those are reported only if somebody waits for one.
    """
    found = [use for use in lock.processes if use.process != root and use.inherited]
    several = len(workers.intersection(use.process for use in found)) > 1
    return found if several or any(use.waiters for use in found) else []


def _locked_at_fork(lock: ThreadLock, stuck: list[ThreadLockUse], in_workers: bool) -> Finding:
    processes = tuple(use.process for use in stuck)
    waiters = tuple(thread_ref(waiter) for use in stuck for waiter in use.waiters or ())
    parent = Advice.MASTER_FORKS_WITHOUT if in_workers else Advice.PARENT_FORKS_WITHOUT
    return Finding(
        code=FindingCode.INHERITED_HOLD,
        severity="warning",
        locks=(private_ref(lock),),
        threads=process_refs(processes),
        facts=(
            LockedSinceFork(processes, in_workers),
            *([WaitedFor(waiters)] if waiters else []),
            ForkCopies(),
        ),
        remedy=Remedy((parent, Advice.NEW_LOCK_AFTER_FORK, Advice.RESTART_TO_CLEAR)),
    )


def _private(
    lock: ThreadLock, owners: list[ProcessId], severity: Severity, seen: list[Fact], server: Server
) -> Finding:
    share = [Advice.SHARE_ACROSS_WORKERS if server.kind == "gunicorn" else Advice.SHARE_BY_FORK]
    if lock.kind.startswith("asyncio."):
        share.append(Advice.NOT_IN_EVENT_LOOP)
    return Finding(
        code=FindingCode.PRIVATE_LOCK,
        severity=severity,
        locks=(private_ref(lock),),
        threads=tuple(_inside_first(lock, owners)),
        facts=(*seen, *_places(lock), CopyOfEach(tuple(owners))),
        remedy=Remedy((*share, Advice.FINE_FOR_ONE_PROCESS, *([Advice.IGNORE_LOCK] if severity != "error" else []))),
    )


def _inside_first(lock: ThreadLock, owners: list[ProcessId]) -> Iterator[ThreadRef]:
    """Yield the workers, with the thread and the place of those that hold their copy now."""
    holders = {use.process: use.holder for use in lock.processes if use.locked and use.holder}
    for owner in sorted(owners, key=lambda each: each not in holders):
        holder = holders.get(owner)
        yield ThreadRef(owner) if holder is None else thread_ref(holder)


def _places(lock: ThreadLock) -> Iterator[Fact]:
    holders = [use.holder for use in lock.processes if use.locked and use.holder]
    if holders:
        yield At(tuple(map(thread_ref, holders)))


def _overlapped(overlap: Overlap, now: float) -> Fact:
    return Overlapped(overlap.times, overlap.most, now - overlap.first_at, overlap.processes)


def unshared_lock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield names that mean another semaphore in each worker. The locks of one queue, list or dict are reported once.

    It is an error only for a lock with its own name, in workers that are known as such. The others are a warning: a
    worker makes queues and events, and fills lists with jobs and their locks, for processes that it starts itself,
    which may have ended.
    """
    serving, known = _workers(snapshot), _of_role(snapshot)
    classes = _classes(snapshot)
    alike: dict[str, list[Lock]] = {}
    for lock in snapshot.semaphores:
        if lock.separate > 1 and lock.name is not None and _meant_to_be_shared(lock, classes):
            alike.setdefault(_INDEX.sub("[…]", lock.name), []).append(lock)
    for name, locks in alike.items():
        owners = [lock.mapped_by[0] for lock in locks if len(lock.mapped_by) == 1 and lock.mapped_by[0] in serving]
        if len(set(owners)) < 2:
            continue
        whole = locks[0].part_of
        kind = classes.get(whole or "")
        if name == locks[0].name and kind is None:
            yield _unshared(locks, owners, "error" if serving <= known else "warning", snapshot.server)
        elif len(owners) == len(locks):
            shown = name if whole is None else _INDEX.sub("[…]", whole)
            yield _unshared_thing(shown, locks, owners, kind or ("Value" if whole else locks[0].kind), snapshot.server)


# An index or key in a name, whatever is in its quotes.
_INDEX = re.compile(r"""\[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\[\]]*)\]""")


def _meant_to_be_shared(lock: Lock, classes: Mapping[str, str]) -> bool:
    """A library may well make one for each process; a pool in a worker is for children of that worker."""
    if not lock.own or lock.signal:
        return False
    if lock.part_of is None:
        return True
    kind = classes.get(lock.part_of)  # one piece stands for all of it
    return lock.name == f"{lock.part_of}.{_LOCK if kind is None else _CONDITION if kind in _SIGNALS else _READ}"


def _classes(snapshot: Snapshot) -> dict[str, str]:
    """The queues, events and barriers by name, and of which class each is. Those inside a pool or an executor have
    longer names.
    """
    pieces: dict[str, set[str]] = {}
    for lock in snapshot.semaphores:
        if lock.part_of is not None and lock.name is not None and lock.name.startswith(f"{lock.part_of}."):
            pieces.setdefault(lock.part_of, set()).add(lock.name.removeprefix(f"{lock.part_of}."))
    found = {name: _class_of(these) for name, these in pieces.items()}
    return {name: kind for name, kind in found.items() if kind is not None}


def _class_of(pieces: set[str]) -> str | None:
    """Lib/multiprocessing/queues.py Queue.__init__, JoinableQueue.__init__, SimpleQueue.__init__; synchronize.py
    Event.__init__, Barrier.__init__. None for all others.
    """
    if {_READ, _WRITE} <= pieces:
        return "JoinableQueue" if "_unfinished_tasks" in pieces else "Queue" if "_sem" in pieces else "SimpleQueue"
    if _CONDITION in pieces:
        return "Event" if "_flag" in pieces else "Barrier"
    return None


def _unshared_thing(name: str, locks: list[Lock], owners: list[ProcessId], kind: str, server: Server) -> Finding:
    """A warning: a worker may have made it for processes that it starts itself."""
    distinct = tuple(sorted(set(owners)))
    return Finding(
        code=FindingCode.UNSHARED_LOCK,
        severity="warning",
        locks=(LockRef(locks[0].id, name, kind),),
        threads=process_refs(distinct),
        facts=(SeparateSemaphores(len(locks), distinct, kind),),
        remedy=Remedy((_make(Advice.MAKE_BEFORE_FORK_TO_SHARE, server), Advice.FINE_FOR_CHILDREN)),
    )


def _unshared(locks: list[Lock], owners: list[ProcessId], severity: Severity, server: Server) -> Finding:
    inside = tuple(holder.process for lock in locks for holder in lock.holders)
    whole = locks[0].part_of
    ref = lock_ref(locks[0]) if whole is None else LockRef(locks[0].id, whole, locks[0].kind)
    return Finding(
        code=FindingCode.UNSHARED_LOCK,
        severity=severity,
        locks=(ref,),
        threads=process_refs(owners),
        facts=(
            SeparateSemaphores(len(locks), tuple(owners)),
            *([HeldAtOnce(inside)] if len(inside) > 1 else []),
        ),
        remedy=Remedy((_make(Advice.MAKE_BEFORE_FORK, server), Advice.FINE_FOR_CHILDREN)),
    )


def _make(gunicorns: Advice, server: Server) -> Advice:
    """Return how to make a lock that all workers share, for this server."""
    return gunicorns if server.kind == "gunicorn" else Advice.MAKE_IN_PARENT


def _workers(snapshot: Snapshot) -> set[ProcessId]:
    """The workers of any pre-forked server, if there are several."""
    found = {process.id for process in workers(snapshot)}
    return found if len(found) > 1 else set()


def _of_role(snapshot: Snapshot) -> set[ProcessId]:
    return {process.id for process in snapshot.processes if process.role in WORKING_ROLES}
