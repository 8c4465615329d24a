"""Find file locks that do not protect: inherited-file, shared-file, stale-lock-file, lost-file-lock, fragile-file-lock
and local-lock-file. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.model import (
    Advice,
    Fact,
    FileClaim,
    FileLockLost,
    FileLockType,
    FileOpenTwice,
    FileShared,
    FileTakerEnded,
    Finding,
    FindingCode,
    LocalFile,
    Lock,
    LockedPath,
    LockFileNames,
    ProcessId,
    Remedy,
    Severity,
    Snapshot,
)
from semtrace.rules.basis import Limits
from semtrace.rules.evidence import lock_ref, process_refs, waiting, waiting_threads
from semtrace.waits.workers import workers

# So long somebody waits before a lock that works, but outlives its taker, is worth a word.
_WAIT_S = 1.0


def file_locks(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    parents = {process.id: process.ppid for process in workers(snapshot) if process.id != snapshot.server.id}
    for lock in snapshot.locks:
        if lock.file is None:
            continue
        found = (
            _stale(lock) or _lost(lock) or _inherited(lock) or _shared(lock, parents) or _fragile(lock) or _local(lock)
        )
        if found is not None:
            yield found


def _is_waited(lock: Lock) -> bool:
    return any((waiter.for_s or 0.0) >= _WAIT_S for waiter in lock.waiters)


def _stale(lock: Lock) -> Finding | None:
    """A lock file whose owner has ended, or may have: nobody removes it, and those who poll wait for that."""
    file = lock.file
    if file is None or file.path is None or (file.ended_owner is None and file.other_host is None):
        return None
    advice = Advice.REMOVE_LOCK_FILE if file.other_host is None else Advice.REMOVE_IF_ENDED_THERE
    return _finding(
        FindingCode.STALE_LOCK_FILE,
        lock,
        LockFileNames(file.ended_owner, file.other_host),
        Remedy((advice,), ("rm", file.path)),
    )


def _inherited(lock: Lock) -> Finding | None:
    """An flock whose taker has ended while others wait: it has no claim of its own any more."""
    claims = lock.file.claims if lock.file is not None else ()
    heirs = [each for each in claims if each.taker_ended and each.inherited and each.type is FileLockType.FLOCK]
    takers = {claim.taker for claim in heirs}
    if not heirs or len(takers) != 1 or not _is_waited(lock):
        return None
    fact = FileTakerEnded(heirs[0].taker or 0, _processes(heirs))
    return _finding(FindingCode.INHERITED_FILE, lock, fact, Remedy((Advice.CLOSE_IN_CHILDREN,)))


def _shared(lock: Lock, parents: dict[ProcessId, int]) -> Finding | None:
    """A worker holds the lock through an open file that other workers have too: it does not keep those out.

    A master that locks a file, and whose workers inherited it, means to keep other masters out. Children of the holder
    inherit its files as well, and may well do its work.
    """
    claims = [claim for claim in (lock.file.claims if lock.file else ()) if claim.type is FileLockType.FLOCK]
    for own in claims:
        if own.process is None or own.process not in parents or own.inherited or not own.exclusive:
            continue
        others = [each for each in claims if each.taker == own.taker and each.process not in (None, own.process)]
        sharing = [each for each in others if each.process and parents.get(each.process) == parents[own.process]]
        if sharing:
            fact = FileShared(own.process, _processes(sharing))
            return _finding(FindingCode.SHARED_FILE, lock, fact, Remedy((Advice.OPEN_AFTER_FORK,)))
    return None


def _lost(lock: Lock) -> Finding | None:
    """A POSIX lock that a process has marked as acquired, and the kernel has dropped: the next one gets in as well."""
    processes = lock.file.lost_by if lock.file is not None else ()
    if not processes:
        return None
    fact, remedy = FileLockLost(processes), Remedy((Advice.OPEN_ONCE,))
    return _finding(FindingCode.LOST_FILE_LOCK, lock, fact, remedy, "error", processes)


def _local(lock: Lock) -> Finding | None:
    """A lock file on a file system that other containers do not see; it may be meant for this one alone."""
    file = lock.file
    if file is None or not file.local or file.filesystem is None:
        return None
    fact = LocalFile(file.filesystem)
    return _finding(FindingCode.LOCAL_LOCK_FILE, lock, fact, Remedy((Advice.SHARE_FOLDER,)), "note")


def _fragile(lock: Lock) -> Finding | None:
    """A POSIX lock whose holder has the file open twice: fcntl(2), "Record locks"."""
    processes = lock.file.open_twice if lock.file is not None else ()
    if not processes:
        return None
    fact = FileOpenTwice(processes)
    return _finding(FindingCode.FRAGILE_FILE_LOCK, lock, fact, Remedy((Advice.OPEN_ONCE,)), "note")


def _processes(claims: list[FileClaim]) -> tuple[ProcessId, ...]:
    return tuple(sorted({claim.process for claim in claims if claim.process is not None}))


def _finding(
    code: FindingCode,
    lock: Lock,
    fact: Fact,
    remedy: Remedy,
    severity: Severity = "warning",
    others: tuple[ProcessId, ...] = (),
) -> Finding:
    path = lock.file.path if lock.file is not None and lock.name else None
    facts = (LockedPath(path), fact) if path is not None else (fact,)
    holders = process_refs([*(holder.process for holder in lock.holders), *others])
    return Finding(
        code=code,
        severity=severity,
        locks=(lock_ref(lock),),
        threads=(*holders, *waiting_threads(lock)),
        facts=(*facts, *waiting(lock)),
        remedy=remedy,
    )
