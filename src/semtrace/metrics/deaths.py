"""Count workers that ended, by cause, and locks whose holder died. What happens between two samples is not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import auto

from semtrace.metrics.grouping import Key
from semtrace.model import Death, DeathCause, Lock, ProcessId, SemId, Snapshot, Word
from semtrace.waits.workers import workers

# How a process ended may become known some seconds later (observe.deaths).
_UNDECIDED_S = 4.0


class Cause(Word):
    """The end of a worker. EXITED is with code 0, as after a reload, FAILED with another; the others as in a Death."""

    EXITED = auto()
    FAILED = auto()
    SIGNAL = auto()
    TIMEOUT = auto()
    MEMORY = auto()
    UNKNOWN = auto()


_CAUSES = {DeathCause.SIGNAL: Cause.SIGNAL, DeathCause.TIMEOUT: Cause.TIMEOUT, DeathCause.MEMORY: Cause.MEMORY}


def cause(death: Death | None) -> Cause:
    """Return the cause that a certificate shows; UNKNOWN without one."""
    if death is not None and death.cause is DeathCause.EXIT:
        return Cause.FAILED if death.exit_code else Cause.EXITED
    return Cause.UNKNOWN if death is None else _CAUSES.get(death.cause, Cause.UNKNOWN)


class Deaths:
    """Compare the workers of each snapshot with those of the one before, and ask the snapshot how they ended.

    `lives` says whether a process that has left the server, and has no certificate, goes on outside it.
    """

    def __init__(self, lives: Callable[[ProcessId], bool]) -> None:
        self._lives = lives
        self._workers: frozenset[ProcessId] = frozenset()
        self._undecided: frozenset[ProcessId] = frozenset()
        self._counts = dict.fromkeys(Cause, 0)

    def add(self, snapshot: Snapshot) -> Mapping[Cause, int]:
        certificates = {death.id: death for death in snapshot.deaths}
        present = {process.id for process in snapshot.processes}
        gone = (self._workers - present) | self._undecided
        self._undecided = frozenset(each for each in gone if _is_undecided(certificates.get(each)))
        for process in gone - self._undecided:
            if process in certificates or not self._lives(process):
                self._counts[cause(certificates.get(process))] += 1
        self._workers = frozenset(process.id for process in workers(snapshot))
        return dict(self._counts)


def _is_undecided(death: Death | None) -> bool:
    """Return True if a later snapshot may still say how it ended."""
    return (
        death is not None
        and death.cause is DeathCause.UNKNOWN
        and death.exit_code is None
        and death.ended_s <= _UNDECIDED_S
    )


class HolderDeaths:
    """Counts how often a lock became orphaned: that is proven to be the death of its holder."""

    def __init__(self) -> None:
        self._orphaned: frozenset[SemId] = frozenset()
        self._counts: dict[Key, int] = {}

    def add(self, groups: Mapping[Key, Iterable[Lock]]) -> Mapping[Key, int]:
        """Take in one snapshot and return the count of each series, 0 for most."""
        found = {lock.id: key for key, locks in groups.items() for lock in locks if is_orphaned(lock)}
        self._counts = {key: self._counts.get(key, 0) for key in groups}
        for semaphore in found.keys() - self._orphaned:
            self._counts[found[semaphore]] += 1
        self._orphaned = frozenset(found)
        return dict(self._counts)


def is_orphaned(lock: Lock) -> bool:
    """Return True also while, for a moment, the proof is being made again."""
    return lock.state == "orphaned" or (lock.state == "unknown" and lock.orphaned_s is not None)
