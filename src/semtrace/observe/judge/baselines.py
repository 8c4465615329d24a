"""Baselines: the counts at which processes hold nothing of a lock. Pure.

A process's count is what it acquired minus what it released, plus what a fork copied into it. So a count shows a hold
only against its baseline, and a baseline has to be shown, never guessed. Between the post and the decrement of a
release a count is too high, for as long as the thread is off the processor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from semtrace.lazydata import dataclass
from semtrace.model import ProcessId, SemId
from semtrace.observe.evidence.verdict import Baseline, Claim
from semtrace.observe.watch.activity import Activity

# How often the same count must have stood while the lock was free to prove a computing process's baseline. In between,
# each of its threads that could run must have run for so long. Then none can have been off the processor within a
# release all the time. A release takes less than a tenth of the shortest possible acquire and release.
STANDINGS = 12
RAN_NS = 250_000

# How often the units of a Semaphore must have been counted before all of them count as known. Each time a thread may
# have taken one and not counted it yet.
COUNTINGS = 10


@dataclass(frozen=True)
class _Standing:
    """A count that stood `times` while the lock was free, first at `since_s`. `activity` is what its process did at the
    last of them.
    """

    count: int
    since_s: float
    activity: Activity | None
    times: int = 1

    def again(self, activity: Activity | None) -> _Standing:
        """Return the same once more, which counts if each thread has blocked, or run since the last that counted."""
        if self.activity is None or activity is None:
            return _Standing(self.count, self.since_s, activity, self.times)
        ran = self.activity.ran_ns
        if not all(
            tid in activity.blocked or (ns is not None and ns - (ran.get(tid) or 0) >= RAN_NS)
            for tid, ns in activity.ran_ns.items()
        ):
            return self
        return _Standing(self.count, self.since_s, activity, self.times + bool(activity.ran_ns))


class Baselines:
    """Track the baselines of the processes that map one lock.

    A count of 0 is a baseline: what a fork copies is never negative, and no count is too low. One above 0 is proven
    where its process slept through a sample of the free lock, or through the moment in which another acquired it. For a
    process that computes all the time it is assumed if it stood in two samples of the free lock, `APART_S` or more
    apart. It is proven if it stood in many; it must never have been seen lower. `lowest` are the lowest counts below
    zero: once there was one, processes release what others took, and counts never again prove who holds the lock.

    A Semaphore does not say how many units it has: `units` is what was counted while all baselines were known.
    """

    APART_S = 0.5
    SOON_S = 0.05  # while there are counts whose baseline is not proven

    def __init__(self) -> None:
        self.known: dict[ProcessId, Baseline] = {}
        self.handed_over = False
        self.lowest: dict[ProcessId, int] = {}
        self._standing: dict[ProcessId, _Standing] = {}
        self._sampled_s = float("-inf")
        self._reaped: dict[ProcessId, int] = {}
        self.has_unproven = False  # counts above 0 whose baseline is not proven
        self._counted: tuple[int, int] = (0, 0)  # times, most units

    @property
    def units(self) -> int | None:
        times, most = self._counted
        return most if times >= COUNTINGS else None

    def due(self, now_s: float) -> bool:
        """Return True if the next sample of the free lock may teach something."""
        return now_s - self._sampled_s >= (self.SOON_S if self.has_unproven else self.APART_S)

    def unproven(self, claims: Iterable[Claim]) -> list[Claim]:
        """Return the counts of processes whose baseline is not proven."""
        return [c for c in claims if c.count > 0 and not ((known := self.known.get(c.process)) and known.proven)]

    def note(self, claims: Collection[Claim]) -> None:
        """Take in all claims as they are read, whatever the state of the lock."""
        unproven = False
        for claim in claims:
            process, count = claim.process, claim.count
            known = self.known.get(process)
            if count < 0:
                self.handed_over = True
                self.lowest[process] = min(count, self.lowest.get(process, 0))
            if count <= 0 if known is None else count < known.count:
                known = self.known[process] = Baseline(max(count, 0), proven=True)
            if claim.reaped and known is not None and count <= known.count:
                self._reaped[process] = claim.reaped
            unproven |= count > 0 and (known is None or not known.proven)
        if claims:
            self.has_unproven = unproven

    def reaped_at_rest(self, process: ProcessId) -> int:
        """Return what its ended children had used when it was last seen to hold nothing, 0 if it never was."""
        return self._reaped.get(process, 0)

    def count_units(self, value: int, claims: Collection[Claim]) -> None:
        """Take in a steady reading of a Semaphore by all processes that map it."""
        if not self.handed_over and not self.unproven(claims):
            times, most = self._counted
            taken = sum(claim.count - self.known[claim.process].count for claim in claims if claim.count > 0)
            self._counted = times + 1, max(most, value + taken)

    def sample_free(
        self,
        now_s: float,
        standing: Collection[Claim],
        asleep: Collection[ProcessId],
        activities: Mapping[ProcessId, Activity] | None = None,
    ) -> None:
        """Take in the counts that stood while the lock was free; the processes in `asleep` did not run meanwhile, and
        `activities` is what the others did.
        """
        before, self._standing = self._standing, {}
        self._sampled_s = now_s
        for claim in standing:
            if claim.count:
                self._stands(now_s, claim, before.get(claim.process), (activities or {}).get(claim.process))
                if claim.process in asleep:
                    self.prove(claim)
        self.has_unproven = bool(self.unproven(standing))

    def _stands(self, now_s: float, claim: Claim, last: _Standing | None, activity: Activity | None) -> None:
        same = last is not None and last.count == claim.count
        now = last.again(activity) if last and same else _Standing(claim.count, now_s, activity)
        self._standing[claim.process] = now
        if now.times >= STANDINGS:
            self.prove(claim)
        elif claim.process not in self.known and now_s - now.since_s >= self.APART_S:
            self.known[claim.process] = Baseline(claim.count, False, claim.last_tid)

    def prove(self, claim: Claim) -> None:
        """Take a count for proven to be one at which its process holds nothing."""
        self.known[claim.process] = Baseline(claim.count, True, claim.last_tid)

    def keep(self, processes: Collection[ProcessId]) -> None:
        """Forget the baselines of processes that do not map the lock any more."""
        self.known = {process: baseline for process, baseline in self.known.items() if process in processes}
        self._reaped = {process: reaped for process, reaped in self._reaped.items() if process in processes}

    @property
    def left_over(self) -> dict[ProcessId, int]:
        """The counts that stay above or below zero while their process holds nothing."""
        return {process: baseline.count for process, baseline in self.known.items() if baseline.count}


class Rounds:
    """Give free locks their turns where there are thousands: none comes again before all had theirs, and all take no
    more than a part of the time.
    """

    MOST_S = 0.5  # in one refresh
    SHARE = 4  # so many times what it took passes until the next

    def __init__(self) -> None:
        self._had: set[SemId] = set()
        self._from_s = 0.0
        self._open = False
        self._left = False
        self._took_s = 0.0

    def begin(self, now_s: float) -> None:
        """Begin a refresh."""
        self._open, self._left, self._took_s = now_s >= self._from_s, False, 0.0

    def may(self, semaphore: SemId) -> bool:
        """Return True if it is this lock's turn."""
        if not self._open or semaphore in self._had:
            return False
        self._left |= self._took_s >= self.MOST_S
        return not self._left

    def took(self, semaphore: SemId, seconds: float) -> None:
        """Note that it had its turn, and how long that took."""
        self._had.add(semaphore)
        self._took_s += seconds

    def end(self, now_s: float) -> None:
        """End a refresh."""
        if self._open:
            self._from_s = now_s + self.SHARE * self._took_s
        if self._open and not self._left:
            self._had.clear()
