"""Parts of the rules about blocking: roots of the wait graph, and references to what these are about. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from semtrace.model import (
    FILE,
    IMPORT,
    Advice,
    BlockedOn,
    Elapsed,
    Inside,
    LockRef,
    Root,
    RootKind,
    SemId,
    Snapshot,
    Target,
    ThreadRef,
    Wait,
    WaitKind,
    place_of,
)

_LOCKS = (WaitKind.SHARED_LOCK, WaitKind.PRIVATE_LOCK, WaitKind.MANAGER_LOCK)
_PLAIN = (*_LOCKS, WaitKind.PROCESS_END, WaitKind.THREAD_END, WaitKind.PIPE_WRITE, WaitKind.FILE_LOCK)


def is_deadlock(root: Root) -> bool:
    """Return True for threads that wait for each other, and for one that waits for a shared lock that it took itself.

    A ring with a signal does not count, for nobody holds a signal.
    """
    if root.kind is RootKind.ITSELF:
        (wait,) = root.waits
        return wait.target.kind is WaitKind.SHARED_LOCK and not wait.in_handler
    return root.kind is RootKind.RING and all(map(_is_plain, root.waits))


def _is_plain(wait: Wait) -> bool:
    """Return True for an end or a pipe, and for a lock or the units of a semaphore whose holders are all known."""
    bounded = wait.target.kind is WaitKind.SIGNAL and wait.target.units is not None
    return bool(wait.holders) if wait.target.kind in _LOCKS or bounded else wait.target.kind in _PLAIN


def explained(snapshot: Snapshot) -> set[SemId]:
    """Return the locks that a finding about stuck threads or a deadlock explains already."""
    return {
        wait.target.semaphore
        for root in snapshot.waits.roots
        if root.proven or is_deadlock(root)
        for wait in (*root.waits, *root.behind)
        if wait.target.semaphore is not None
    }


def thread_ref(wait: Wait) -> ThreadRef:
    return ThreadRef(wait.thread.process, wait.thread.tid, place_of(wait))


def restart(waits: Sequence[Wait], shared: bool) -> Advice:
    """Return what helps now; `shared`: a lock that others use is part of it."""
    if shared:
        return Advice.RESTART_SERVER
    several = len({wait.thread.process for wait in waits}) > 1
    return Advice.RESTART_PROCESSES if several else Advice.RESTART_PROCESS


def target_ref(target: Target, snapshot: Snapshot) -> LockRef | None:
    """Refer to a lock or signal; None for anything else that is waited for."""
    lock = next((lock for lock in snapshot.locks if lock.id == target.semaphore), None) if target.semaphore else None
    if lock is not None:
        return LockRef(
            lock.id, target.part_of or lock.label if target.kind is WaitKind.SIGNAL else lock.label, lock.kind
        )
    if target.kind is WaitKind.MANAGER_LOCK:
        kind = target.part_of or "unknown"
        return LockRef(None, target.name, kind, target.process, managed=True) if target.name else None
    if target.kind is WaitKind.FILE_LOCK:
        row = next(
            (lock for lock in snapshot.locks if lock.file is not None and _number(lock.id) == target.address), None
        )
        return LockRef(None if row is None else row.id, target.name, FILE)
    if target.inside is Inside.IMPORT:
        return LockRef(None, target.name, IMPORT, target.process)
    if target.kind in (WaitKind.PRIVATE_LOCK, WaitKind.SIGNAL):
        private = next((each.kind for each in snapshot.thread_locks if each.name == target.name), "unknown")
        return LockRef(
            None,
            target.name,
            private,
            target.process,
            variable=target.variable and target.kind is WaitKind.PRIVATE_LOCK,
        )
    return None


def _number(file: SemId) -> int:
    """Return the address of a target that is this file."""
    return (file.major << 32 | file.minor) << 64 | file.inode


def target_refs(targets: Iterable[Target], snapshot: Snapshot) -> tuple[LockRef, ...]:
    best: dict[Target, Target] = {}  # one lock may have several names: what the source calls it comes first
    for target in targets:
        best[target] = target if target.named and not best.get(target, target).named else best.get(target, target)
    found = (target_ref(target, snapshot) for target in best.values())
    return tuple(dict.fromkeys(each for each in found if each is not None))


def blocked(waits: Sequence[Wait], most: int = 4) -> tuple[BlockedOn, ...]:
    """Say of each thread what it waits for."""
    return tuple(BlockedOn(thread_ref(wait), wait.target, waited(wait)) for wait in waits[:most])


def waited(wait: Wait) -> Elapsed | None:
    """Return for how long the thread is known to have waited without a break."""
    if wait.evidence == "events":
        return None if wait.for_s is None else Elapsed(wait.for_s, "exact")
    return None if wait.asleep_s is None else Elapsed(wait.asleep_s)
