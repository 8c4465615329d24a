"""The orders in which threads acquire locks, followed from event to event. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from semtrace.model import ProcessId, SemId, TracedEvent

# Of one thread; and of threads: more are not followed.
_MOST_HELD = 64
_MOST_THREADS = 100_000

_Thread = tuple[ProcessId, int]


class LockOrders:
    """`pairs` are (outer, inner): a thread acquired the inner lock while it held the outer one. A lock that was held
    before the first event, or around a lost one, is not seen: no pair is invented, some may be missing.
    """

    def __init__(self) -> None:
        self.pairs: set[tuple[SemId, SemId]] = set()
        self._held: dict[_Thread, list[SemId]] = {}
        self._newest: dict[SemId, _Thread] = {}

    def note(self, event: TracedEvent) -> None:
        lock, thread = event.lock, (event.process, event.tid)
        if lock is None:
            return
        if event.event == "acquired" and (thread in self._held or len(self._held) < _MOST_THREADS):
            held = self._held.setdefault(thread, [])
            self.pairs.update((outer, lock) for outer in held if outer != lock)
            if len(held) < _MOST_HELD:
                held.append(lock)
                self._newest[lock] = thread
        elif event.event == "released":
            holder = thread if lock in self._held.get(thread, ()) else self._newest.pop(lock, thread)
            self._release(holder, lock)  # another thread may have released it

    def forget(self, processes: Iterable[ProcessId]) -> None:
        """Events of these processes were lost: what their threads hold is not known any more."""
        lost = set(processes)
        for thread in [each for each in self._held if each[0] in lost] if lost else ():
            del self._held[thread]

    def _release(self, thread: _Thread, lock: SemId) -> None:
        held = self._held.get(thread, [])
        if lock in held:
            del held[len(held) - 1 - held[::-1].index(lock)]  # the last acquire of it
        if not held:
            self._held.pop(thread, None)
