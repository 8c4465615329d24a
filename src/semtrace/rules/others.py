"""long-hold and long-wait of all but shared locks: private locks, file locks, threads that a worker waits for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from semtrace.model import (
    Advice,
    Elapsed,
    Finding,
    FindingCode,
    HeldBy,
    Hold,
    LockRef,
    Remedy,
    RootKind,
    Snapshot,
    ThreadLock,
    ThreadLockUse,
    ThreadRef,
    Wait,
    WaitKind,
    place_of,
)
from semtrace.rules.basis import Limits
from semtrace.rules.knots import blocked, is_deadlock, target_refs, thread_ref
from semtrace.waits.workers import workers


def long_waits(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield what threads have long waited for and what no other finding explains, each thing once."""
    explained = set(snapshot.waits.stuck)
    for root in snapshot.waits.roots:
        if root.proven or is_deadlock(root) or root.kind is RootKind.STOPPED:
            explained |= {wait.thread for wait in (*root.waits, *root.behind)}
    together: dict[object, list[Wait]] = {}
    for wait in snapshot.waits.waits:
        lasts = not (wait.timed or wait.idle) and (wait.asleep_s or 0.0) >= limits.wait_s
        if lasts and wait.thread not in explained and _is_reported(wait, snapshot):
            target = wait.target
            alike = (target.kind, target.name) if target.kind is WaitKind.THREAD_END else target
            together.setdefault(alike, []).append(wait)
    for waits in together.values():
        kind = waits[0].target.kind
        if kind is WaitKind.PRIVATE_LOCK:
            yield _private(waits, snapshot, limits)
        else:
            held = _file(waits, snapshot, limits) if kind is WaitKind.FILE_LOCK else None
            yield held or _wait(waits, snapshot)


# Lib/multiprocessing/managers.py AcquirerProxy: other methods wait for a signal.
_ACQUIRE = "acquire"


def _is_reported(wait: Wait, snapshot: Snapshot) -> bool:
    """Return True for waits that are worth a finding. To join a thread or process is normal: it only keeps a worker
    from work.
    """
    kind = wait.target.kind
    if kind is WaitKind.THREAD_END:
        serving = {process.id for process in workers(snapshot)} - {snapshot.server.id}
        return wait.thread.tid == wait.pid and wait.thread.process in serving
    if kind is WaitKind.MANAGER_LOCK:
        return wait.target.attribute == _ACQUIRE
    return kind in (WaitKind.PRIVATE_LOCK, WaitKind.FILE_LOCK)


def _private(waits: Sequence[Wait], snapshot: Snapshot, limits: Limits) -> Finding:
    """A hold, where the holder is known and has not run for as long as the limit; else a wait."""
    found = _use_of(waits[0], snapshot)
    holder = found[1].holder if found is not None else None
    if found is None or holder is None or (holder.asleep_s or 0.0) < limits.hold_s:
        return _wait(waits, snapshot)
    lock, use = found
    held = ThreadRef(holder.process, holder.tid, place_of(holder))
    return Finding(
        code=FindingCode.LONG_HOLD,
        severity="warning",
        locks=(LockRef(None, lock.name, lock.kind, use.process),),
        threads=(held, *map(thread_ref, waits)),
        facts=(HeldBy((Hold(held, Elapsed(holder.asleep_s or 0.0)),)), *blocked(waits)),
        remedy=Remedy((Advice.HOLD_SHORTER,), ("semtrace", "dump", "--stacks", str(use.process.pid))),
        since=Elapsed(holder.asleep_s or 0.0),
    )


def _file(waits: Sequence[Wait], snapshot: Snapshot, limits: Limits) -> Finding | None:
    """A hold, where the only holder has one thread, which has not run for as long as the limit."""
    refs = target_refs((wait.target for wait in waits), snapshot)
    lock = next((lock for lock in snapshot.locks if lock.file is not None and refs and lock.id == refs[0].id), None)
    holder = lock.holders[0] if lock is not None and len(lock.holders) == 1 else None
    if holder is None or (holder.asleep_s or 0.0) < limits.hold_s:
        return None
    held = ThreadRef(holder.process, holder.tid, place_of(holder))
    return Finding(
        code=FindingCode.LONG_HOLD,
        severity="warning",
        locks=refs,
        threads=(held, *map(thread_ref, waits)),
        facts=(HeldBy((Hold(held, Elapsed(holder.asleep_s or 0.0)),)), *blocked(waits)),
        remedy=Remedy((Advice.HOLD_SHORTER,), ("semtrace", "dump", "--stacks", str(holder.pid))),
        since=Elapsed(holder.asleep_s or 0.0),
    )


def _use_of(wait: Wait, snapshot: Snapshot) -> tuple[ThreadLock, ThreadLockUse] | None:
    for lock in snapshot.thread_locks:
        for use in lock.processes if lock.name == wait.target.name else ():
            if use.process == wait.thread.process:
                return lock, use
    return None


def _wait(waits: Sequence[Wait], snapshot: Snapshot) -> Finding:
    longest = sorted(waits, key=lambda wait: -(wait.asleep_s or 0.0))
    holders = {holder.process for wait in waits for holder in wait.holders or ()}
    holders |= {
        process for wait in waits if wait.target.kind is WaitKind.FILE_LOCK for process in wait.wakers.processes
    }
    held = tuple(Hold(ThreadRef(process), None) for process in sorted(holders))
    return Finding(
        code=FindingCode.LONG_WAIT,
        severity="warning",
        locks=target_refs((wait.target for wait in waits), snapshot),
        threads=tuple(map(thread_ref, longest)),
        facts=(*blocked(longest), *([HeldBy(held)] if held else [])),
        remedy=Remedy((Advice.SEE_STACKS,), ("semtrace", "dump", "--stacks", str(snapshot.server.pid))),
        since=Elapsed(longest[0].asleep_s or 0.0),
    )
