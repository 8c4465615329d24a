"""Threads that wait for a multiprocessing lock which they took themselves: whether they are inside `with` it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from semtrace.fleet import Fleet
from semtrace.insiders import Insiders, Key
from semtrace.model import Holder, Lock
from semtrace.watched import Watched

# So long it has to have slept there before its frames are read.
SUSPECT_S = 1.0


class SelfWaits:
    """Asks the frames, for a count alone does not tell a lock from a gate that another process will open."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._insiders = Insiders()

    def mark(self, now_s: float, locks: Sequence[Lock]) -> tuple[Lock, ...]:
        """The locks, with `within` set of the holders that were found to be."""
        suspects = {lock.id: holders for lock in locks if (holders := list(_waits_for_its_own(lock)))}
        if not suspects:
            self._insiders.keep(())
            return tuple(locks)
        wanted: dict[Watched, set[int]] = {}
        for lock in locks:
            for holder in suspects.get(lock.id, ()):
                wanted.setdefault(self._fleet[holder.process], set()).update(key[1] for key in self._keys(lock, holder))
        self._insiders.keep((watched.id, address) for watched, addresses in wanted.items() for address in addresses)
        self._insiders.ask(now_s, wanted)
        return tuple(self._marked(lock, suspects[lock.id]) if lock.id in suspects else lock for lock in locks)

    def _marked(self, lock: Lock, suspects: Sequence[Holder]) -> Lock:
        holders = (
            replace(holder, within=holder in suspects and self._is_inside(holder, self._keys(lock, holder)))
            for holder in lock.holders
        )
        return replace(lock, holders=tuple(holders))

    def _is_inside(self, holder: Holder, keys: Iterable[Key]) -> bool:
        return any(self._insiders.of(key) == holder.tid for key in keys)

    def _keys(self, lock: Lock, holder: Holder) -> list[Key]:
        """Its SemLock objects in that process."""
        return [(holder.process, known.address) for known in self._fleet[holder.process].objects.get(lock.id, ())]


def _waits_for_its_own(lock: Lock) -> Iterator[Holder]:
    asleep = {(w.process, w.tid) for w in lock.waiters if not w.timed and (w.asleep_s or 0.0) >= SUSPECT_S}
    return (holder for holder in lock.holders if (holder.process, holder.tid) in asleep)
