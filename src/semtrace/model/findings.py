"""Findings: what is wrong, as values. `present` makes the text.

To add a code, add it to `FindingCode`, give it a row in `CODES`, and give it a title in `present/titles.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from enum import auto
from typing import TypeVar

from semtrace.lazydata import dataclass
from semtrace.model.facts import Elapsed, Fact, LockRef, ThreadRef
from semtrace.model.names import SemId, Severity, Word

F = TypeVar("F")


class FindingCode(Word):
    """The kind of a finding. The words are a contract: JSON has them."""

    ORPHANED_LOCK = auto()
    STUCK = auto()
    DEADLOCK = auto()
    STOPPED = auto()
    WORKER_DIED = auto()
    UNSHARED_LOCK = auto()
    PRIVATE_LOCK = auto()
    INHERITED_HOLD = auto()
    OVER_RELEASE = auto()
    TIMEOUT_RISK = auto()
    LONG_HOLD = auto()
    LONG_WAIT = auto()
    CONTENTION = auto()
    LOCK_ORDER = auto()
    LEAKED_NAME = auto()
    SHM_FULL = auto()
    INHERITED_FILE = auto()
    SHARED_FILE = auto()
    STALE_LOCK_FILE = auto()
    LOST_FILE_LOCK = auto()
    FRAGILE_FILE_LOCK = auto()
    LOCAL_LOCK_FILE = auto()


@dataclass(frozen=True)
class CodeInfo:
    """A row of the table of codes.

    `severity` is the usual one. `passes`: a later snapshot does not show that it was so; everything else stays, or was
    repaired. `instead`: of one lock only one of these is reported, which takes the place of the one before.
    `of_the_machine`: it concerns the machine, and not this server; `in_brief`: a line of it will do. `about` is what it
    is about, if not a lock.
    """

    severity: Severity
    passes: bool = False
    instead: bool = False
    of_the_machine: bool = False
    in_brief: bool = False
    about: str = ""


# Findings of the same severity are shown in the order of these rows.
CODES: Mapping[FindingCode, CodeInfo] = {
    FindingCode.ORPHANED_LOCK: CodeInfo("error"),
    FindingCode.STUCK: CodeInfo("error", passes=True),
    FindingCode.DEADLOCK: CodeInfo("error", passes=True),
    FindingCode.STOPPED: CodeInfo("warning", passes=True, instead=True),
    FindingCode.WORKER_DIED: CodeInfo("error"),
    FindingCode.UNSHARED_LOCK: CodeInfo("error"),
    FindingCode.PRIVATE_LOCK: CodeInfo("error"),
    FindingCode.INHERITED_HOLD: CodeInfo("warning", instead=True),
    FindingCode.OVER_RELEASE: CodeInfo("warning"),
    FindingCode.STALE_LOCK_FILE: CodeInfo("warning", passes=True),
    FindingCode.INHERITED_FILE: CodeInfo("warning", passes=True),
    FindingCode.SHARED_FILE: CodeInfo("warning"),
    FindingCode.TIMEOUT_RISK: CodeInfo("warning", passes=True, instead=True),
    FindingCode.LONG_HOLD: CodeInfo("warning", passes=True, instead=True),
    FindingCode.LONG_WAIT: CodeInfo("warning", passes=True, instead=True),
    FindingCode.CONTENTION: CodeInfo("note"),
    FindingCode.LOST_FILE_LOCK: CodeInfo("error", passes=True),
    FindingCode.FRAGILE_FILE_LOCK: CodeInfo("note", passes=True),
    FindingCode.LOCAL_LOCK_FILE: CodeInfo("note"),
    FindingCode.LOCK_ORDER: CodeInfo("warning"),
    FindingCode.SHM_FULL: CodeInfo("warning", of_the_machine=True, about="/dev/shm"),
    FindingCode.LEAKED_NAME: CodeInfo("warning", of_the_machine=True, in_brief=True, about="/dev/shm"),
}
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Advice(Word):
    """One sentence of a remedy, or a few that belong together."""

    # orphaned locks
    PREVIEW_RELEASE = auto()
    PREVIEW_RELEASE_TO_WAITERS = auto()
    DATA_NOT_REPAIRED = auto()
    MESSAGE_MAY_BE_TORN = auto()
    ASK_AS_ROOT = auto()
    RESTART_FOR_UNITS = auto()
    # rings
    SAME_ORDER = auto()
    SAME_ORDER_MEETS = auto()
    USE_SHARED_RLOCK = auto()
    USE_SHARED_RLOCK_NO_GREENLETS = auto()
    USE_THREADING_RLOCK = auto()
    USE_THREADING_RLOCK_NO_GREENLETS = auto()
    NO_RLOCK_FOR_GREENLETS = auto()
    NO_RLOCK_FOR_TASKS = auto()
    NO_LOCK_IN_DEL = auto()
    FINE_IF_RELEASED = auto()
    RESTART_PROCESS = auto()
    RESTART_PROCESSES = auto()
    RESTART_SERVER = auto()
    LOCK_INSTEAD_OF_SEMAPHORE = auto()
    LOCKS_INSTEAD_OF_SEMAPHORES = auto()
    # threads that are stuck
    RELEASE_IN_FINALLY = auto()
    RELEASE_BY_ASYNC_WITH = auto()
    NOT_IN_HANDLER = auto()
    READ_BEFORE_JOIN = auto()
    READ_WHILE_WRITING = auto()
    RELEASE_BEFORE_JOIN = auto()
    JOIN_ONE_WAY = auto()
    NO_WAIT_AT_IMPORT = auto()
    NEW_AFTER_FORK = auto()
    NO_WRITE_AT_FORK = auto()
    NO_LOG_AT_FORK = auto()
    NO_IMPORT_AT_FORK = auto()
    TASK_DONE_IN_FINALLY = auto()
    WAIT_WITH_TIMEOUT = auto()
    WAIT_FOR_THREADS_WITH_TIMEOUT = auto()
    TAKE_UNITS_BY_WITH = auto()
    NOT_WHILE_HOLDING = auto()
    OWN_POOL = auto()
    RESULTS_BEFORE_TERMINATE = auto()
    START_AFTER_FORK = auto()
    SEE_POOLS_EXCEPTION = auto()
    NO_WAIT_IN_CALLBACK = auto()
    SEE_WORKERS_OUTPUT = auto()
    CHECK_RESULTS = auto()
    SEE_STACKS = auto()
    # counts
    CANNOT_BE_RELEASED = auto()
    MASTER_FORKS_WITHOUT = auto()
    PARENT_FORKS_WITHOUT = auto()
    NEW_LOCK_AFTER_FORK = auto()
    RESTART_TO_CLEAR = auto()
    RELEASE_ONLY_AFTER_ACQUIRE = auto()
    # locks that do not exclude
    SHARE_ACROSS_WORKERS = auto()
    SHARE_BY_FORK = auto()
    NOT_IN_EVENT_LOOP = auto()
    FINE_FOR_ONE_PROCESS = auto()
    IGNORE_LOCK = auto()
    MAKE_BEFORE_FORK = auto()
    MAKE_BEFORE_FORK_TO_SHARE = auto()
    MAKE_IN_PARENT = auto()
    FINE_FOR_CHILDREN = auto()
    # locks that keep others waiting
    CONTINUE_STOPPED = auto()
    AVOID_KILL = auto()
    HOLD_SHORTER = auto()
    SET_TIMEOUT = auto()
    LESS_CONTENTION = auto()
    WATCH_LONGER = auto()
    # file locks
    CLOSE_IN_CHILDREN = auto()
    OPEN_AFTER_FORK = auto()
    OPEN_ONCE = auto()
    SHARE_FOLDER = auto()
    REMOVE_LOCK_FILE = auto()
    REMOVE_IF_ENDED_THERE = auto()
    # /dev/shm
    PREVIEW_CLEAN = auto()
    PREVIEW_CLEAN_BLOCKS = auto()
    CLEAN_IN_A_MINUTE = auto()
    CLEAN_LISTS = auto()
    CLEAN_THERE = auto()
    MAKE_ROOM = auto()
    MAKE_LARGER = auto()


@dataclass(frozen=True)
class Remedy:
    """Advice in its order, and a command to paste where one helps; `as_root` if only root can run it."""

    advice: tuple[Advice, ...]
    command: tuple[str, ...] | None = None
    as_root: bool = False


@dataclass(frozen=True)
class Finding:
    """A conclusion about `locks` and `threads`, the ones it is mainly about first.

    `facts` are what was seen. `since` is for how long it has been so. `over_s` is None while it lasts, else how long
    ago it was last seen.
    """

    code: FindingCode
    severity: Severity
    locks: tuple[LockRef, ...]
    threads: tuple[ThreadRef, ...]
    facts: tuple[Fact, ...]
    remedy: Remedy
    since: Elapsed | None = None
    over_s: float | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """Return each process once, in the order of the threads."""
        return tuple(dict.fromkeys(thread.pid for thread in self.threads))

    @property
    def main_lock(self) -> LockRef | None:
        """Return the first lock that is shared, else the first."""
        shared = (lock for lock in self.locks if lock.id is not None)
        return next(shared, self.locks[0] if self.locks else None)

    @property
    def lock(self) -> SemId | None:
        return self.main_lock.id if self.main_lock else None

    @property
    def name(self) -> str:
        """Return what it is about; control characters are still in it."""
        return self.main_lock.name if self.main_lock else CODES[self.code].about

    @property
    def since_s(self) -> float | None:
        return self.since.seconds if self.since else None

    @property
    def key(self) -> Hashable:
        """Return what makes it the same finding in another snapshot."""
        return self.code, frozenset((lock.id or lock.name, lock.process) for lock in self.locks)

    def fact(self, kind: type[F]) -> F | None:
        """Return the first fact of this kind."""
        return next((fact for fact in self.facts if isinstance(fact, kind)), None)

    def concerns(self, semaphore: SemId) -> bool:
        """Return True if it is about this shared lock, mainly or among others."""
        return any(lock.id == semaphore for lock in self.locks)
