"""Locks as the verdict sees them: who holds one, who waits, who is gone."""

from __future__ import annotations

from semtrace.lazydata import dataclass
from semtrace.model.names import Evidence, Frame, LockState, ProcessId, SemId, Word
from semtrace.model.tracing import Statistics


@dataclass(frozen=True)
class Holder:
    """A claim that the verdict accepted.

    `count` is how many units it took, for an RLock how deep. `since_s` is a lower bound: how long its thread has slept,
    or how long the samples saw it so. Samples cannot tell a long hold from many short ones. With `evidence` "events"
    the traced lock itself says so: the time is exact, and `site` is where it was acquired. `asleep_s` is for how long
    the thread is known not to have run: so long it has released nothing. `within`: it is inside `with` the lock, by its
    frames, and so will release it itself; only asked of one that waits for its own lock. `certain` is False for a
    process that may not hold it, for the `reason` of the lock. It may only have inherited its count at a fork, or is
    acquiring it and has not counted it yet.
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
    certain: bool = True

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True)
class Waiter:
    """A thread that the kernel shows blocked in futex on the semaphore; `for_s` is a lower bound as in Holder.

    `asleep_s` is for how long the thread is known not to have run: so long this is one and the same wait. `timed`: it
    waits with a timeout. `in_handler`: it is in a signal handler that interrupted its own code.
    `idle`: it waits for work, as designed.
    """

    process: ProcessId
    tid: int
    for_s: float | None = None
    stack: tuple[Frame, ...] | None = None
    evidence: Evidence = "memory"
    site: str | None = None
    asleep_s: float | None = None
    timed: bool = False
    in_handler: bool = False
    idle: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True)
class LastHolder:
    """The last holder that was seen, of a lock that no known process holds now; it has ended. The lock was not seen
    free since, but others may have had it between two samples. A process that still lives must have released it and
    does not count.

    `seen_s` ago it was last seen to hold, and before in every sample for `held_s`, in one hold or in several. For
    `unbroken_s` it was known to be one hold, and its last heartbeat was `silent_s` before. `ended_s` ago the process
    was first found to be gone.
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Stray:
    """A count of a process's SemLock objects that belongs to no hold, and has stood so for half a second.

    It is negative where the process was ever seen to have released what another had taken. `certain` is False where
    more processes claim the lock than can hold it, and which of them does is not known.
    """

    process: ProcessId
    count: int
    certain: bool = True


@dataclass(frozen=True)
class Lost:
    """Units of a BoundedSemaphore that are taken and claimed by no living process: `proved`, or only seen to be so, at
    every sample for `for_s`.
    """

    units: int
    proved: bool
    for_s: float | None = None


class FileLockType(Word):
    """FLOCK: flock(2), of an open file. POSIX: fcntl(2) F_SETLK, of a process. OFD: fcntl(2) F_OFD_SETLK, of an open
    file. SOFT: no lock of the kernel's, but a file that exists while the lock is held.
    """

    FLOCK = "flock"
    POSIX = "posix"
    OFD = "ofd"
    SOFT = "soft"


@dataclass(frozen=True)
class FileClaim:
    """A lock on bytes of a file, `start` and `end` included, `end` None up to the end of the file.

    `process` is who holds it, None where that is not known. An flock or OFD lock that several processes share through
    one open file has a claim for each. `fd` is the descriptor by which that was seen, None where the kernel's list says
    it. `taker` is the PID of who took it, `inherited`: that is another process, which passed on the open file.
    `taker_ended`: no process of that PID lives.
    """

    process: ProcessId | None
    type: FileLockType
    exclusive: bool
    start: int = 0
    end: int | None = None
    fd: int | None = None
    taker: int | None = None
    taker_ended: bool = False

    @property
    def inherited(self) -> bool:
        return self.process is not None and self.taker is not None and self.taker != self.process.pid


@dataclass(frozen=True)
class LockedFile:
    """The file that processes lock. `path` is as the server sees it, None where no process shows it; `deleted`: the
    file has no name any more. `type` and `exclusive` are those of the first claim, or of what is waited for.
    `open_twice` are those that hold a POSIX lock on all of it and have the file open more than once.
    `ended_owner` is the PID that a soft lock file names and that has ended; `other_host` the host that it names, if
    that is another. `lost_by` are those that have marked a POSIX lock on it as acquired, which the kernel has dropped.
    `filesystem` is the type of the file system, such as overlay, None if it cannot be seen; `local`: only the
    server's own container has that file system.
    """

    path: str | None
    type: FileLockType
    exclusive: bool
    deleted: bool = False
    claims: tuple[FileClaim, ...] = ()
    open_twice: tuple[ProcessId, ...] = ()
    ended_owner: int | None = None
    other_host: str | None = None
    lost_by: tuple[ProcessId, ...] = ()
    filesystem: str | None = None
    local: bool = False


@dataclass(frozen=True)
class Lock:
    """One semaphore as the verdict sees it, or a file with locks: then `file` is set and `kind` is "file".

    `kind` is the class of the object in the source (Lock, RLock, Semaphore, BoundedSemaphore, or a subclass's own
    name), "unknown" without a SemLock. `names` are all names that lead to it, `name` the best of them. `part_of` is the
    larger primitive that it is a piece of, and `attribute` the one that has it there (`_rlock`). `separate` is how many
    semaphores bear this name, each in processes of its own. `maximum` is SemLock's maxvalue: 1 for Lock and RLock, n
    for BoundedSemaphore(n), 2147483647 for Semaphore(n), which does not keep its n. `signal` marks the semaphores
    inside Condition, Event, Queue and Barrier that nobody holds. `reason` says why the state is unknown, or what
    qualifies it; `if_ended` takes its place once the server has ended, if a proof was under way. `in_flux` means that
    it kept changing while it was read. `own` is False if only the modules of libraries lead to it. `waited_s` is how
    long threads were seen to wait for it, all together, since the watching began, but for the time in which it was
    orphaned. `orphaned_s` ago it was first proved orphaned, and it was not seen free or held since: also while, for a
    moment, it is "unknown" again. `proof_needs_rights`: it would be proved orphaned, but semtrace may not ask some
    processes whether they map it. `last_holder` is known only of one that ended, and None where `dead_holder` says
    better who.
    """

    id: SemId
    kind: str
    state: LockState
    value: int | None
    maximum: int | None
    name: str | None = None
    names: tuple[str, ...] = ()
    part_of: str | None = None
    attribute: str | None = None
    signal: bool = False
    shm_name: str | None = None
    linked: bool = False
    holders: tuple[Holder, ...] = ()
    waiters: tuple[Waiter, ...] = ()
    mapped_by: tuple[ProcessId, ...] = ()
    reason: str | None = None
    if_ended: str | None = None
    in_flux: bool = False
    separate: int = 1
    statistics: Statistics | None = None
    own: bool = True
    last_holder: LastHolder | None = None
    dead_holder: DeadHolder | None = None
    outsiders: tuple[int, ...] | None = None
    lost: Lost | None = None
    proof_needs_rights: bool = False
    strays: tuple[Stray, ...] = ()
    waited_s: float = 0.0
    orphaned_s: float | None = None
    file: LockedFile | None = None

    @property
    def sure_holders(self) -> tuple[Holder, ...]:
        """Return the holders that took what they claim: none of them may only have inherited its count."""
        return tuple(holder for holder in self.holders if holder.certain)

    @property
    def label(self) -> str:
        """Return its name in the source where it is known, a file's path, else its identity."""
        return self.name or (self.file and self.file.path) or str(self.id)
