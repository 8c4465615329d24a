"""Record which locks threads take while they hold others, to find two that are taken in both orders. Pure.

Holds are followed from event to event, beginning with a state file that lists what was held before. When a record of
the process did not come, or came late, all is forgotten until the next file. So a nesting may be missed, but none is
invented, and no lock that was held around it is overlooked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from semtrace.model import ProcessId, SemId

# Bounds for what a hostile or endless server could make grow.
MOST_NESTINGS = 1024
MOST_THREADS = 1024
MOST_HELD = 16

# A file is not read in one moment.
_READING_NS = 50_000_000

Thread = tuple[ProcessId, int]
Hold = tuple[SemId, int, bool]  # the lock, the site, and whether it is a Lock or RLock; not a class, for speed
Held = Mapping[ProcessId, Mapping[int, tuple[Hold, ...]]]


class Nesting(NamedTuple):
    """An acquire of `inner` by a thread that held `outer` and `also_held`. The sites are those of the acquires."""

    outer: SemId
    inner: SemId
    outer_site: int
    inner_site: int
    also_held: frozenset[SemId]


Found = Mapping[Nesting, tuple[Thread, ...]]  # with the first two threads that did it


class Nestings:
    """A draft: `held` by process and thread in the order of acquiring, `found` all that was ever seen. `sure` is from
    when on all that a process holds is known, CLOCK_MONOTONIC.
    """

    def __init__(self, held: Held, found: Found, sure: Mapping[ProcessId, int]) -> None:
        self.held = dict(held)
        self.found = found
        self.sure = dict(sure)
        self._mine: dict[ProcessId, dict[int, tuple[Hold, ...]]] = {}
        self._noted: set[tuple[object, ...]] = set()

    def threads(self, process: ProcessId) -> dict[int, tuple[Hold, ...]]:
        """Return the holds of a process's threads, to be changed in place."""
        if process not in self._mine:
            self._mine[process] = self.held[process] = dict(self.held.get(process, {}))
        return self._mine[process]

    def forget(self, process: ProcessId) -> None:
        self.threads(process).clear()
        self.sure.pop(process, None)

    def begin(self, process: ProcessId, now_ns: int, booked: Iterable[tuple[int, SemId]]) -> None:
        """Start with the holds in a state file. Until the event of such a hold comes, it only counts in `also_held`."""
        threads = self.threads(process)
        for tid, lock in booked:
            held = threads.get(tid, ())
            if all(hold[0] != lock for hold in held):
                threads[tid] = ((lock, 0, False), *held)
        self.sure[process] = now_ns + _READING_NS

    def acquired(self, process: ProcessId, tid: int, time_ns: int, hold: Hold) -> None:
        """Record an acquire. If the thread is known to hold this lock already, it has released it meanwhile."""
        threads = self.threads(process)
        held = tuple(each for each in threads.get(tid, ()) if each[0] != hold[0])
        if hold[2] and time_ns > self.sure.get(process, time_ns):
            self._note((process, tid), held, hold)
        if len(held) < MOST_HELD:
            threads[tid] = (*held, hold)

    def released(self, process: ProcessId, tid: int, lock: SemId) -> None:
        """Record a release. If another thread than the known holder releases, nobody is known to hold it."""
        if any(hold[0] == lock for hold in self.held.get(process, {}).get(tid, ())):
            self._drop(process, tid, lock)
            return
        for other, threads in list(self.held.items()):
            for each in [each for each, held in threads.items() if any(hold[0] == lock for hold in held)]:
                self._drop(other, each, lock)

    def _drop(self, process: ProcessId, tid: int, lock: SemId) -> None:
        threads = self.threads(process)
        left = tuple(hold for hold in threads.pop(tid) if hold[0] != lock)
        if left:
            threads[tid] = left

    def _note(self, thread: Thread, held: tuple[Hold, ...], inner: Hold) -> None:
        seen = (thread, held, inner)
        if seen in self._noted:
            return
        self._noted.add(seen)
        for outer in held:
            if outer[2]:
                also_held = frozenset(each[0] for each in held if each is not outer)
                self._add(Nesting(outer[0], inner[0], outer[1], inner[1], also_held), thread)

    def _add(self, nesting: Nesting, thread: Thread) -> None:
        threads = self.found.get(nesting, ())
        if thread in threads or len(threads) > 1 or (not threads and len(self.found) >= MOST_NESTINGS):
            return
        self.found = {**self.found, nesting: (*threads, thread)}
