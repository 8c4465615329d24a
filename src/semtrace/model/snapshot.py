"""A snapshot, and what could not be read."""

from __future__ import annotations

from dataclasses import field

from semtrace.lazydata import dataclass
from semtrace.model.deaths import Death
from semtrace.model.findings import Finding
from semtrace.model.locks import Lock
from semtrace.model.names import LeakedName, ProcessId, Unread
from semtrace.model.private import ThreadLock
from semtrace.model.server import EndedChild, Process, Server
from semtrace.model.tracing import Tracing
from semtrace.model.waits import Wait, WaitGraph


@dataclass(frozen=True)
class Problem:
    """Something that could not be read or decided, and what would help. `process` is None when it concerns no one.

    `unread` is what was not looked at, or not decided, because of it: nothing may be concluded about that.
    """

    what: str
    error: str
    remedy: str
    process: ProcessId | None = None
    unread: Unread | None = None


@dataclass(frozen=True)
class SharedMemory:
    """The server's /dev/shm: its room, and the names that nobody uses, None where that was not looked for.

    Where little room is left, `leaked` has those that are younger than a minute too. `elsewhere`: the server's is
    another one than semtrace's own, as in a container.
    """

    size: int
    free: int
    leaked: tuple[LeakedName, ...] | None = None
    elsewhere: bool = False


@dataclass(frozen=True)
class Snapshot:
    """One server at one time. `taken_at` is in seconds since the epoch, `monotonic_s` is CLOCK_MONOTONIC.

    `cost_s` is the CPU time that taking it cost. `alive` is False once the server has ended: the rest is then its
    last picture. `watched_s` is for how long snapshots of it have been taken. `blocked` are the threads that wait for
    anything but the locks above, as far as that was asked. `handlers` are processes whose program handles signals
    itself, `alarms` those that handle SIGALRM. `waits` is the wait graph of all. `ended` are children that nobody has
    reaped. `programs` are processes outside the server that its threads wait for, and of which every thread has a wait
    in `blocked`. `deaths` are processes of the server that ended while it was watched, the newest last.
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
    blocked: tuple[Wait, ...] = ()
    handlers: frozenset[ProcessId] = frozenset()
    alarms: frozenset[ProcessId] = frozenset()
    waits: WaitGraph = field(default_factory=WaitGraph)
    ended: tuple[EndedChild, ...] = ()
    programs: frozenset[ProcessId] = frozenset()
    deaths: tuple[Death, ...] = ()

    @property
    def semaphores(self) -> tuple[Lock, ...]:
        """Return the locks that are no files."""
        return tuple(lock for lock in self.locks if lock.file is None)

    def unread(self, wanted: Unread) -> Problem | None:
        """Return why this part of the server was not looked at, None if it was."""
        return next((problem for problem in self.problems if problem.unread == wanted), None)
