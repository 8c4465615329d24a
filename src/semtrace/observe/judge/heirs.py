"""Prove inherited counts by another process's acquire.

Who acquires a lock that lets in one at a time shows that nobody else holds it. So a process that slept through the
moment in which another process's count rose holds nothing, whatever its own count says: it copied that at its fork.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semtrace.lazydata import dataclass
from semtrace.model import RECURSIVE_MUTEX, ProcessId, SemId
from semtrace.observe.evidence.verdict import Claim, Reading
from semtrace.observe.judge.baselines import Baselines
from semtrace.observe.watch import reading
from semtrace.observe.watch.activity import Activity
from semtrace.observe.watch.watched import Watched


@dataclass(frozen=True)
class _Sample:
    """All claims, read after the activity of those that may be inherited."""

    activities: Mapping[ProcessId, Activity]
    claims: Mapping[ProcessId, Claim]


class Heirs:
    """Compare each sample of a lock that has unproven counts with the sample before."""

    def __init__(self) -> None:
        self._before: dict[SemId, _Sample] = {}

    def learn(self, semaphore: SemId, mappers: Sequence[Watched], read: Reading, baselines: Baselines) -> bool:
        """Return True if a baseline was proven by this reading and what was seen before."""
        before = self._before.pop(semaphore, None)
        unproven = {claim.process for claim in baselines.unproven(read.claims)}
        if read.maxvalue != 1 or not unproven or baselines.handed_over:
            return False
        now = {watched.id: watched.activity(semaphore) for watched in mappers if watched.id in unproven}
        if before is not None and _nothing_new(before, read, now):
            self._before[semaphore] = before
            return False
        found = list(_proven(before, read, now)) if before and read.steady else []
        for claim in found:
            baselines.prove(claim)
        claims, _ = reading.claims_on(semaphore, mappers)
        self._before[semaphore] = _Sample(now, {claim.process: claim for claim in claims})
        return bool(found)

    def keep(self, semaphores: Mapping[SemId, object]) -> None:
        """Forget the semaphores that are gone."""
        self._before = {semaphore: each for semaphore, each in self._before.items() if semaphore in semaphores}


def _nothing_new(before: _Sample, read: Reading, now: Mapping[ProcessId, Activity]) -> bool:
    """Return True if the same claims stand, and those that are unproven have slept."""
    then = before.activities
    slept = now.keys() == then.keys() and all(now[process].asleep_since(then[process]) for process in now)
    return slept and {claim.process: claim for claim in read.claims} == before.claims


def _proven(before: _Sample, read: Reading, now: Mapping[ProcessId, Activity]) -> list[Claim]:
    """Return the claims of those that slept while another's count rose."""
    risen = {claim.process for claim in read.claims if _rose(before.claims.get(claim.process), claim, read.kind)}
    return [
        claim
        for claim in read.claims
        if claim.process in now
        and claim == before.claims.get(claim.process)
        and claim.process in before.activities
        and now[claim.process].asleep_since(before.activities[claim.process])
        and risen - {claim.process}
    ]


def _rose(before: Claim | None, now: Claim, kind: int | None) -> bool:
    """Return True if its process has acquired the lock. An RLock counts on for its owner, who need not have it."""
    if before is None or before.count >= now.count:
        return False
    return kind != RECURSIVE_MUTEX or before.count == 0
