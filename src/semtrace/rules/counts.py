"""inherited-hold, over-release: counts that do not fit what was taken and given back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from semtrace.model import SEM_VALUE_MAX, Finding, Lock, Snapshot, Stray
from semtrace.rules.basis import Limits, is_read_lock
from semtrace.rules.deadlocks import ASLEEP_S
from semtrace.rules.wording import holding, label, pids, waiting
from semtrace.text import age, counted

_RESTART = "They wait until the server is restarted; semtrace release refuses, as nothing proves that nobody holds it. "


def inherited_hold(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Processes that count a hold which is another's: what a fork copies with the memory of the holder."""
    for lock in snapshot.locks:
        strays = inherited_counts(lock, snapshot)
        if not strays:
            continue
        who = pids(stray.process.pid for stray in strays)
        certain = all(stray.certain for stray in strays)
        claim = f"{who} {'counts' if len(strays) == 1 else 'count'} it as held"
        stuck = _all_wait(lock, strays, snapshot)
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
                *stuck,
                *_still_holding(lock),
                *waiting(lock),
            ),
            remedy=(_RESTART if stuck else "") + "Nothing in the master, nor a thread of it, may hold the lock while "
            "workers are forked. Restart the server to be rid of the false counts.",
        )


def inherited_counts(lock: Lock, snapshot: Snapshot) -> list[Stray]:
    """The counts of processes that may have inherited them: whose parents have the lock too. Without such a parent a
    count that stays is left by one who takes what others release.
    """
    strays = [stray for stray in lock.strays if stray.count > 0]
    if is_read_lock(lock):
        return []  # a thread that reads a queue keeps it all the time, and the children only write
    if lock.signal or lock.maximum == SEM_VALUE_MAX or len(strays) < len(lock.strays):
        return []
    parents = {process.id: process.ppid for process in snapshot.processes}
    mapping = {process.pid for process in lock.mapped_by}
    return [stray for stray in strays if parents.get(stray.process) in mapping]


def _still_holding(lock: Lock) -> list[str]:
    """Who holds it, if that has not run meanwhile: a hold that may be over by now is not told as one."""
    return holding(lock) if all(holder.asleep_s or holder.evidence == "events" for holder in lock.holders) else []


def _all_wait(lock: Lock, strays: Sequence[Stray], snapshot: Snapshot) -> list[str]:
    """Said where whoever counts it as held waits for it, with its only thread and without end: whichever of them took
    it cannot give it back. Another process may still, one outside the server, so this is no proof.
    """
    if lock.state != "unknown" or lock.value != 0 or lock.maximum != 1 or lock.in_flux or lock.holders:
        return []
    single = {process.id for process in snapshot.processes if process.threads == 1}
    slept = {
        waiter.process: waiter.asleep_s
        for waiter in lock.waiters
        if waiter.process in single and not waiter.timed and waiter.asleep_s and waiter.asleep_s >= ASLEEP_S
    }
    asleep = [slept.get(stray.process) for stray in strays]
    if not all(asleep):
        return []
    return [
        f"each of them waits for it itself, and has not run for {age(min(filter(None, asleep)))}: if no process "
        "outside the server holds it, nobody will give it back"
    ]


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
            "returned True. If processes hand it on by intent, a multiprocessing.Semaphore says so.",
        )
