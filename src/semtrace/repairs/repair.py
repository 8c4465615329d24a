"""Release a lock that a dead process left locked, if it is proved orphaned, and proved again right before.

An orphaned lock stays orphaned: nobody can take a lock at 0, and only a process that does not hold it could release it.
Three kinds of those are excluded between the last snapshot and the act:

- another semtrace: the semaphore's file is reserved (flock) before the second proof begins, until after the act;
- one whose unit has not been taken yet: the act does not add a unit, it sets the value, so there is never one too many;
- one whose unit was taken by another meanwhile. The last snapshot and the act fall into a moment in which no thread of
  any process that maps it has run (`linux.stillness`). Only microseconds remain between the check of the first thread
  and the act. In these, one thread would have to wake up and release a lock that it does not hold, and another to take
  it.

Right before the act every process of the machine is asked once more whether it maps the lock or has its file open.
Where one cannot be asked, and the kernel's own facts do not exclude it, nothing is done.

Such a moment never comes while some thread computes without a pause. Then the snapshot right before the act has to do,
and a process that releases a lock which it did not take could intervene within a millisecond. `Released.still` is False
then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from semtrace.console.signals import undisturbed
from semtrace.errors import NoServer, NotPermitted, Refused, SemtraceError, UsageError
from semtrace.lazydata import dataclass
from semtrace.linux.post import MOST_UNITS, OpenSemaphore, Word, open_semaphore
from semtrace.linux.rights import map_files_remedy, remedy
from semtrace.linux.stillness import Stillness
from semtrace.linux.sweep import Obstacle
from semtrace.model import Lock, Process, ProcessId, SemId, Snapshot, ThreadLock, Waiter
from semtrace.observe.observer import Observer, settle
from semtrace.repairs.dead_state_files import SetRight, clear_claims
from semtrace.text import clean

PATIENCE_S = 12.0
SEARCH_S = 60.0  # how long memory may be searched through before that
GETTING_ON_S = 2.0
_GETTING_IN_S = 0.2

# Workers that wait for requests wake up once a second: of so many moments of some milliseconds one is still.
_MOMENTS = 80
_BETWEEN_S = 0.004
_DECIDED = 10


@dataclass(frozen=True)
class Released:
    """The result of a release. `lock` is as it was proved, `now` as it was seen last, None if the server has ended by
    then.

    `units` is what its value was set to, and `after` what was read next: somebody may have taken it by then. `woken` is
    how many waiters the kernel woke; `got_on` are those that were seen to wait no longer. `set_right` are the state
    files of dead processes that claimed it. `ended` are processes that could use the lock at the act and have ended
    since.
    """

    lock: Lock
    units: int
    before: Word
    after: Word
    woken: int
    still: bool
    at: float
    got_on: tuple[Waiter, ...] = ()
    now: Lock | None = None
    set_right: tuple[SetRight, ...] = ()
    ended: tuple[ProcessId, ...] = ()

    @property
    def orphaned_again(self) -> bool:
        """Return True if somebody took it after the act and has died with it."""
        return self.now is not None and self.now.state == "orphaned"


def find(locks: Iterable[Lock], which: str, server_pid: int) -> Lock:
    """The lock of that id or name; UsageError listing what there is, unless it is exactly one."""
    locks = list(locks)
    found = [lock for lock in locks if which == str(lock.id)]
    found = found or [lock for lock in locks if which in (lock.name, *lock.names, lock.shm_name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} separate locks are called {clean(which)}", _choices(found, server_pid))
    known = [lock for lock in locks if not lock.signal] or locks
    there = f"there are: {_listed(known)}" if known else "the server has no multiprocessing lock that can be seen"
    raise UsageError(f"there is no lock {clean(which)}", there)


def _listed(locks: Iterable[Lock]) -> str:
    return ", ".join(f"{clean(lock.label)} [{lock.id}] ({lock.state})" for lock in locks)


def _choices(found: Iterable[Lock], server_pid: int) -> str:
    """A line for each, the orphaned first, and the command for the first."""
    each = sorted(found, key=lambda lock: (lock.state != "orphaned", lock.id))
    lines = [f"{lock.id}  {lock.state}, {_mappers(lock)}" for lock in each]
    return "\n  ".join([*lines, f"give the id of one: semtrace release {server_pid} {each[0].id}"])


def _mappers(lock: Lock) -> str:
    pids = sorted(process.pid for process in lock.mapped_by)
    return f"mapped by PID {' '.join(map(str, pids))}" if pids else "mapped by no process of the server"


def choose(observer: Observer, which: str) -> Lock:
    """The lock of that name or id, once it is proved orphaned; SemtraceError with the reason if it is not."""
    snapshot = observer.snapshot()
    if all(which != str(lock.id) for lock in snapshot.semaphores):
        snapshot = settle(observer, PATIENCE_S)  # names take their time
    if not snapshot.semaphores and (blind := _blind(snapshot, [process.id.pid for process in snapshot.processes])):
        raise NotPermitted(f"the locks of process {blind} cannot be seen", remedy(blind))
    for private in snapshot.thread_locks:
        if private.name == which and not any(which in (lock.name, *lock.names) for lock in snapshot.locks):
            raise _private(private, observer.server.pid)
    return _proved(observer, find(snapshot.semaphores, which, observer.server.pid).id)


def _private(lock: ThreadLock, server_pid: int) -> Refused:
    kind = clean(lock.kind)
    kind = f"an {kind}" if kind.startswith("asyncio.") else f"a threading.{kind}"
    return Refused(
        f"{clean(lock.name)} is {kind}: each process has one of its own in its memory, which nobody can release from "
        "outside",
        f"nothing was done; semtrace dump {server_pid} shows who has it locked",
    )


def _proved(observer: Observer, semaphore: SemId) -> Lock:
    """Wait for a proof that is under way, and a little for processes that are just starting or ending."""
    deadline = time.monotonic() + PATIENCE_S
    searched_by = time.monotonic() + SEARCH_S
    decided = 0
    while True:
        snapshot = observer.snapshot()
        if observer.is_searching(semaphore):
            deadline = min(time.monotonic(), searched_by) + PATIENCE_S
        lock = _same(snapshot, semaphore)
        refusal = why_not(lock, snapshot, observer.obstacle)
        if refusal is None:
            return lock
        undecided = observer.undecided()
        decided = 0 if undecided else decided + 1
        may_be_granted = undecided and bool(lock.holders) and not lock.sure_holders
        known = lock.state != "unknown" and not may_be_granted
        if known or decided > _DECIDED or time.monotonic() > deadline:
            raise refusal
        time.sleep(_BETWEEN_S)


def why_not(
    lock: Lock, snapshot: Snapshot, obstacle: Callable[[SemId], Obstacle | None] = lambda _: None
) -> SemtraceError | None:
    """Return why this lock is not to be released, None if it is proved orphaned.

    `obstacle` finds the process that could not be asked, where that is all that the proof lacks.
    """
    if not snapshot.alive:
        return NoServer(f"process {snapshot.server.pid} has ended", "its locks went with it")
    if lock.state == "orphaned":
        units = lock.maximum or 0
        return None if units <= MOST_UNITS else Refused(f"{clean(lock.label)} has {units} units, which are too many")
    what = f"{clean(lock.label)} is not proved orphaned: {_in_words(lock)}"
    blind = None
    if lock.state == "unknown":
        blind = _blind(snapshot, [process.pid for process in lock.mapped_by])
    if blind:
        return NotPermitted(what, remedy(blind))
    if lock.proof_needs_rights and (found := obstacle(lock.id)) is not None and found.rights_help:
        return NotPermitted(what, remedy(found.pid or 1))
    return Refused(what, f"nothing was done; semtrace dump {snapshot.server.pid} shows more")


def _in_words(lock: Lock) -> str:
    holders = ", ".join(f"{holder.pid}" for holder in lock.holders)
    state = f"it is {lock.state}" + (f", held by {holders}" if holders else "")
    return f"{state}: {clean(lock.reason)}" if lock.reason else state


def _blind(snapshot: Snapshot, pids: Iterable[int]) -> int | None:
    """The first of these processes that cannot be read."""
    blind = {problem.process.pid for problem in snapshot.problems if problem.process}
    return next((pid for pid in pids if pid in blind), None)


def check_rights(observer: Observer, lock: Lock) -> str:
    """Return the path by which the semaphore can be opened; NotPermitted with the command that could."""
    with _opened(observer, lock) as semaphore:
        return semaphore.way


def release(observer: Observer, lock: Lock, log: Callable[[Released], None]) -> Released:
    """Prove once more that it is orphaned, release it, and check the result. Raises Refused if anything is wrong.

    `log` is called at once after the act, for what comes then may be interrupted. The state files of the dead are set
    right while no other semtrace can act on the lock.
    """
    members = [process.id for process in observer.snapshot().processes]
    with _opened(observer, lock) as semaphore:
        if not semaphore.reserve():
            raise Refused(f"somebody else is releasing {clean(lock.label)} at this moment", "try again")
        observer.restart_proofs()
        lock, still = _at_a_still_moment(observer, _proved(observer, lock.id))
        with undisturbed():
            released = _act(semaphore, lock, still)
            try:
                log(released)
            finally:
                set_right = clear_claims(members, lock.id)
    return _look_after(observer, replace(released, set_right=set_right))


def _act(semaphore: OpenSemaphore, lock: Lock, still: bool) -> Released:
    units = lock.maximum or 1
    try:
        before = semaphore.read()
        if before.value:
            raise Refused(f"{clean(lock.label)} has just been released by somebody else", "nothing was done")
        woken = semaphore.give_back(units)
    except OSError as error:
        raise Refused(f"{clean(lock.label)} cannot be released: {error.strerror}", "nothing was done") from error
    return Released(lock, units, before, semaphore.read(), woken, still, time.time())


def _opened(observer: Observer, lock: Lock) -> OpenSemaphore:
    pids = [process.pid for process in lock.mapped_by]
    try:
        return open_semaphore(lock.id, lock.shm_name if lock.linked else None, pids)
    except PermissionError as error:
        raise NotPermitted(
            f"{clean(lock.label)} may not be opened for writing: {error.strerror}",
            remedy(pids[0]) if lock.linked else map_files_remedy(observer.server.pid),
        ) from error
    except OSError as error:
        raise Refused(f"{clean(lock.label)} cannot be opened: {error.strerror}", "nothing was done") from error


def _at_a_still_moment(observer: Observer, lock: Lock) -> tuple[Lock, bool]:
    """Take snapshots until one falls into a moment in which no thread ran: then it is still true now.

    The rest of the machine is asked within that moment too. An obstacle may be one that has just been born, or another
    semtrace that reads the file: only one that stays is a reason not to act.
    """
    refusal: SemtraceError | None = None
    hindered, deadline = 0, time.monotonic() + PATIENCE_S
    for _ in range(_MOMENTS):
        if refusal is not None and time.monotonic() > deadline:
            raise refusal
        stillness = Stillness([process.pid for process in lock.mapped_by])
        before, snapshot = lock.mapped_by, observer.snapshot()
        lock = _same(snapshot, lock.id)
        refusal = why_not(lock, snapshot, observer.obstacle)
        if refusal is not None and lock.state != "unknown":
            raise refusal
        if refusal is None and lock.mapped_by == before and stillness.broken_by() is None:
            refusal = _not_alone(observer, lock)
            if refusal is None and stillness.broken_by() is None:
                return lock, True
            hindered += refusal is not None
            if refusal is not None and hindered >= _DECIDED:
                raise refusal
        time.sleep(_BETWEEN_S)
    refusal = refusal or _not_alone(observer, lock)
    if refusal is None and not observer.is_suspect(lock.id):
        refusal = Refused(f"{clean(lock.label)} has just changed", "nothing was done")
    if refusal is not None:
        raise refusal
    return lock, False


def _not_alone(observer: Observer, lock: Lock) -> SemtraceError | None:
    """Ask every process now; None if no other than the server's own can hold the lock."""
    obstacle = observer.obstacle(lock.id)
    if obstacle is None:
        return None
    what = f"{clean(lock.label)} is not proved orphaned: {obstacle}"
    if obstacle.rights_help:
        return NotPermitted(what, remedy(obstacle.pid or 1))
    return Refused(what, f"nothing was done; semtrace dump {observer.server.pid} shows more")


def _same(snapshot: Snapshot, semaphore: SemId) -> Lock:
    for lock in snapshot.locks:
        if lock.id == semaphore:
            return lock
    raise Refused(f"no process maps {semaphore} any more", "nothing was done")


def _look_after(observer: Observer, released: Released) -> Released:
    """Wait until a waiter has it, or for a moment to see that it stays free if nobody waits.

    If the first taker died at once, the lock is orphaned again: for that too only what was seen since the act counts.
    """
    observer.restart_proofs()
    waited = {(waiter.process, waiter.tid): waiter for waiter in released.lock.waiters}
    began = time.monotonic()
    deadline = began + GETTING_ON_S
    while True:
        snapshot = observer.snapshot()
        now = next((lock for lock in snapshot.locks if lock.id == released.lock.id), None)
        if now is None or not snapshot.alive:
            return released
        got_on = _left(waited, now, snapshot.processes)
        if got_on and not released.got_on:
            # Woken, but perhaps not in yet: a little later it is, or was in and out again.
            deadline = min(deadline, time.monotonic() + _GETTING_IN_S)
        ended = _ended(released, snapshot)
        released = replace(released, got_on=tuple(got_on), now=now, ended=ended)
        if released.orphaned_again:
            return released
        if ended and not now.value and not now.holders and not got_on:
            deadline = max(deadline, began + PATIENCE_S)  # it may be orphaned again: the proof takes its time
        if now.holders or not waited or time.monotonic() > deadline:
            return released
        time.sleep(_BETWEEN_S)


def _ended(released: Released, snapshot: Snapshot) -> tuple[ProcessId, ...]:
    """Return who could use the lock at the act, or was born since, and has ended."""
    living = {process.id for process in snapshot.processes}
    since = time.time() - released.at
    dead = [death.id for death in snapshot.deaths if death.ended_s <= since]
    return tuple(dict.fromkeys([*(each for each in released.lock.mapped_by if each not in living), *dead]))


def _left(waited: dict[tuple[ProcessId, int], Waiter], now: Lock, processes: Iterable[Process]) -> Iterable[Waiter]:
    """Those who waited, live, and wait no more."""
    living = {process.id for process in processes}
    waiting = {(waiter.process, waiter.tid) for waiter in now.waiters}
    return [w for key, w in waited.items() if w.process in living and key not in waiting]
