"""private-lock, unshared-lock: locks that look as if they kept workers apart, and do not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from semtrace.model import Finding, Lock, Overlap, ProcessId, Snapshot, ThreadLock, ThreadLockUse
from semtrace.rules.basis import Limits
from semtrace.rules.wording import label, pids, where
from semtrace.text import age, clean, counted

_WORKERS = ("worker", "dirty-worker")

# The two locks that every queue has (Lib/multiprocessing/queues.py), that of a Value or Condition, and that of an Event
# or Barrier (synchronize.py).
_READ, _WRITE, _LOCK, _TOLD = "_rlock", "_wlock", "_lock", "_cond._lock"
_TELLING = ("Event", "Barrier")

# What guards something by being held. A Condition is for telling threads something, within one process by design.
_GUARDS = ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "asyncio.Lock")

_FOR_ITS_OWN = "If it is for processes that each worker starts itself, it is right as it is."
_RIGHT_AS_IT_IS = "If it guards one process's memory, it is right as it is."
_SHARE = (
    "If it guards what workers share (a file, a database row, shared memory): multiprocessing.Lock(), made when the "
    f"module is imported, and gunicorn --preload. {_RIGHT_AS_IT_IS}"
)
_SHARE_ASYNC = (
    "If it guards what workers share (a file, a database row, shared memory): multiprocessing.Lock(), made when the "
    "module is imported, and gunicorn --preload; to wait for it would stop the event loop, so take it in a thread "
    f"(asyncio.to_thread(lock.acquire)). {_RIGHT_AS_IT_IS}"
)


def private_lock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """A lock that each worker has its own of. Only that two were inside at once shows that it is meant for more."""
    workers = _workers(snapshot)
    for lock in snapshot.thread_locks:
        owners = [use.process for use in lock.processes if use.process in workers]
        if len(owners) < 2 or not lock.own or lock.kind == "Condition":
            continue
        if lock.overlap is not None and len(workers.intersection(lock.overlap.processes)) > 1:
            yield _private(lock, owners, _overlapped(lock.overlap, snapshot.taken_at), error=True)
        elif lock.kind in _GUARDS and not locked_since_fork(lock, snapshot.server.id, workers):
            yield _private(lock, owners, (), error=False)


def locked_at_fork(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """A `threading` lock that was held by who forked: in the new process nobody will ever release it."""
    workers = _of_role(snapshot)
    for lock in snapshot.thread_locks:
        if lock.own and lock.kind in _GUARDS and (stuck := locked_since_fork(lock, snapshot.server.id, workers)):
            yield _locked_at_fork(lock, stuck, workers.issuperset(use.process for use in stuck))


def locked_since_fork(lock: ThreadLock, root: ProcessId, workers: set[ProcessId]) -> list[ThreadLockUse]:
    """The copies that seem to be. One alone may be a thread's that took it and keeps it, and so may several outside of
    gunicorn's workers, which do all the same: those are told only where somebody waits for one.
    """
    found = [use for use in lock.processes if use.process != root and use.inherited]
    several = len(workers.intersection(use.process for use in found)) > 1
    return found if several or any(use.waiters for use in found) else []


def _locked_at_fork(lock: ThreadLock, stuck: list[ThreadLockUse], in_workers: bool) -> Finding:
    name = clean(lock.name)
    who = [use.process.pid for use in stuck]
    waiters = [waiter for use in stuck for waiter in use.waiters or ()]
    waits = counted(len(waiters), "thread waits", "threads wait")
    born = counted(len(who), "worker" if in_workers else "process")
    parent = "the master" if in_workers else "the process that forks"
    return Finding(
        code="inherited-hold",
        severity="warning",
        lock=None,
        name=name,
        pids=tuple(who),
        title=f"{name} seems to have been held while {born} {'was' if len(who) == 1 else 'were'} forked",
        evidence=(
            f"it is locked in {pids(who)} at every look, and no thread there is inside `with` it",
            *([f"{waits} for it: {pids(waiter.pid for waiter in waiters)}", *where(waiters)] if waiters else []),
            "a fork copies a threading lock as it is: nobody in the new process can release it. What takes it by "
            "acquire() and keeps it looks the same",
        ),
        remedy=f"Nothing in {parent}, nor a thread of it, may hold the lock at a fork; or make a new one in each new "
        "process: os.register_at_fork(after_in_child=...). Restart the server to be rid of these.",
    )


def _private(lock: ThreadLock, owners: list[ProcessId], seen: tuple[str, ...], error: bool) -> Finding:
    name = clean(lock.name)
    return Finding(
        code="private-lock",
        severity="error" if error else "warning",
        lock=None,
        name=name,
        pids=tuple(owner.pid for owner in owners),
        title=f"{name} is {_called(lock)}: it keeps no worker out of another's way",
        evidence=(*seen, f"each of {counted(len(owners), 'worker')} has a copy of its own: {pids(_pids(owners))}"),
        remedy=_SHARE_ASYNC if lock.kind.startswith("asyncio.") else _SHARE,
    )


def _called(lock: ThreadLock) -> str:
    kind = clean(lock.kind)
    return f"an {kind}" if kind.startswith("asyncio.") else f"a threading.{kind}"


def _overlapped(overlap: Overlap, now: float) -> tuple[str, ...]:
    often = f"in {overlap.times} looks, first {age(now - overlap.first_at)} ago" if overlap.times > 1 else "in one look"
    return (f"{overlap.most} processes were inside at once, {often}; last {pids(_pids(overlap.processes))}",)


def unshared_lock(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """One name, and in each worker another semaphore. Of a queue, which has several, it is said once; so it is of what
    lies in one list or dict.

    An error only of a lock with a name of its own. The others are a warning: a worker makes queues and events, and
    fills lists with jobs and their locks, for processes that it starts itself, which may have ended.
    """
    workers = _workers(snapshot)
    classes = _classes(snapshot)
    alike: dict[str, list[Lock]] = {}
    for lock in snapshot.locks:
        if lock.separate > 1 and lock.name is not None and _meant_to_be_shared(lock, classes):
            alike.setdefault(_INDEX.sub("[…]", lock.name), []).append(lock)
    for name, locks in alike.items():
        owners = [lock.mapped_by[0] for lock in locks if len(lock.mapped_by) == 1 and lock.mapped_by[0] in workers]
        if len(set(owners)) < 2:
            continue
        whole = locks[0].part_of
        kind = classes.get(whole or "")
        if name == locks[0].name and kind is None:
            yield _unshared(locks, owners)
        elif len(owners) == len(locks):
            shown = name if whole is None else _INDEX.sub("[…]", whole)
            yield _unshared_thing(clean(shown), locks, owners, kind or ("Value" if whole else locks[0].kind))


# An index or key in a name, whatever is in its quotes.
_INDEX = re.compile(r"""\[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\[\]]*)\]""")


def _meant_to_be_shared(lock: Lock, classes: Mapping[str, str]) -> bool:
    """A library may well make one for each process; a pool in a worker is for children of that worker."""
    if not lock.own or lock.signal:
        return False
    if lock.part_of is None:
        return True
    kind = classes.get(lock.part_of)  # one piece stands for all of it
    return lock.name == f"{lock.part_of}.{_LOCK if kind is None else _TOLD if kind in _TELLING else _READ}"


def _classes(snapshot: Snapshot) -> dict[str, str]:
    """The queues, events and barriers by name, and of which class each is. Those inside a pool or an executor have
    longer names.
    """
    pieces: dict[str, set[str]] = {}
    for lock in snapshot.locks:
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
    if _TOLD in pieces:
        return "Event" if "_flag" in pieces else "Barrier"
    return None


_IN_VAIN = {"Event": "and what one sets no other sees", "Barrier": "and waits for nobody in another"}


def _unshared_thing(name: str, locks: list[Lock], owners: list[ProcessId], kind: str) -> Finding:
    """A warning: a worker may have made it for processes that it starts itself."""
    in_vain = _IN_VAIN.get(kind)
    if in_vain is None:
        queue = kind.endswith("Queue")
        in_vain = "and gets nothing that another puts into it" if queue else "which keeps out nobody in another"
    a = "an" if kind[:1] in "AEIOR" else "a"
    return Finding(
        code="unshared-lock",
        severity="warning",
        lock=locks[0].id,
        name=name,
        pids=tuple(sorted({owner.pid for owner in owners})),
        title=f"{name}, {a} {clean(kind)}: each worker has one of its own, {in_vain}",
        evidence=(
            f"{len(locks)} separate ones bear this name, each mapped by one worker and no process of its own: "
            f"{pids(_pids(owners))}",
        ),
        remedy="To share it make it once, before the workers are forked: at the top of a module, and start gunicorn "
        f"with --preload. {_FOR_ITS_OWN}",
    )


def _unshared(locks: list[Lock], owners: list[ProcessId]) -> Finding:
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
        title=f"{name} is another lock in each worker: it keeps no worker out of another's way",
        evidence=(
            f"{len(locks)} separate semaphores bear this name, each mapped by one worker: {pids(_pids(owners))}",
            *at_once,
        ),
        remedy="Make it once, before the workers are forked: at the top of a module, and start gunicorn with "
        f"--preload; not in post_fork or at the first request. {_FOR_ITS_OWN}",
    )


def _workers(snapshot: Snapshot) -> set[ProcessId]:
    """The workers, if there are several. Of another server it is not known what its processes are for."""
    found = _of_role(snapshot)
    return found if len(found) > 1 else set()


def _of_role(snapshot: Snapshot) -> set[ProcessId]:
    return {process.id for process in snapshot.processes if process.role in _WORKERS}


def _pids(processes: list[ProcessId] | tuple[ProcessId, ...]) -> list[int]:
    return [process.pid for process in processes]
