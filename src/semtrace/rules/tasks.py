"""long-wait of tasks: those of an event loop that wait for an asyncio lock. No thread sleeps in it.

Who would release it is not proven, for any task, callback or timer may. Where the wait is shorter than the limit and no
more is known, because it began before the watching, it is a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from semtrace.model import (
    Advice,
    Elapsed,
    Finding,
    FindingCode,
    HeldBy,
    Hold,
    Remedy,
    Snapshot,
    TasksWait,
    ThreadLock,
    ThreadLockUse,
    ThreadRef,
)
from semtrace.rules.basis import Limits
from semtrace.rules.evidence import private_ref, thread_ref

# From when on a wait is worth a note.
_NOTED_S = 1.0


def waiting_tasks(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield the asyncio locks that nobody passed on for long while tasks waited for them."""
    for lock in snapshot.thread_locks:
        uses = [use for use in lock.processes if use.tasks and (use.tasks_s or 0.0) >= _NOTED_S]
        if uses:
            yield _waiting(lock, sorted(uses, key=lambda use: -(use.tasks_s or 0.0)), snapshot, limits)


def _waiting(lock: ThreadLock, uses: Sequence[ThreadLockUse], snapshot: Snapshot, limits: Limits) -> Finding:
    longest_s = uses[0].tasks_s or 0.0
    late = longest_s >= limits.wait_s
    holds = tuple(Hold(thread_ref(use.holder), None) for use in uses if use.holder)
    longer = ("semtrace", "doctor", str(snapshot.server.pid), "--for", "15")
    return Finding(
        code=FindingCode.LONG_WAIT,
        severity="warning" if late else "note",
        locks=(private_ref(lock),),
        threads=tuple(ThreadRef(use.process) for use in uses),
        facts=(
            *(TasksWait(use.process, use.tasks, Elapsed(use.tasks_s or 0.0)) for use in uses),
            *([HeldBy(holds)] if holds else []),
        ),
        remedy=Remedy((Advice.RELEASE_BY_ASYNC_WITH,)) if late else Remedy((Advice.WATCH_LONGER,), longer),
        since=Elapsed(longest_s),
    )
