"""Count workers that ended, by cause, and locks whose holder died. What happens between two samples is not seen."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping
from enum import auto

from semtrace.metrics.grouping import Key
from semtrace.model import Lock, Process, ProcessId, SemId, Snapshot, Word
from semtrace.waits.workers import workers


class Cause(Word):
    """How a worker ended. EXITED is with code 0, as after a reload, FAILED with another. Where it may or may not have
    been gunicorn's timeout, UNKNOWN.
    """

    EXITED = auto()
    FAILED = auto()
    SIGNAL = auto()
    TIMEOUT = auto()
    UNKNOWN = auto()


# gunicorn/arbiter.py murder_workers: SIGABRT, on which a worker exits with 1 (workers/base.py handle_abort), or with 0
# where that is caught, and SIGKILL at the next look.
_BY_TIMEOUT = (None, 0, 1, -signal.SIGABRT, -signal.SIGKILL)
# A sample shortly before the death shows nearly all of the silence.
_NEARLY = 0.9


def cause(exit_code: int | None, worker: Process, later_s: float, timeout_s: float | None) -> Cause:
    """Return the cause by the exit code, None where nobody knows it, and by the last sample of the worker, `later_s`
    before it was found to be gone.
    """
    silent_s = worker.last_heartbeat_s
    if timeout_s and silent_s is not None and exit_code in _BY_TIMEOUT:
        if silent_s >= _NEARLY * timeout_s:
            return Cause.TIMEOUT
        if silent_s + later_s >= timeout_s:
            return Cause.UNKNOWN
    if exit_code is None:
        return Cause.UNKNOWN
    return Cause.SIGNAL if exit_code < 0 else Cause.FAILED if exit_code else Cause.EXITED


class Deaths:
    """Compares the workers of each snapshot with those of the one before.

    `exit_code` returns how a process that has gone ended, None if nobody knows. `lives` says whether it goes on
    outside the server.
    """

    def __init__(self, exit_code: Callable[[ProcessId], int | None], lives: Callable[[ProcessId], bool]) -> None:
        self._exit_code, self._lives = exit_code, lives
        self._workers: dict[ProcessId, Process] = {}
        self._counts = dict.fromkeys(Cause, 0)
        self._sampled_s = 0.0

    def add(self, snapshot: Snapshot) -> Mapping[Cause, int]:
        present = {process.id for process in snapshot.processes}
        for gone in self._workers.keys() - present:
            if not self._lives(gone):
                code = self._exit_code(gone)
                later_s = snapshot.monotonic_s - self._sampled_s
                self._counts[cause(code, self._workers[gone], later_s, snapshot.server.timeout_s)] += 1
        self._sampled_s = snapshot.monotonic_s
        self._workers = {process.id: process for process in workers(snapshot)}
        return dict(self._counts)


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
