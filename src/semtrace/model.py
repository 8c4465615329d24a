"""The words of the project as frozen values: a snapshot of one server and all that it consists of.

Nothing here reads anything. Times ending in `_s` are seconds, sizes are bytes, and what was not measured is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Role = Literal["master", "worker", "dirty-arbiter", "dirty-worker", "process"]
LockState = Literal["free", "held", "contended", "exhausted", "orphaned", "unknown"]


# SemLock's kinds and the maxvalue of a Semaphore: Modules/_multiprocessing/semaphore.c,
# Lib/multiprocessing/synchronize.py.
RECURSIVE_MUTEX = 0
SEMAPHORE = 1
SEM_VALUE_MAX = 0x7FFFFFFF


class ProcessId(NamedTuple):
    """A process for as long as the machine is up: pids are reused, the pair is not.

    `start_ticks` is field 22 of `/proc/PID/stat`: clock ticks since boot.
    """

    pid: int
    start_ticks: int


class SemId(NamedTuple):
    """A semaphore's identity: the device and inode of the file that is mapped."""

    major: int
    minor: int
    inode: int

    def __str__(self) -> str:
        return f"{self.major}:{self.minor}:{self.inode}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a Python stack."""

    function: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Server:
    """What is watched: a gunicorn master or the root of another Python process tree.

    `bind` are the addresses that it listens on; `timeout_s` is gunicorn's `--timeout`; None where it is not known.
    """

    kind: Literal["gunicorn", "python"]
    id: ProcessId
    title: str
    started_at: float
    user: str
    version: str | None = None
    application: str | None = None
    bind: tuple[str, ...] = ()
    worker_class: str | None = None
    timeout_s: float | None = None

    @property
    def pid(self) -> int:
        return self.id.pid


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the server.

    `state` is the kernel's word ("running", "sleeping", "stopped", …); `cpu_percent` is of one core, between two
    refreshes; `started_at` is in seconds since the epoch; `holds` and `waits_on` name semaphores.
    """

    id: ProcessId
    ppid: int
    role: Role
    state: str
    rss: int
    threads: int
    started_at: float
    cpu_percent: float | None = None
    last_heartbeat_s: float | None = None
    holds: tuple[SemId, ...] = ()
    waits_on: tuple[SemId, ...] = ()

    @property
    def pid(self) -> int:
        return self.id.pid


@dataclass(frozen=True, slots=True)
class Holder:
    """A claim that the verdict accepted.

    `count` is how many units it took, for an RLock how deep. `since_s` is how long the sampling has seen it so: a lower
    bound that starts with the first look, and one that cannot tell a long hold from many short ones between the looks.
    """

    process: ProcessId
    tid: int | None
    count: int
    since_s: float | None = None
    evidence: Literal["memory", "events"] = "memory"
    stack: tuple[Frame, ...] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True, slots=True)
class Waiter:
    """A thread that the kernel shows blocked in futex on the semaphore; `for_s` is a lower bound as in Holder."""

    process: ProcessId
    tid: int
    for_s: float | None = None
    stack: tuple[Frame, ...] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True, slots=True)
class Lock:
    """One semaphore as the verdict sees it.

    `kind` is the class of the object in the source (Lock, RLock, Semaphore, BoundedSemaphore, or a subclass's own
    name), "unknown" without a SemLock. `names` are all names that lead to it, `name` the best of them; `part_of` is
    the larger primitive that it is a piece of. `separate` is how many semaphores bear this name, each in processes of
    its own. `maximum` is SemLock's maxvalue: 1 for Lock and RLock, n for BoundedSemaphore(n), 2147483647 for
    Semaphore(n), which does not keep its n. `signal` marks the semaphores inside Condition, Event, Queue and Barrier
    that nobody holds. `reason` says why the state is unknown, or what qualifies it. `in_flux` means that it kept
    changing while it was read.
    """

    id: SemId
    kind: str
    state: LockState
    value: int | None
    maximum: int | None
    name: str | None = None
    names: tuple[str, ...] = ()
    part_of: str | None = None
    signal: bool = False
    shm_name: str | None = None
    linked: bool = False
    holders: tuple[Holder, ...] = ()
    waiters: tuple[Waiter, ...] = ()
    mapped_by: tuple[ProcessId, ...] = ()
    reason: str | None = None
    in_flux: bool = False
    separate: int = 1

    @property
    def label(self) -> str:
        """What to call it: its name in the source where it is known, else its identity."""
        return self.name or str(self.id)


@dataclass(frozen=True, slots=True)
class ThreadLockUse:
    """A `threading` lock in one process: private to it, whatever its name says."""

    process: ProcessId
    locked: bool


@dataclass(frozen=True, slots=True)
class Overlap:
    """Evidence that a lock excludes nobody: `times` refreshes saw several processes inside it at once, at most `most`.

    `first_at` and `last_at` are in seconds since the epoch; `processes` are those of the last time.
    """

    times: int
    most: int
    first_at: float
    last_at: float
    processes: tuple[ProcessId, ...]


@dataclass(frozen=True, slots=True)
class ThreadLock:
    """A `threading` lock that every process of the server has its own copy of."""

    name: str
    kind: str
    processes: tuple[ThreadLockUse, ...]
    overlap: Overlap | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be read or decided, and what would help. `process` is None when it concerns no one."""

    what: str
    error: str
    remedy: str
    process: ProcessId | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One server at one time. `taken_at` is in seconds since the epoch, `monotonic_s` is CLOCK_MONOTONIC.

    `cost_s` is the CPU time that taking it cost. `alive` is False once the server has ended: the rest is then its
    last picture.
    """

    server: Server
    taken_at: float
    monotonic_s: float
    processes: tuple[Process, ...]
    locks: tuple[Lock, ...]
    thread_locks: tuple[ThreadLock, ...] = ()
    problems: tuple[Problem, ...] = field(default=())
    alive: bool = True
    cost_s: float = 0.0
