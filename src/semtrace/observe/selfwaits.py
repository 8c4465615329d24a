"""Threads that hold a multiprocessing lock and wait for one: whether they are inside `with`, and who else maps it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from semtrace.model import Holder, Lock, SemId, Waiter
from semtrace.observe.fleet import Fleet
from semtrace.observe.insiders import Insiders, Key
from semtrace.observe.outside import ask_outside
from semtrace.observe.watched import Watched

_SWEEP_EVERY_S = 2.0

# So long it has to have slept there before its frames are read.
SUSPECT_S = 1.0


class SelfWaits:
    """Asks the frames, for a count alone does not tell a lock from a gate that another thread will open; and the rest
    of the machine, for that thread may be of a process outside the server.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._insiders = Insiders()
        self._outside: dict[SemId, tuple[int, ...]] = {}
        self._swept_s: float | None = None

    def mark(self, now_s: float, locks: Sequence[Lock]) -> tuple[Lock, ...]:
        """The locks, with `within` set of the holders that were found to be."""
        suspects = {lock.id: lock.holders for lock in locks if _stands_still(lock)}
        if not suspects:
            self._insiders.keep(())
            return tuple(locks)
        wanted: dict[Watched, set[int]] = {}
        for lock in locks:
            for holder in suspects.get(lock.id, ()):
                wanted.setdefault(self._fleet[holder.process], set()).update(key[1] for key in self._keys(lock, holder))
        self._insiders.keep((watched.id, address) for watched, addresses in wanted.items() for address in addresses)
        self._insiders.ask(now_s, wanted)
        self._sweep(now_s, _in_a_ring(locks), [lock.id for lock in locks if lock.linked])
        return tuple(self._marked(lock, suspects[lock.id]) if lock.id in suspects else lock for lock in locks)

    def _marked(self, lock: Lock, suspects: Sequence[Holder]) -> Lock:
        holders = (replace(holder, within=self._is_inside(holder, self._keys(lock, holder))) for holder in suspects)
        return replace(lock, holders=tuple(holders), outsiders=self._outside.get(lock.id, ()))

    def _sweep(self, now_s: float, suspects: Collection[SemId], linked: Collection[SemId]) -> None:
        """Now and then, and at once for one that is new."""
        if not suspects:
            self._outside.clear()
            return
        due = self._swept_s is None or now_s - self._swept_s >= _SWEEP_EVERY_S
        if not due and self._outside.keys() >= set(suspects):
            return
        seen = ask_outside({each: self._fleet.mappers.get(each, ()) for each in suspects}, linked)
        self._outside = {each: (*outside.mapped_by, *outside.hidden) for each, outside in seen.items()}
        self._swept_s = now_s

    def _is_inside(self, holder: Holder, keys: Iterable[Key]) -> bool:
        return any(self._insiders.of(key) == holder.tid for key in keys)

    def _keys(self, lock: Lock, holder: Holder) -> list[Key]:
        """Its SemLock objects in that process."""
        return [(holder.process, known.address) for known in self._fleet[holder.process].objects.get(lock.id, ())]


def _stands_still(lock: Lock) -> bool:
    """Neither one that has it nor one that waits has run for long: so it is with a deadlock, whatever else is in it."""
    return any(_slept(each) for each in lock.holders) and any(_slept(each) for each in lock.waiters if not each.timed)


def _slept(thread: Holder | Waiter) -> bool:
    return (thread.asleep_s or 0.0) >= SUSPECT_S


def _in_a_ring(locks: Iterable[Lock]) -> set[SemId]:
    """The locks whose holders wait for a lock of multiprocessing."""
    still = [lock for lock in locks if _stands_still(lock)]
    waiting = {(each.process, each.tid) for lock in still for each in lock.waiters}
    return {lock.id for lock in still if any((each.process, each.tid) in waiting for each in lock.holders)}
