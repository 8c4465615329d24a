"""Baselines: the counts at which processes hold nothing of a lock. Pure.

A process's count is what it acquired minus what it released, plus what a fork copied into it. So a count says that a
process holds something only against its baseline, and a baseline has to be shown, never guessed: between the post and
the decrement of a release a count is too high, for as long as the thread is off the processor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from semtrace.model import ProcessId
from semtrace.observe.verdict import Baseline, Claim


class Baselines:
    """Track the baselines of the processes that map one lock.

    A count of 0 is a baseline: what a fork copies is never negative, and no count is too low. One above 0 is proven
    where its process slept through a sample of the free lock. A process that computes all the time cannot prove it so:
    its count is assumed where it stood in two samples of the free lock, `APART_S` or more apart, and was never seen
    lower. `lowest` are the lowest counts below zero: once there was one, processes release what others took, and
    counts never again prove who holds the lock.
    """

    APART_S = 0.5

    def __init__(self) -> None:
        self.known: dict[ProcessId, Baseline] = {}
        self.handed_over = False
        self.lowest: dict[ProcessId, int] = {}
        self._standing: dict[ProcessId, Claim] = {}
        self._sampled_s = float("-inf")

    def due(self, now_s: float) -> bool:
        """Return True if the next sample of the free lock may teach something."""
        return now_s - self._sampled_s >= self.APART_S

    def note(self, claims: Iterable[Claim]) -> None:
        """Take in all claims as they are read, whatever the state of the lock."""
        for claim in claims:
            process, count = claim.process, claim.count
            known = self.known.get(process)
            if count < 0:
                self.handed_over = True
                self.lowest[process] = min(count, self.lowest.get(process, 0))
            if count <= 0 if known is None else count < known.count:
                self.known[process] = Baseline(max(count, 0), proven=True)

    def sample_free(self, now_s: float, standing: Iterable[Claim], asleep: Collection[ProcessId]) -> None:
        """Take in the counts that stood while the lock was free; the processes in `asleep` did not run meanwhile."""
        before, self._standing = self._standing, {c.process: c for c in standing if c.count}
        self._sampled_s = now_s
        for process, claim in self._standing.items():
            if process in asleep:
                self.known[process] = Baseline(claim.count, True, claim.last_tid)
            elif process not in self.known and process in before and before[process].count == claim.count:
                self.known[process] = Baseline(claim.count, False, claim.last_tid)

    def keep(self, processes: Collection[ProcessId]) -> None:
        """Forget the baselines of processes that do not map the lock any more."""
        self.known = {process: baseline for process, baseline in self.known.items() if process in processes}

    @property
    def left_over(self) -> dict[ProcessId, int]:
        """The counts that stay above or below zero while their process holds nothing."""
        return {process: baseline.count for process, baseline in self.known.items() if baseline.count}
