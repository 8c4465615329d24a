"""One snapshot of a server as the numbers that its series have. Pure but for the counters, which remember."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from semtrace.lazydata import dataclass
from semtrace.metrics.deaths import Cause, Deaths, HolderDeaths, is_orphaned
from semtrace.metrics.grouping import Key, grouped
from semtrace.metrics.traced import Counts, Traced
from semtrace.model import FindingCode, Lock, ProcessId, Server, Severity, Snapshot, WaitKind
from semtrace.rules.basis import unbroken_s, unbroken_wait_s
from semtrace.rules.headline import Verdict, headline
from semtrace.waits.workers import Workers, WorkerState


@dataclass(frozen=True)
class LockReading:
    """All semaphores of one name. Times are in seconds, and lower bounds; `unknown` are those nobody can judge.

    `waiters` are threads, without those that wait for work. `traced` is None for locks that are not traced.
    """

    waiters: int
    holders: int
    longest_wait_s: float
    held_s: float
    orphaned: int
    unknown: int
    holder_deaths: int
    traced: Counts | None


@dataclass(frozen=True)
class Reading:
    """One server at one time, `taken_at` in seconds since the epoch. `unreadable` are processes."""

    server: Server
    taken_at: float
    cost_s: float
    verdict: Verdict
    workers: Mapping[str, int]
    stuck_threads: int
    waiting_threads: Mapping[WaitKind, int]
    unreadable: int
    findings: Mapping[tuple[FindingCode, Severity], int]
    deaths: Mapping[Cause, int]
    locks: Mapping[Key, LockReading]


STATES: tuple[WorkerState, ...] = ("idle", "busy", "waiting", "stuck", "stopped")
UNKNOWN = "unknown"
KINDS = tuple(kind for kind in WaitKind if kind is not WaitKind.UNKNOWN)


class Counting:
    """State of one server that is kept from snapshot to snapshot."""

    def __init__(self, deaths: Deaths) -> None:
        self._deaths = deaths
        self._holder_deaths = HolderDeaths()
        self._traced = Traced()

    def read(self, snapshot: Snapshot) -> Reading:
        line = headline(snapshot)
        groups = grouped(snapshot.locks)
        holder_deaths, traced = self._holder_deaths.add(groups), self._traced.add(groups)
        waits = Counter(wait.target.kind for wait in snapshot.waits.waits if not wait.idle)
        blind = {problem.process for problem in snapshot.problems if problem.process}
        return Reading(
            server=snapshot.server,
            taken_at=snapshot.taken_at,
            cost_s=snapshot.cost_s,
            verdict=line.verdict,
            workers=_workers(line.workers, blind),
            stuck_threads=len(snapshot.waits.stuck),
            waiting_threads={kind: waits[kind] for kind in KINDS},
            unreadable=len(blind),
            findings=Counter((each.code, each.severity) for each in snapshot.findings if each.over_s is None),
            deaths=self._deaths.add(snapshot),
            locks={key: _lock(locks, holder_deaths[key], traced.get(key)) for key, locks in groups.items()},
        )


def _workers(found: Workers, blind: Collection[ProcessId]) -> dict[str, int]:
    """Count them by state. One that cannot be read seems to be busy, for nothing is seen that it waits for."""
    states = Counter(UNKNOWN if state == "busy" and each in blind else state for each, state in found.states.items())
    return {state: states[state] for state in (*STATES, UNKNOWN)}


def _lock(locks: Sequence[Lock], holder_deaths: int, traced: Counts | None) -> LockReading:
    waiters = [waiter for lock in locks for waiter in lock.waiters if not waiter.idle]
    holders = [(lock, holder) for lock in locks for holder in lock.sure_holders]
    return LockReading(
        waiters=len(waiters),
        holders=len(holders),
        longest_wait_s=max((unbroken_wait_s(waiter) or 0.0 for waiter in waiters), default=0.0),
        held_s=max((unbroken_s(lock, holder) or 0.0 for lock, holder in holders), default=0.0),
        orphaned=sum(map(is_orphaned, locks)),
        unknown=sum(lock.state == "unknown" and not is_orphaned(lock) for lock in locks),
        holder_deaths=holder_deaths,
        traced=traced,
    )
