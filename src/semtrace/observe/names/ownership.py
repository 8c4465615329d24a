"""Find the primitives that semaphores without a name are parts of, in one process after another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from semtrace.cpython.naming import plain
from semtrace.cpython.owners import Owner
from semtrace.lazydata import replace
from semtrace.model import ProcessId, SemId
from semtrace.observe.judge import composites
from semtrace.observe.judge.composites import Made, Part
from semtrace.observe.watch.watched import Watched

# How many processes are searched for one semaphore's owner before it is left to the guess.
_MOST_TRIES = 3

Mappers = Mapping[SemId, Sequence[Watched]]


class Ownership:
    """`want` is to be called in every refresh; it has each semaphore searched for once. `pending`: a search is due."""

    def __init__(self) -> None:
        self._unnamed: Collection[SemId] = ()
        self.pending = False
        self._known: dict[SemId, tuple[ProcessId, Owner | None]] = {}  # also when the one searched has ended

    def unnamed(self, semaphores: Collection[SemId]) -> None:
        """Note which semaphores no name leads to."""
        self._unnamed = semaphores
        self.pending = bool(semaphores)

    def want(self, mappers: Mappers) -> None:
        """Set which semaphores each process is to be searched for."""
        if not self.pending:
            return
        wanted: dict[Watched, list[SemId]] = {}
        for semaphore in self._unnamed:
            able = _able(mappers.get(semaphore, ()), semaphore)
            left = [watched for watched in able if semaphore not in watched.owned.unread]
            if left and semaphore not in self._known:
                wanted.setdefault(left[0], []).append(semaphore)
        for watched in {watched for semaphore in self._unnamed for watched in mappers.get(semaphore, ())}:
            watched.owned.want(wanted.get(watched, ()))
        self.pending = bool(wanted)

    def parts(
        self, made: Sequence[Made], mappers: Mappers, ids: Mapping[SemId, Collection[ProcessId]]
    ) -> dict[SemId, Part]:
        """Return the semaphores without a name that are parts, by evidence or, until there is some, by a guess."""
        owned: dict[tuple[ProcessId, int], dict[SemId, Owner]] = {}
        parts = composites.parts(made, {semaphore: frozenset(who) for semaphore, who in ids.items()})
        self._learn(mappers)
        for semaphore in self._unnamed:
            if semaphore in self._known:
                parts.pop(semaphore, None)
                process, owner = self._known[semaphore]
                if owner is not None:
                    owned.setdefault((process, owner.address), {})[semaphore] = owner
            elif (part := parts.get(semaphore)) is not None and part.signal:
                able = _able(mappers.get(semaphore, ()), semaphore)
                pending = not all(semaphore in watched.owned.unread for watched in able)
                parts[semaphore] = replace(part, signal=False, guessed=True, pending=pending)
        for members in owned.values():
            for semaphore, owner in members.items():
                name = f"{plain(owner.kind)} {min(members)}"
                parts[semaphore] = Part(name, composites.is_signal(owner.attribute), owner.kind, owner.attribute)
        return parts

    def _learn(self, mappers: Mappers) -> None:
        self._known = {semaphore: known for semaphore, known in self._known.items() if semaphore in mappers}
        for semaphore in self._unnamed:
            for watched in _able(mappers.get(semaphore, ()), semaphore):
                if semaphore in watched.owned.found:
                    self._known[semaphore] = (watched.id, watched.owned.found[semaphore])
                    break


def _able(mappers: Sequence[Watched], semaphore: SemId) -> list[Watched]:
    return [watched for watched in mappers if semaphore in watched.objects][:_MOST_TRIES]
