"""Facts: what a finding rests on. Each statement is a class of its own, `present` has a sentence for each.

To add a statement, add a class here, add it to `Fact`, and register its text in `present/facts.py`.
"""

from __future__ import annotations

from typing import Literal

from semtrace.lazydata import dataclass
from semtrace.model.deaths import DeathCause
from semtrace.model.names import LeakedName, ProcessId, SemId
from semtrace.model.places import Place
from semtrace.model.tracing import Statistics
from semtrace.model.waits import Doubt, Target

# exact: events say it. at-least: it may have lasted longer. samples: every sample saw it, in one stretch or in several.
Measure = Literal["exact", "at-least", "samples"]


@dataclass(frozen=True)
class Elapsed:
    """A duration, and how well it is known."""

    seconds: float
    measure: Measure = "at-least"


# The kinds of a file's lock and of a module's import lock, where other locks have the name of their class.
FILE, IMPORT = "file", "import"


@dataclass(frozen=True)
class LockRef:
    """A lock that a finding is about. `id` is None of a private lock; `process` is then the one whose copy it is, if
    the finding is about one copy. `managed`: it is a Manager's, in that process. `name` is as the target has it, and so
    may hold control characters. `variable`: the name is only that of a variable of a function.
    """

    id: SemId | None
    name: str
    kind: str = "unknown"
    process: ProcessId | None = None
    managed: bool = False
    variable: bool = False


@dataclass(frozen=True)
class ThreadRef:
    """A thread that a finding is about. `tid` is None where only its process is known, or meant."""

    process: ProcessId
    tid: int | None = None
    place: Place | None = None

    @property
    def pid(self) -> int:
        return self.process.pid


# -- who holds, who waits


@dataclass(frozen=True)
class VerdictReason:
    """The reason for the lock's state, from the verdict or the proof."""

    reason: str


@dataclass(frozen=True)
class HolderUnknown:
    """Nobody knows who holds it, for this reason of the verdict."""

    reason: str


@dataclass(frozen=True)
class Hold:
    """One holder. `certain` is False of a process that may only have inherited its count."""

    thread: ThreadRef
    since: Elapsed | None
    certain: bool = True


@dataclass(frozen=True)
class HeldBy:
    holds: tuple[Hold, ...]


@dataclass(frozen=True)
class WaitedFor:
    """Threads that wait for the lock; `longest` is for how long one of them has, None where that is not known."""

    threads: tuple[ThreadRef, ...]
    longest: Elapsed | None = None


@dataclass(frozen=True)
class TasksWait:
    """So many tasks of a process wait for an asyncio lock, the first of them since."""

    process: ProcessId
    tasks: int
    since: Elapsed


@dataclass(frozen=True)
class At:
    """Note only where these threads are."""

    threads: tuple[ThreadRef, ...]


@dataclass(frozen=True)
class BetweenRequests:
    """A holder whose code has ended without a release: its only thread waits for its next request or job. `site` is
    where a traced lock says that it took it.
    """

    thread: ThreadRef
    site: str | None = None


@dataclass(frozen=True)
class GreenletMayHold:
    """The threads run greenlets: one that is suspended shows in no stack, and may hold the lock. `worker_class` is
    gunicorn's, None of another server.
    """

    worker_class: str | None


# -- holders that died


@dataclass(frozen=True)
class DeadByFile:
    """The state file of a dead process says that it held the lock. `alive_s` ago it was last seen alive, `gone_s` ago
    first found gone; both are None where it had ended before the watching began, `watched_s` ago.
    """

    process: ProcessId
    alive_s: float | None
    gone_s: float | None
    watched_s: float


@dataclass(frozen=True)
class LastSeen:
    """Some snapshot saw who held it last: `seen_s` ago, for `held` by then; `ended_s` ago it was gone."""

    thread: ThreadRef
    seen_s: float
    held: Elapsed | None
    ended_s: float


@dataclass(frozen=True)
class HolderNotSeen:
    """No snapshot saw who held it last."""


@dataclass(frozen=True)
class KilledByTimeout:
    """The holder most likely died of gunicorn's --timeout: it had held the lock, or not beaten, for as long.
    `silent_s` is the age of its last heartbeat, None where the hold shows it.
    """

    timeout_s: float
    silent_s: float | None = None


@dataclass(frozen=True)
class EndedOtherwise:
    """The hold was far shorter than gunicorn's --timeout: something else ended the holder."""

    timeout_s: float


@dataclass(frozen=True)
class DiedOf:
    """The death certificate of the holder; the fields are those of a Death."""

    process: ProcessId
    cause: DeathCause
    exit_code: int | None
    silent_s: float | None = None


@dataclass(frozen=True)
class MayHaveHeld:
    """Processes that ended before the lock was proved orphaned, the last one first: one of them may have held it."""

    ended: tuple[DiedOf, ...]


@dataclass(frozen=True)
class EndUnknown:
    """Nobody knows how the holder ended; gunicorn's log may say it."""


@dataclass(frozen=True)
class TimeoutKills:
    """gunicorn kills a worker that is silent for so long, which may be what happened."""

    timeout_s: float


@dataclass(frozen=True)
class UnitsLost:
    """Units of a BoundedSemaphore that died with a process; `for_s` is for how long every sample saw it so."""

    units: int
    maximum: int
    proved: bool
    for_s: float | None = None


@dataclass(frozen=True)
class TakerDied:
    """State file of a process that took a unit of a Semaphore and ended without a release."""

    process: ProcessId
    acquired_s: float


@dataclass(frozen=True)
class TakerGone:
    """Snapshots in which the thread had a unit of a Semaphore `seen_s` ago, and was gone `ended_s` ago."""

    thread: ThreadRef
    seen_s: float
    ended_s: float


@dataclass(frozen=True)
class SemaphoreMayBeLock:
    """A Semaphore forgets the number that it began with: nobody knows whether it is a lock or a signal."""


# -- rings


@dataclass(frozen=True)
class RingLink:
    """A thread of a ring: it has `holds` and waits for `wants`. `took` where it may not be the one to release it."""

    thread: ThreadRef
    holds: LockRef
    wants: LockRef
    since: Elapsed | None
    took: bool = False


@dataclass(frozen=True)
class Asleep:
    """So many threads have not run for `for_s`; `for_ever` where none of them can go on."""

    threads: int
    for_s: float
    for_ever: bool


@dataclass(frozen=True)
class MayBeGate:
    """Others may release what the thread waits for: these processes, another thread of its own, or, where neither is
    given, a process that cannot be read.
    """

    pids: tuple[int, ...]
    own_thread: bool


@dataclass(frozen=True)
class ThreadMayRelease:
    """Another thread of the process that took the lock may release it."""

    lock: LockRef


@dataclass(frozen=True)
class OutsiderMayRelease:
    """Processes outside the server may release the lock."""

    pids: tuple[int, ...]
    lock: LockRef


@dataclass(frozen=True)
class HandsLocksOver:
    """The program was seen to release these locks in other processes than took them."""

    locks: tuple[LockRef, ...]


@dataclass(frozen=True)
class Behind:
    """So many more threads wait behind a ring, or behind one thread."""

    threads: int
    of_one: bool


@dataclass(frozen=True)
class SemaphoresInRing:
    """So many of the locks of a ring are Semaphores, of which another process may still give a unit."""

    count: int


# -- threads that are stuck


@dataclass(frozen=True)
class BlockedOn:
    """A thread and the thing that it waits for."""

    thread: ThreadRef
    target: Target
    since: Elapsed | None


@dataclass(frozen=True)
class WorkersBlocked:
    """So many of the server's workers are stuck, or wait (`proven` is False)."""

    workers: int
    of_workers: int
    proven: bool


@dataclass(frozen=True)
class OnlyOwnProcess:
    """Only threads of this process can release the lock, and all `threads` of them are stuck."""

    process: ProcessId
    threads: int


@dataclass(frozen=True)
class FreeElsewhere:
    """The same private lock is free in these processes now."""

    processes: tuple[ProcessId, ...]


@dataclass(frozen=True)
class LockedInParent:
    """The parent has the same lock at the same address, and was seen to hold it in `times` of `samples`."""

    parent: ProcessId
    times: int
    samples: int


@dataclass(frozen=True)
class InHandler:
    """The thread is in a signal handler that interrupted its own code, so what it waits for cannot come."""

    thread: ThreadRef


@dataclass(frozen=True)
class SleeperDied:
    """The notifier waits for a process that slept in the Condition and died there."""


@dataclass(frozen=True)
class NobodyElse:
    """Everybody who could do what the threads wait for waits as well: these processes, and no other has it."""

    processes: tuple[ProcessId, ...]


@dataclass(frozen=True)
class ClientEnded:
    """The client that took a Manager's lock has ended: the manager's thread that served it is the lock's owner."""


@dataclass(frozen=True)
class ClientMayHaveEnded:
    """A Manager does not record who holds a lock, so a client that ended may have held it."""


@dataclass(frozen=True)
class UnfinishedTasks:
    """`join()` of a JoinableQueue waits for so many calls of `task_done()`."""

    count: int


@dataclass(frozen=True)
class WaitersHoldUnits:
    """These threads hold all units, and wait for one more."""

    threads: tuple[ThreadRef, ...]


@dataclass(frozen=True)
class WaiterHolds:
    """A thread that waits holds the lock that others of them wait for."""

    thread: ThreadRef
    lock: LockRef


@dataclass(frozen=True)
class LeftInParent:
    """Processes of one thread were forked from `parent`, which has so many `threads` more that wait for work."""

    processes: tuple[ProcessId, ...]
    parent: ProcessId
    threads: int


@dataclass(frozen=True)
class PoolWithoutThreads:
    """Processes that wait for a Pool's result, and have none of the threads through which that would come."""

    processes: tuple[ProcessId, ...]


@dataclass(frozen=True)
class PoolTerminated:
    """Processes that wait for a result of a Pool that was terminated before it was there."""

    processes: tuple[ProcessId, ...]


@dataclass(frozen=True)
class ResultsNotTaken:
    """Processes that wait for a Pool's result, although the thread of the Pool that takes results in has ended."""

    processes: tuple[ProcessId, ...]


@dataclass(frozen=True)
class WaitsInCallback:
    """A thread that waits for a result of the Pool whose results it passes on itself: in a callback."""

    thread: ThreadRef


@dataclass(frozen=True)
class ChildEnded:
    """A child that ended. `exit_code` is as in subprocess."""

    child: ProcessId
    parent: int
    exit_code: int | None
    ended_s: float | None


@dataclass(frozen=True)
class WorkersEndAtStart:
    """So many workers failed in their first seconds, within the last `within_s`. `exit_code` is as in subprocess, None
    if they differ.
    """

    count: int
    within_s: float
    exit_code: int | None


@dataclass(frozen=True)
class YoungerWorker:
    """The pool has started a worker so much later than the others: in the place of one that died."""

    process: ProcessId
    later_s: float


@dataclass(frozen=True)
class MayStillWake:
    """A reason why the wait is not proven to be endless; `pids` are the processes that it is about."""

    doubt: Doubt | None
    pids: tuple[int, ...]


# -- counts


@dataclass(frozen=True)
class Inherited:
    """Processes that count the lock as held without having taken it; where that is not `certain`, at most `maximum` of
    them may have.
    """

    processes: tuple[ProcessId, ...]
    certain: bool
    maximum: int | None


@dataclass(frozen=True)
class RLockKeepsCount:
    """An RLock whose count does not come down to 0 is never released."""


@dataclass(frozen=True)
class AllWaitThemselves:
    """Each process that counts it as held waits for it, and has not run for `asleep_s`."""

    asleep_s: float


@dataclass(frozen=True)
class AboveMaximum:
    value: int
    maximum: int


@dataclass(frozen=True)
class OverReleased:
    """The process released the lock so many times more than it took it."""

    process: ProcessId
    times: int


# -- locks that do not exclude


@dataclass(frozen=True)
class LockedSinceFork:
    """The private lock is locked in these processes in every sample, and no thread there is inside `with` it.
    `workers`: all of them are workers.
    """

    processes: tuple[ProcessId, ...]
    workers: bool


@dataclass(frozen=True)
class ForkCopies:
    """A private lock that a fork copied as locked. A lock taken by acquire() and kept looks the same."""


@dataclass(frozen=True)
class Overlapped:
    """Several processes were inside at once: at most `most`, in `times` snapshots, first `first_s` ago."""

    times: int
    most: int
    first_s: float
    processes: tuple[ProcessId, ...]


@dataclass(frozen=True)
class CopyOfEach:
    """Each of these workers has its own copy of the private lock."""

    processes: tuple[ProcessId, ...]


@dataclass(frozen=True)
class SeparateSemaphores:
    """`count` semaphores have one name, each in one of these processes. `thing` is the class of what they are in or
    are, where children of a worker may be meant to use it; None of a lock with its own name.
    """

    count: int
    processes: tuple[ProcessId, ...]
    thing: str | None = None


@dataclass(frozen=True)
class HeldAtOnce:
    processes: tuple[ProcessId, ...]


# -- locks that keep others waiting


@dataclass(frozen=True)
class FileTakerEnded:
    """The process that took a file lock has ended, and these keep the open file that they inherited from it."""

    taker: int
    heirs: tuple[ProcessId, ...]


@dataclass(frozen=True)
class FileShared:
    """A process holds a file lock through an open file that the others have as well, since a fork."""

    holder: ProcessId
    others: tuple[ProcessId, ...]


@dataclass(frozen=True)
class FileOpenTwice:
    """These hold a POSIX lock on a file that they have open more than once: to close any of these drops the lock."""

    processes: tuple[ProcessId, ...]


@dataclass(frozen=True)
class FileLockLost:
    """These have marked a POSIX lock as acquired, but the kernel knows no such lock on the file."""

    processes: tuple[ProcessId, ...]


@dataclass(frozen=True)
class LocalFile:
    """The file system on which the file lies is the server's container's own: `system` is its type."""

    system: str


@dataclass(frozen=True)
class LockedPath:
    """The path of the file that a lock with a name of its own locks."""

    path: str


@dataclass(frozen=True)
class LockFileNames:
    """A lock file names its owner: a process that has ended, or one of another host."""

    owner: int | None
    host: str | None


@dataclass(frozen=True)
class Stopped:
    """The process is stopped, by a signal or a debugger."""

    process: ProcessId


@dataclass(frozen=True)
class MasterStopped:
    """The master of the server is stopped, and its workers go on."""

    process: ProcessId


@dataclass(frozen=True)
class Beat:
    """The age of a worker's last heartbeat, None where none can be seen; gunicorn kills it at `timeout_s`."""

    ago_s: float | None
    timeout_s: float


@dataclass(frozen=True)
class Crowd:
    """Threads waited for `waited_s`, all together, in `watched_s`."""

    waited_s: float
    watched_s: float


@dataclass(frozen=True)
class Contended:
    """The counters of a traced lock."""

    statistics: Statistics


@dataclass(frozen=True)
class TakenInOrder:
    """A thread took `outer` at a line and, while it held that, `inner` at another."""

    thread: ThreadRef
    outer: LockRef
    outer_site: str
    inner: LockRef
    inner_site: str


# -- /dev/shm


@dataclass(frozen=True)
class UnusedNames:
    """Names in /dev/shm that no process uses, the oldest first."""

    names: tuple[LeakedName, ...]


@dataclass(frozen=True)
class UnusedRoom:
    """Files in /dev/shm that no process uses, the largest first. `other` is how many bytes all other files take."""

    names: tuple[LeakedName, ...]
    other: int


@dataclass(frozen=True)
class RoomLeft:
    free: int
    size: int


Fact = (
    VerdictReason
    | HolderUnknown
    | HeldBy
    | WaitedFor
    | TasksWait
    | At
    | BetweenRequests
    | GreenletMayHold
    | DeadByFile
    | LastSeen
    | HolderNotSeen
    | KilledByTimeout
    | EndedOtherwise
    | DiedOf
    | MayHaveHeld
    | EndUnknown
    | TimeoutKills
    | UnitsLost
    | TakerDied
    | TakerGone
    | SemaphoreMayBeLock
    | RingLink
    | Asleep
    | MayBeGate
    | ThreadMayRelease
    | OutsiderMayRelease
    | HandsLocksOver
    | Behind
    | SemaphoresInRing
    | BlockedOn
    | WorkersBlocked
    | OnlyOwnProcess
    | FreeElsewhere
    | LockedInParent
    | InHandler
    | SleeperDied
    | NobodyElse
    | ClientEnded
    | ClientMayHaveEnded
    | UnfinishedTasks
    | WaitersHoldUnits
    | WaiterHolds
    | LeftInParent
    | PoolTerminated
    | PoolWithoutThreads
    | ResultsNotTaken
    | WaitsInCallback
    | ChildEnded
    | WorkersEndAtStart
    | YoungerWorker
    | MayStillWake
    | Inherited
    | RLockKeepsCount
    | AllWaitThemselves
    | AboveMaximum
    | OverReleased
    | LockedSinceFork
    | ForkCopies
    | Overlapped
    | CopyOfEach
    | SeparateSemaphores
    | HeldAtOnce
    | FileTakerEnded
    | FileShared
    | FileOpenTwice
    | FileLockLost
    | LocalFile
    | LockedPath
    | LockFileNames
    | Stopped
    | MasterStopped
    | Beat
    | Crowd
    | Contended
    | TakenInOrder
    | UnusedNames
    | UnusedRoom
    | RoomLeft
)
