"""inherited-hold, over-release: counts that do not fit what was taken and given back."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.model import SEM_VALUE_MAX, Finding, Lock, Snapshot
from semtrace.rules.basis import Limits
from semtrace.rules.wording import counted, holding, label, pids, waiting


def inherited_hold(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Processes that count a hold which is another's: what a fork copies with the memory of the holder."""
    for lock in snapshot.locks:
        strays = [stray for stray in lock.strays if stray.count > 0]
        if lock.signal or lock.maximum == SEM_VALUE_MAX or not strays or len(strays) < len(lock.strays):
            continue
        who = pids(stray.process.pid for stray in strays)
        certain = all(stray.certain for stray in strays)
        claim = f"{who} {'counts' if len(strays) == 1 else 'count'} it as held"
        yield Finding(
            code="inherited-hold",
            severity="warning",
            lock=lock.id,
            name=label(lock),
            pids=tuple(stray.process.pid for stray in strays),
            title=f"{label(lock)} was held while {counted(len(strays), 'process was', 'processes were')} forked",
            evidence=(
                f"{claim}, and did not take it" if certain else f"{claim}; only {lock.maximum} can have taken it",
                *_consequence(lock),
                *holding(lock),
                *waiting(lock),
            ),
            remedy="Nothing in the master, nor a thread of it, may hold the lock while workers are forked. Restart the "
            "server to be rid of the false counts.",
        )


def _consequence(lock: Lock) -> list[str]:
    if lock.kind != "RLock":
        return []
    return ["of an RLock such a process never gives back what it takes, as its count does not come down to 0"]


def over_release(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """A Lock given back by one who had not taken it: then two may be inside. Of a Semaphore that is a way to use it."""
    for lock in snapshot.locks:
        below = [stray for stray in lock.strays if stray.count < 0] if lock.maximum == 1 else []
        above = lock.value is not None and lock.maximum is not None and lock.value > lock.maximum
        if lock.signal or not (below or above):
            continue
        value = [f"its value is {lock.value}, and {lock.maximum} is the most it may be"] if above else []
        yield Finding(
            code="over-release",
            severity="warning",
            lock=lock.id,
            name=label(lock),
            pids=tuple(stray.process.pid for stray in below),
            title=f"{label(lock)} was released by a process that did not hold it"
            if below
            else f"{label(lock)} was released more often than acquired",
            evidence=(
                *value,
                *(f"PID {s.process.pid} released it {counted(-s.count, 'time')} more than it took it" for s in below),
                *waiting(lock),
            ),
            remedy="Two may be inside at once after that. Use `with`; where acquire has a timeout, release only if it "
            "returned True.",
        )
