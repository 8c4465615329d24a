"""The `threading` locks of a server: named alike in every process, and each process's own. Seen held in two at once
they are shown to exclude nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from semtrace.cpython.threadlock import FoundThreadLock, read_thread_lock
from semtrace.lazydata import replace
from semtrace.model import Holder, Overlap, ProcessId, ThreadLock, ThreadLockUse
from semtrace.observe.history.history import Since
from semtrace.observe.names.namebook import NameBook
from semtrace.observe.private.taskwaits import TaskWait, TaskWaits
from semtrace.observe.private.threadwaits import SUSPECT_S, Copy, ThreadWaits, Waits, waiting_in
from semtrace.observe.private.with_owners import Key, WithOwners
from semtrace.observe.watch.watched import Watched

# Each costs a read in each process and refresh.
_MOST = 64

# So long a copy has to be locked, never seen free, before it is taken for one that was locked when it was made.
_INHERITED_S = 0.5

# Those whose holders are inside `with`, where frames show them. `async with` is not seen.
_WITH = ("lock", "rlock")

States = Mapping[str, Sequence[tuple[Copy, bool]]]


class ThreadLocks:
    """Read all copies in every refresh and keep the evidence of overlaps.

    A locked copy does not show that a thread of its process took it: a fork copies a locked lock, and nothing releases
    the copy. So only those count that were seen free before, that the parent has none of (without --preload), or that a
    thread is inside `with`.
    """

    def __init__(self, book: NameBook) -> None:
        self._book = book
        self._overlaps: dict[str, Overlap] = {}
        self._owners = WithOwners()
        self._waits = ThreadWaits(self._owners)
        self._task_waits = TaskWaits()
        self._tasks: dict[Key, TaskWait] = {}
        self._seen_free: set[Key] = set()
        self._ever_locked: set[Key] = set()
        self._locked: Since[Key] = Since()
        self._addresses: dict[int, frozenset[int]] = {}  # of each process's locks, where they are known

    def read(self, now_s: float, taken_at: float, watched: Sequence[Watched]) -> tuple[ThreadLock, ...]:
        states = self._read(watched)
        self._remember(now_s, states)
        waits = self._waits.read(now_s, [copy for found in states.values() for copy, locked in found if locked])
        waited = {key for key, each in waits.items() if each.waiters}
        self._tasks = self._task_waits.read(now_s, _flags(states))
        self._owners.keep({copy.key for copy in self._ask(now_s, states, waits)} | waited)
        locks = (self._one(now_s, name, taken_at, found, waits) for name, found in states.items())
        return tuple(lock for lock in locks if lock.processes)

    def _read(self, watched: Sequence[Watched]) -> States:
        copies: dict[str, list[Copy]] = {}
        self._addresses = {}
        for each in watched:
            known = self._book.thread_locks(each.id)
            if known is None or known[0].layout is None:
                continue
            self._addresses[each.id.pid] = frozenset(lock.address for lock in known[1])
            for lock in known[1][:_MOST]:
                copies.setdefault(lock.name, []).append(Copy(each, lock, known[0].layout))
        return {name: _states(copies[name]) for name in sorted(copies)}

    def _remember(self, now_s: float, states: States) -> None:
        """Since when each copy has been locked, and which of them were ever seen free."""
        locked = [copy.key for found in states.values() for copy, is_locked in found if is_locked]
        free = {copy.key for found in states.values() for copy, is_locked in found if not is_locked}
        self._locked.update(now_s, locked)
        self._ever_locked = self._ever_locked.intersection(free).union(locked)
        self._seen_free = free | self._seen_free.intersection(locked)

    def _ask(self, now_s: float, states: States, waits: Mapping[Key, Waits]) -> list[Copy]:
        """Have the frames read of the locks for which it matters whether a thread is inside."""
        asked = [copy for found in states.values() for copy in self._questionable(now_s, found)]
        wanted: dict[Watched, set[int]] = {}
        for copy in asked:
            wanted.setdefault(copy.watched, set()).add(copy.lock.address)
        waiting = {copy: each.waiters for copy in asked if (each := waits.get(copy.key)) and each.waiters}
        self._owners.ask(now_s, wanted, waiting_in(waiting))
        return asked

    def _questionable(self, now_s: float, found: Sequence[tuple[Copy, bool]]) -> list[Copy]:
        locked = [copy for copy, is_locked in found if is_locked]
        several = len(locked) > 1
        old = (
            copy
            for copy in locked
            if self._is_awaited(copy) or (not self._shown_by_itself(copy) and self._is_old(now_s, copy))
        )
        return locked if several else list(old)  # the places of several are reported

    def _is_awaited(self, copy: Copy) -> bool:
        wait = self._tasks.get(copy.key)
        return wait is not None and (wait.for_s or 0.0) >= SUSPECT_S

    def _shown_by_itself(self, copy: Copy) -> bool:
        """Return True if it was seen free, or is not its parent's: then its locker is of this process. A semaphore
        without units proves nothing.
        """
        if copy.lock.form == "semaphore":
            return False
        if not copy.watched.stat.forked:
            return True  # it began as a program of its own, and inherited nothing
        parents = self._addresses.get(copy.watched.stat.ppid)
        if copy.key in self._seen_free or parents is None:
            return copy.key in self._seen_free
        if copy.lock.form == "flag":
            # An asyncio.Lock that is waited for is handed on and never free. Only a parent that forked inside its own
            # event loop could have left it locked.
            return not any(self._is_parents(key, copy) for key in self._ever_locked)
        return copy.lock.address not in parents

    def _is_old(self, now_s: float, copy: Copy) -> bool:
        return (self._locked.seconds(now_s, copy.key) or 0.0) >= _INHERITED_S

    def _one(
        self,
        now_s: float,
        name: str,
        taken_at: float,
        states: Sequence[tuple[Copy, bool]],
        waits: Mapping[Key, Waits],
    ) -> ThreadLock:
        copies = [copy for copy, _ in states]
        inside = [copy for copy, locked in states if locked and self._is_taken(copy)]
        if len(inside) > 1:
            # Locked before and after the others were seen locked: then they were so at one time.
            self._note(name, taken_at, [copy.watched.id for copy in inside if _locked(copy)])
        uses = tuple(
            _use(
                copy,
                locked,
                waits.get(copy.key),
                locked and self._is_inherited(now_s, copy),
                self._waits.found_holder(copy) if locked else None,
                self._tasks.get(copy.key) if locked else None,
            )
            for copy, locked in states
        )
        own = all(copy.lock.own for copy in copies)
        return ThreadLock(name, copies[0].lock.kind if copies else "", uses, self._overlaps.get(name), own)

    def _is_taken(self, copy: Copy) -> bool:
        return self._shown_by_itself(copy) or self._owners.holding(copy.key) is not None

    def _is_inherited(self, now_s: float, copy: Copy) -> bool:
        """Return True only if nothing else explains it. It was never seen free, no frame of the process has taken it,
        and the parent has the same lock and was seen to hold it.
        """
        if copy.lock.form not in _WITH or copy.key in self._seen_free or not self._is_old(now_s, copy):
            return False
        parent = next((key for key in self._ever_locked if self._is_parents(key, copy)), None)
        return parent is not None and self._owners.nobody(copy.key)

    def _is_parents(self, key: Key, copy: Copy) -> bool:
        return key[0].pid == copy.watched.stat.ppid and key[1] == copy.lock.address

    def _note(self, name: str, taken_at: float, inside: Sequence[ProcessId]) -> None:
        if len(inside) < 2:
            return
        before = self._overlaps.get(name) or Overlap(0, 0, taken_at, taken_at, ())
        self._overlaps[name] = replace(
            before,
            times=before.times + 1,
            most=max(before.most, len(inside)),
            last_at=taken_at,
            processes=tuple(inside),
        )


def _states(copies: Iterable[Copy]) -> list[tuple[Copy, bool]]:
    """Those that could be read, and whether they are locked."""
    return [(copy, locked) for copy in copies if (locked := _locked(copy)) is not None]


def _locked(copy: Copy) -> bool | None:
    memory = copy.watched.memory
    return None if memory is None else read_thread_lock(memory, copy.lock, copy.layout)


def _use(
    copy: Copy, locked: bool, waits: Waits | None, inherited: bool, found: Holder | None, tasks: TaskWait | None
) -> ThreadLockUse:
    holder, waiters = (waits.holder, waits.waiters) if waits else (None, ())
    count, for_s = (tasks.tasks, tasks.for_s) if tasks else (0, None)
    return ThreadLockUse(copy.watched.id, locked, holder or found, waiters, inherited, copy.lock.address, count, for_s)


def _flags(states: States) -> dict[Watched, list[FoundThreadLock]]:
    """Return the locks of asyncio that are locked."""
    found: dict[Watched, list[FoundThreadLock]] = {}
    for copy, locked in (each for copies in states.values() for each in copies):
        if locked and copy.lock.form == "flag":
            found.setdefault(copy.watched, []).append(copy.lock)
    return found
