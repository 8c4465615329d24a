"""Holders and waiters of a file lock before it becomes a row."""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.lazydata import dataclass
from semtrace.linux.filelocks import FileLock
from semtrace.model import FileClaim, FileLockType, ProcessId, SemId, ThreadId
from semtrace.observe.files.pollers import Poller
from semtrace.observe.files.softlocks import SoftHolder


@dataclass(frozen=True)
class FileWait:
    """A thread that waits for a lock on a file, and who holds what it waits for. `complete`: nobody else can have it.
    `unseen`: the kernel's list does not show it, for its holder is in another PID namespace.
    """

    thread: ThreadId
    file: SemId
    path: str | None
    exclusive: bool
    type: FileLockType
    holders: tuple[ProcessId, ...] = ()
    complete: bool = False
    hidden: tuple[int, ...] = ()
    poller: Poller | None = None
    owner: SoftHolder | None = None
    unseen: bool = False


@dataclass(frozen=True)
class Held:
    """A lock of the kernel's list with its claims; `unknown`: somebody holds it who was not found."""

    lock: FileLock
    claims: tuple[FileClaim, ...]
    unknown: bool


def is_shared(locks: Sequence[FileLock]) -> bool:
    """Return True if one of them belongs to an open file, which a fork passes on."""
    return any(lock.type is not FileLockType.POSIX for lock in locks)
