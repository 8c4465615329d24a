"""Search one process for the objects that its semaphores are parts of, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from semtrace.cpython.owners import Owner, OwnerSearch
from semtrace.model import SemId

# How many semaphores one search looks for the owners of.
_MOST_OWNED = 64

_END = object()


class Owned:
    """`found` has the owner of each semaphore that was searched for, None for a lock that is not part of anything.
    `unread` are those of which nothing could be read. `changes` grows with each new result.
    """

    def __init__(self) -> None:
        self.found: dict[SemId, Owner | None] = {}
        self.unread: set[SemId] = set()
        self.changes = 0
        self._wanted: frozenset[SemId] = frozenset()
        self._search: Iterator[None] | None = None

    def want(self, semaphores: Iterable[SemId]) -> None:
        """Have these searched for, when there is nothing else to search for."""
        self._wanted = frozenset(semaphores)

    def keep(self, mapped: Collection[SemId]) -> None:
        """Forget the semaphores that are not mapped any more."""
        self.found = {semaphore: owner for semaphore, owner in self.found.items() if semaphore in mapped}
        self.unread &= set(mapped)

    def close(self) -> None:
        self._search = None

    def is_due(self, known: Collection[SemId]) -> bool:
        """Return True while a search runs, or is due; `known` are the semaphores whose SemLock objects are known."""
        return self._search is not None or not self._wanted.isdisjoint(known)

    def proceed(self, known: Collection[SemId], begin: Callable[[list[SemId]], Iterator[None]]) -> bool:
        """Read one more piece; `begin` starts a search. Return False when there is nothing to search for now."""
        if not self.is_due(known):
            return False
        if self._search is None:
            self._search = begin(sorted(self._wanted.intersection(known))[:_MOST_OWNED])
        if next(self._search, _END) is _END:
            self._search = None
        return True

    def search(
        self,
        semaphores: Collection[SemId],
        objects: Mapping[int, SemId],
        run: OwnerSearch,
        mapped: Callable[[], Collection[SemId]],
    ) -> Iterator[None]:
        """Run a search for the owners of these `objects`; `mapped` are the semaphores that are there when it ends."""
        yield from run
        owners = {objects[address]: owner for address, owner in sorted(run.owners.items(), key=_plain_first)}
        for semaphore in set(objects.values()).intersection(mapped()):
            if semaphore not in owners:
                self.unread.add(semaphore)
            if semaphore not in self.found or owners.get(semaphore) != self.found[semaphore]:
                self.changes += 1
            if semaphore in owners:
                self.found[semaphore] = owners[semaphore]
        self._wanted -= set(semaphores)


def _plain_first(found: tuple[int, Owner | None]) -> bool:
    """Sort so that, of several objects for one semaphore, one that has an owner decides."""
    return found[1] is not None
