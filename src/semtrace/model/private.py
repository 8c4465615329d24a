"""Locks that each process has for itself: those of `threading` and asyncio."""

from __future__ import annotations

from semtrace.lazydata import dataclass
from semtrace.model.locks import Holder, Waiter
from semtrace.model.names import ProcessId


@dataclass(frozen=True)
class ThreadLockUse:
    """A `threading` lock in one process: private to it, whatever its name says.

    `waiters` are its own threads that sleep in it, None where that was not measured. It is not for a semaphore, an
    asyncio lock, and a process whose threads could not be read. `holder` is set where it is proved. An RLock stores it;
    for a Lock it is the one thread inside `with` it, which is searched only when a thread has long waited. `inherited`:
    it is locked since the fork. It was never seen free, nobody of the process is seen to have taken it, and the parent
    was seen to hold the same lock. `address` is that of the lock in the process's memory. `tasks` is how many tasks
    wait for an asyncio lock; the first has done so for at least `tasks_s`, None if unknown.
    """

    process: ProcessId
    locked: bool
    holder: Holder | None = None
    waiters: tuple[Waiter, ...] | None = ()
    inherited: bool = False
    address: int | None = None
    tasks: int = 0
    tasks_s: float | None = None


@dataclass(frozen=True)
class Overlap:
    """Evidence that a lock excludes nobody: `times` refreshes saw several processes inside it at once, at most `most`.

    `first_at` and `last_at` are in seconds since the epoch; `processes` are those of the last time.
    """

    times: int
    most: int
    first_at: float
    last_at: float
    processes: tuple[ProcessId, ...]


@dataclass(frozen=True)
class ThreadLock:
    """A `threading` lock that every process of the server has its own copy of; `own` as in Lock."""

    name: str
    kind: str
    processes: tuple[ThreadLockUse, ...]
    overlap: Overlap | None = None
    own: bool = True
