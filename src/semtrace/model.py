"""The words of the project as frozen values: a snapshot of one server and all that it consists of.

Nothing here reads anything. Times ending in `_s` are seconds, sizes are bytes, and what was not measured is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Role = Literal["master", "worker", "dirty-arbiter", "dirty-worker", "process"]
LockState = Literal["free", "held", "contended", "exhausted", "orphaned", "unknown"]
Evidence = Literal["memory", "events"]
Severity = Literal["error", "warning", "info"]
EventName = Literal["wait", "acquired", "released", "failed", "created", "forked", "exiting"]


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
    """One frame of a Python stack; `source` is that line of the file, where it could be read."""

    function: str
    file: str
    line: int
    source: str | None = None


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
    With `evidence` "events" the traced lock itself says so: the time is exact, and `site` is where it was acquired.
    `asleep_s` is for how long the thread is known not to have run: so long it has let go of nothing. `within`: it is
    inside `with` the lock, by its frames, and so will release it itself; only asked of one that waits for its own lock.
    """

    process: ProcessId
    tid: int | None
    count: int
    since_s: float | None = None
    evidence: Evidence = "memory"
    stack: tuple[Frame, ...] | None = None
    site: str | None = None
    asleep_s: float | None = None
    within: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True, slots=True)
class Waiter:
    """A thread that the kernel shows blocked in futex on the semaphore; `for_s` is a lower bound as in Holder.

    `asleep_s` is for how long the thread is known not to have run: so long this is one and the same wait. `timed`: it
    waits with a timeout.
    """

    process: ProcessId
    tid: int
    for_s: float | None = None
    stack: tuple[Frame, ...] | None = None
    evidence: Evidence = "memory"
    site: str | None = None
    asleep_s: float | None = None
    timed: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True, slots=True)
class Durations:
    """How long something took. `count` are those that ended; quantiles are of those that were watched, and at most
    1.6 % off. `spread` are those as well: how many were shorter than each bound in seconds and not than the one before.
    """

    count: int = 0
    total_s: float = 0.0
    mean_s: float | None = None
    max_s: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    spread: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process was started as and where; None where it could not be read.

    `namespace_pid` is its pid in its own pid namespace, None if that is ours.
    """

    command: tuple[str, ...] | None
    directory: str | None
    user: str | None
    namespace_pid: int | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a traced lock counted, over all its processes since each began. `wait` is of contended acquires alone.

    `sites` are the lines that acquire it, since the watching began, the one that held it the longest first; a site's
    own statistics have none.
    """

    acquired: int
    contended: int
    failed: int
    wait: Durations
    hold: Durations
    sites: tuple[tuple[str, Statistics], ...] = ()

    @property
    def contention(self) -> float | None:
        """Which part of the acquires had to wait, 0 to 1."""
        return self.contended / self.acquired if self.acquired else None


@dataclass(frozen=True, slots=True)
class TracedEvent:
    """One act of a traced lock, or of its process. `t_s` is CLOCK_MONOTONIC, `sequence` the process's own number."""

    t_s: float
    process: ProcessId
    tid: int
    event: EventName
    lock: SemId | None
    name: str | None
    wait_s: float | None
    held_s: float | None
    site: str | None
    sequence: int


@dataclass(frozen=True, slots=True)
class LockOrder:
    """`inner` was acquired by a thread that held `outer`, and `beside` as well, at these lines. `threads` are the first
    two that did it: process and tid.
    """

    outer: SemId
    inner: SemId
    outer_site: str
    inner_site: str
    threads: tuple[tuple[ProcessId, int], ...]
    beside: frozenset[SemId] = frozenset()


@dataclass(frozen=True, slots=True)
class Tracing:
    """The events of the traced locks. `recent` are the last, of fast ones one in `one_in`; `rate` is a second.
    `orders` are those of pairs of locks that were seen in both orders.

    `received` and `lost` count records since the watching began; `live` is False where only state files are read.
    """

    live: bool
    recent: tuple[TracedEvent, ...] = ()
    one_in: int = 1
    rate: float = 0.0
    received: int = 0
    lost: int = 0
    orders: tuple[LockOrder, ...] = ()


@dataclass(frozen=True, slots=True)
class LastHolder:
    """Who was seen to hold a lock before it came to be held by nobody that is known. It was not seen free since, but
    others may have had it between two looks.

    `seen_s` ago it was last seen so, and then at every look for `held_s`, in one hold or in several; for `unbroken_s`
    it was known to be one, and `silent_s` before it had last beaten. `ended_s` ago the process was first found to be
    gone; None while it lives.
    """

    process: ProcessId
    tid: int | None
    seen_s: float
    held_s: float | None = None
    ended_s: float | None = None
    unbroken_s: float | None = None
    silent_s: float | None = None

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True, slots=True)
class DeadHolder:
    """A process that ended while it held the lock: its state file says so. It had it since `acquired_s` ago.

    `alive_s` ago the process was last seen alive, `gone_s` ago first found to be gone; None where it had ended before
    the watching began.
    """

    process: ProcessId
    acquired_s: float
    alive_s: float | None = None
    gone_s: float | None = None

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True, slots=True)
class Stray:
    """A count of a process's SemLock objects that belongs to no hold, and has stood so for half a second.

    It is negative where the process was ever seen to have released what another had taken. `certain` is False where
    more processes claim the lock than can hold it, and which of them does is not known.
    """

    process: ProcessId
    count: int
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Lost:
    """Units of a BoundedSemaphore that are taken and claimed by no living process: `proved`, or only seen to be so, at
    every look for `for_s`.
    """

    units: int
    proved: bool
    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """One semaphore as the verdict sees it.

    `kind` is the class of the object in the source (Lock, RLock, Semaphore, BoundedSemaphore, or a subclass's own
    name), "unknown" without a SemLock. `names` are all names that lead to it, `name` the best of them; `part_of` is
    the larger primitive that it is a piece of. `separate` is how many semaphores bear this name, each in processes of
    its own. `maximum` is SemLock's maxvalue: 1 for Lock and RLock, n for BoundedSemaphore(n), 2147483647 for
    Semaphore(n), which does not keep its n. `signal` marks the semaphores inside Condition, Event, Queue and Barrier
    that nobody holds. `reason` says why the state is unknown, or what qualifies it. `in_flux` means that it kept
    changing while it was read. `own` is False if only the modules of libraries lead to it. `waited_s` is how long
    threads were seen to wait for it, all together, since the watching began.
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
    statistics: Statistics | None = None
    own: bool = True
    last_holder: LastHolder | None = None
    dead_holder: DeadHolder | None = None
    lost: Lost | None = None
    strays: tuple[Stray, ...] = ()
    waited_s: float = 0.0

    @property
    def label(self) -> str:
        """What to call it: its name in the source where it is known, else its identity."""
        return self.name or str(self.id)


@dataclass(frozen=True, slots=True)
class ThreadLockUse:
    """A `threading` lock in one process: private to it, whatever its name says.

    `waiters` are its own threads that sleep in it. `holder` is who has it where that is proved: an RLock says so
    itself; of a Lock it is the one thread inside `with` it, which is asked only when somebody has long waited.
    `inherited`: most likely it was locked when the process was forked. It was never seen free, lies where the parent
    has its own, and nobody is inside `with` it.
    """

    process: ProcessId
    locked: bool
    holder: Holder | None = None
    waiters: tuple[Waiter, ...] = ()
    inherited: bool = False


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
    """A `threading` lock that every process of the server has its own copy of; `own` as in Lock."""

    name: str
    kind: str
    processes: tuple[ThreadLockUse, ...]
    overlap: Overlap | None = None
    own: bool = True


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be read or decided, and what would help. `process` is None when it concerns no one."""

    what: str
    error: str
    remedy: str
    process: ProcessId | None = None


@dataclass(frozen=True, slots=True)
class LeakedName:
    """A semaphore that is still listed in /dev/shm though no process maps it; `age_s` is since it was made."""

    id: SemId
    name: str
    age_s: float
    user: str


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """The server's /dev/shm: its room, and the names that nobody uses, None where that was not looked for."""

    size: int
    free: int
    leaked: tuple[LeakedName, ...] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A conclusion. `lock` and `name` are what it is about, None and "" where it is about none; `evidence` are the
    facts that were seen, one a line, and `remedy` is what to do.
    """

    code: str
    severity: Severity
    lock: SemId | None
    name: str
    pids: tuple[int, ...]
    title: str
    evidence: tuple[str, ...]
    remedy: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One server at one time. `taken_at` is in seconds since the epoch, `monotonic_s` is CLOCK_MONOTONIC.

    `cost_s` is the CPU time that taking it cost. `alive` is False once the server has ended: the rest is then its
    last picture. `watched_s` is for how long snapshots of it have been taken.
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
    tracing: Tracing | None = None
    watched_s: float = 0.0
    shared_memory: SharedMemory | None = None
    findings: tuple[Finding, ...] = ()
