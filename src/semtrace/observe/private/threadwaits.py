"""Find the waiters and the holder of a locked `threading` lock, only where the lock says that somebody waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from semtrace.cpython import layout as at
from semtrace.cpython.layout import Layout
from semtrace.cpython.threadlock import FoundThreadLock, is_parked_at, parked_at
from semtrace.lazydata import dataclass
from semtrace.linux import futex
from semtrace.linux.memory import Memory
from semtrace.linux.shm import parse_sem
from semtrace.model import Holder, Waiter
from semtrace.observe.history.history import Since, longer
from semtrace.observe.history.sleepers import Sleepers
from semtrace.observe.private.with_owners import Key, WithOwners
from semtrace.observe.watch.watched import Watched

# So long has to be waited before frames are read for the holder.
SUSPECT_S = 1.0


@dataclass(frozen=True)
class Copy:
    """One process's copy of a lock, which was seen locked."""

    watched: Watched
    lock: FoundThreadLock
    layout: Layout

    @property
    def key(self) -> Key:
        return self.watched.id, self.lock.address


@dataclass(frozen=True)
class Waits:
    """`waiters` is None where it is not known whether anybody waits."""

    holder: Holder | None
    waiters: tuple[Waiter, ...] | None


class ThreadWaits:
    """Remember since when threads wait, and who was proved to be inside."""

    def __init__(self, owners: WithOwners) -> None:
        self._since: Since[tuple[Key, int]] = Since()
        self._sleepers = Sleepers()
        self._owners = owners

    def read(self, now_s: float, locked: Sequence[Copy]) -> dict[Key, Waits]:
        """Return the waits of those locks that somebody waits for, or may wait for."""
        asked = {copy: _blocked(copy) for copy in locked}
        blocked = {copy: found for copy, found in asked.items() if found}
        owners = {copy.key: _owner(copy) for copy in blocked}
        self._since.update(now_s, ((copy.key, each.tid) for copy, found in blocked.items() for each in found))
        threads = {(copy.watched.id, each.tid) for copy, found in blocked.items() for each in found}
        threads |= {(key[0], tid) for key, tid in owners.items() if tid is not None}
        threads |= self._owners.threads()
        self._sleepers.update(now_s, threads)
        waiting = {copy: tuple(self._waiter(now_s, copy, each) for each in found) for copy, found in blocked.items()}
        suspects: dict[Watched, set[int]] = {}
        for copy, waiters in waiting.items():
            if _is_suspect(copy, waiters):
                suspects.setdefault(copy.watched, set()).add(copy.lock.address)
        self._owners.ask(now_s, suspects, waiting_in(waiting))
        unknown = {copy.key: Waits(None, None) for copy, found in asked.items() if found is None}
        return unknown | {
            copy.key: Waits(self._holder(copy, owners[copy.key]), waiters) for copy, waiters in waiting.items()
        }

    def _waiter(self, now_s: float, copy: Copy, thread: futex.Thread) -> Waiter:
        process = copy.watched.id
        asleep_s = self._sleepers.seconds((process, thread.tid))
        for_s = longer(self._since.seconds(now_s, (copy.key, thread.tid)), asleep_s)
        return Waiter(process, thread.tid, for_s, asleep_s=asleep_s, timed=thread.timed)

    def found_holder(self, copy: Copy) -> Holder | None:
        """Return who holds it by its frames, of a lock that was asked for."""
        return self._holder(copy, None)

    def _holder(self, copy: Copy, owner: int | None) -> Holder | None:
        """Return its owner, where it keeps one, else who holds it by the frames."""
        hold = self._owners.holding(copy.key) if owner is None else None
        if hold is not None and not hold.sure and copy.lock.form == "rlock":
            return None  # it has an owner: if that has ended, no other thread holds it
        tid = owner if hold is None else hold.tid
        if tid is None:
            return None
        asleep_s = self._sleepers.seconds((copy.watched.id, tid))
        within = hold is None or hold.sure
        stack = None if hold is None else (hold.place,)
        return Holder(copy.watched.id, tid, 1, asleep_s, stack=stack, asleep_s=asleep_s, within=within)


def waiting_in(waiting: Mapping[Copy, Sequence[Waiter]]) -> dict[Watched, dict[int, int]]:
    """Return by process and thread the lock object that the thread waits for."""
    found: dict[Watched, dict[int, int]] = {}
    for copy, waiters in waiting.items():
        found.setdefault(copy.watched, {}).update({waiter.tid: copy.lock.address for waiter in waiters})
    return found


def _blocked(copy: Copy) -> tuple[futex.Thread, ...] | None:
    """The threads that sleep on the lock's semaphore (Python/thread_pthread.h, USE_SEMAPHORES: up to 3.13), or that are
    parked at its PyMutex. None if that cannot be read, and for locks that are not implemented in C: their waiters sleep
    elsewhere.
    """
    memory = copy.watched.memory
    if memory is None or copy.lock.form in ("semaphore", "flag") or not futex.KNOWN:
        return None
    if copy.layout.parked:
        return _parked(copy, memory)
    pointer = memory.u64(copy.lock.address + at.LOCK_SEMAPHORE)
    semaphore = parse_sem(memory.read(pointer, 8)) if pointer else None
    if semaphore is None or not pointer:
        return None
    if semaphore[1] == 0:
        return ()
    return tuple(thread for thread in copy.watched.threads() if thread.futex == pointer)


def _parked(copy: Copy, memory: Memory) -> tuple[futex.Thread, ...] | None:
    parked = is_parked_at(memory, copy.lock)
    if not parked:
        return None if parked is None else ()
    mutex = copy.lock.address + at.LOCK_MUTEX
    asleep = (thread for thread in copy.watched.threads() if thread.futex)
    return tuple(thread for thread in asleep if parked_at(memory, thread.futex or 0) == mutex)


def _owner(copy: Copy) -> int | None:
    """Return the owner of an RLock, which keeps it."""
    memory = copy.watched.memory
    if memory is None or copy.lock.form != "rlock":
        return None
    return copy.watched.tid_of(memory.u64(copy.lock.address + at.RLOCK_OWNER) or 0)


def _is_suspect(copy: Copy, waiters: Iterable[Waiter]) -> bool:
    """Return True if a thread has waited for it for long, and the lock does not store its holder."""
    return copy.lock.form == "lock" and any((waiter.asleep_s or 0.0) >= SUSPECT_S for waiter in waiters)
