"""Waits: the blocked threads, the things that they wait for, and the threads that could wake them."""

from __future__ import annotations

from semtrace.lazydata import dataclass
from semtrace.model.names import Evidence, Frame, ProcessId, SemId, ThreadId, Word


class WaitKind(Word):
    """Kinds of things that a thread can be blocked on. The values are part of the JSON contract."""

    SHARED_LOCK = "shared-lock"
    SIGNAL = "signal"
    PRIVATE_LOCK = "private-lock"
    PROCESS_END = "process-end"
    THREAD_END = "thread-end"
    PIPE_READ = "pipe-read"
    PIPE_WRITE = "pipe-write"
    FILE_LOCK = "file-lock"
    MANAGER_LOCK = "manager-lock"
    UNKNOWN = "unknown"


class Inside(Word):
    """The thing that a private lock guards which the program did not make itself."""

    FILE = "file"  # a buffered file of the io module
    LOGGING = "logging"
    IMPORT = "import"  # a module that is being imported


class Doubt(Word):
    """Reasons why a thread may wake although none of its known wakers can run."""

    UNREADABLE = "unreadable"  # a process cannot be read, and it may be able to wake the thread
    OUTSIDER = "outsider"  # a process outside the server has the same object
    UNASKED = "unasked"  # other processes have not been asked yet
    HANDLER = "handler"  # a signal handler of the program may do it
    ALARM = "alarm"  # the thread itself may be interrupted by its program's alarm (SIGALRM)
    UNRECOGNISED = "unrecognised"  # the thing that it waits for is not understood


@dataclass(frozen=True)
class Wakers:
    """Everyone who could wake one thread; any one of them is enough.

    `threads` are single threads, `processes` stand for all of their threads. With a `doubt` somebody else may do it
    too: `pids` are the processes that the doubt is about.
    """

    threads: tuple[ThreadId, ...] = ()
    processes: tuple[ProcessId, ...] = ()
    doubt: Doubt | None = None
    pids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Target:
    """The thing that a thread is blocked on. Threads that are blocked on one thing have equal targets, also where each
    knows it by another name: the name counts only of what has no semaphore and no address.

    `name` is its name in the source or a description of the object that leads to it. `semaphore` is set for shared
    locks and signals. `process` is the owner process of a private lock or signal, or the process whose end is awaited.
    `address` identifies a private lock, a pipe by its inode, or a file by its device and inode. `part_of` and
    `attribute` as in Lock; of a lock of a Manager, which is the `process`, the name of its class and the method that
    was called. `units` is how many a semaphore has at most, None where it does not keep that. `variable`: its name is
    only that of a variable of a function. `inside` is what a private lock of a library guards.
    """

    kind: WaitKind
    name: str
    semaphore: SemId | None = None
    process: ProcessId | None = None
    address: int | None = None
    path: str | None = None
    part_of: str | None = None
    attribute: str | None = None
    named: bool = True
    units: int | None = None
    variable: bool = False
    inside: Inside | None = None

    @property
    def identity(self) -> tuple[object, ...]:
        """Return what distinguishes it from all other things."""
        name = self.name if self.semaphore is None and self.address is None else ""
        return self.kind, self.semaphore, self.process, self.address, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)


@dataclass(frozen=True)
class PoolWait:
    """The multiprocessing.Pool whose result a thread waits for: how many of its own three threads live, whether its
    workers are processes, and whether it was terminated.
    """

    handlers: int
    processes: bool
    terminated: bool


@dataclass(frozen=True)
class Wait:
    """One blocked thread.

    `asleep_s`: it is known not to have run for so long, None if that is not known. `for_s` is a lower bound of the
    wait. `holders` are the threads that are expected to wake it, because they hold what it waits for; None where that
    is not known. `bound`: only the holders can. `loose`: a holder's process has several threads, and which of them
    will release is not known. `stack` is the thread's own, innermost frame first, without frames from before a fork.
    `in_handler`: the thread is in a signal handler that interrupted its own code. `idle`: it waits for
    work, as designed. `evidence` and `site` as in Waiter. `parent_copy`: the parent of the
    process has the same private lock, and was seen to hold it so many times in so many snapshots. `forked_from` is that
    parent where the process has executed nothing since; it is noted for private signals. `pool` is set where it waits
    for the result of a Pool's job.
    """

    thread: ThreadId
    target: Target
    timed: bool
    wakers: Wakers
    asleep_s: float | None = None
    for_s: float | None = None
    holders: tuple[ThreadId, ...] | None = None
    bound: bool = False
    loose: bool = False
    stack: tuple[Frame, ...] | None = None
    in_handler: bool = False
    idle: bool = False
    evidence: Evidence = "memory"
    site: str | None = None
    parent_copy: tuple[ProcessId, int, int] | None = None
    forked_from: ProcessId | None = None
    pool: PoolWait | None = None

    @property
    def pid(self) -> int:
        return self.thread.process.pid


class RootKind(Word):
    """The shape of the knot that a stuck thread hangs on."""

    NOBODY = "nobody"  # nothing that lives could wake it
    ITSELF = "itself"  # a thread waits for what it holds itself
    RING = "ring"  # threads wait for each other
    STOPPED = "stopped"  # it waits for a process that is stopped


@dataclass(frozen=True)
class Root:
    """A cause within the wait graph: its own waits, and the threads that can only go on after them.

    `proven`: every living thread that could wake a member is stuck as well, and nothing contradicts that. `stopped` are
    the processes that a root of this kind is about.
    """

    kind: RootKind
    waits: tuple[Wait, ...]
    behind: tuple[Wait, ...] = ()
    proven: bool = False
    stopped: tuple[ProcessId, ...] = ()

    @property
    def targets(self) -> tuple[Target, ...]:
        """Return what its own threads wait for, each once."""
        return tuple(dict.fromkeys(wait.target for wait in self.waits))

    @property
    def since_s(self) -> float:
        """Return for how long none of its own threads has run."""
        return min((wait.asleep_s or 0.0 for wait in self.waits), default=0.0)


@dataclass(frozen=True)
class WaitGraph:
    """All waits of one snapshot. `stuck` are the threads that are proven to be; `roots` are the causes, the one with
    the most threads behind it first.
    """

    waits: tuple[Wait, ...] = ()
    stuck: frozenset[ThreadId] = frozenset()
    roots: tuple[Root, ...] = ()
