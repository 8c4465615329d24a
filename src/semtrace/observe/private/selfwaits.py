"""Threads that hold a multiprocessing lock while others wait for it: whether they are inside `with`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from semtrace.lazydata import replace
from semtrace.model import Holder, Lock, Waiter
from semtrace.observe.private.with_owners import Key, WithOwners
from semtrace.observe.watch.fleet import Fleet
from semtrace.observe.watch.watched import Watched

# So long it has to have slept there before its frames are read.
SUSPECT_S = 1.0


class SelfWaits:
    """Ask the frames, for a count alone does not tell a lock from a gate that another thread will open."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._owners = WithOwners()

    def mark(self, now_s: float, locks: Sequence[Lock]) -> tuple[Lock, ...]:
        """The locks, with `within` set of the holders that were found to be."""
        suspects = {lock.id: lock.holders for lock in locks if _stands_still(lock)}
        if not suspects:
            self._owners.keep(())
            return tuple(locks)
        wanted: dict[Watched, set[int]] = {}
        for lock in locks:
            for holder in suspects.get(lock.id, ()):
                if (watched := self._fleet.get(holder.process)) is not None:
                    wanted.setdefault(watched, set()).update(key[1] for key in self._keys(lock, holder))
        self._owners.keep((watched.id, address) for watched, addresses in wanted.items() for address in addresses)
        self._owners.ask(now_s, wanted)
        return tuple(self._marked(lock, suspects[lock.id]) if lock.id in suspects else lock for lock in locks)

    def _marked(self, lock: Lock, suspects: Sequence[Holder]) -> Lock:
        """Return it with the evidence of the frames: a thread inside `with` the lock took it in this process."""
        holders = tuple(self._with_evidence(holder, self._keys(lock, holder)) for holder in suspects)
        doubtful = not all(holder.certain for holder in holders)
        settled = not doubtful and not all(holder.certain for holder in suspects)
        return replace(lock, holders=holders, reason=None if settled else lock.reason)

    def _with_evidence(self, holder: Holder, keys: Iterable[Key]) -> Holder:
        within = self._is_inside(holder, keys)
        return replace(holder, within=within, certain=holder.certain or within)

    def _is_inside(self, holder: Holder, keys: Iterable[Key]) -> bool:
        return holder.tid is not None and any(self._owners.of(key) == holder.tid for key in keys)

    def _keys(self, lock: Lock, holder: Holder) -> list[Key]:
        """Its SemLock objects in that process."""
        watched = self._fleet.get(holder.process)
        return [] if watched is None else [(watched.id, known.address) for known in watched.objects.get(lock.id, ())]


def _stands_still(lock: Lock) -> bool:
    """Neither one that has it nor one that waits has run for long: so it is with a deadlock, whatever else is in it."""
    return any(_slept(each) for each in lock.holders) and any(_slept(each) for each in lock.waiters if not each.timed)


def _slept(thread: Holder | Waiter) -> bool:
    return (thread.asleep_s or 0.0) >= SUSPECT_S
