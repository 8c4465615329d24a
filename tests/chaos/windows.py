"""Copy the journal's part of each lock right before and after an observer reads that lock.

A snapshot of many locks takes so long that most of them change meanwhile. A lock is read within a fraction of that, so
more of them can be judged, and also those that are in use all the time.
"""

from __future__ import annotations

from collections.abc import Mapping

from semtrace.model import SemId, Snapshot
from semtrace.observe.judge.prover import Judged
from semtrace.observe.observer import Observer
from tests.chaos.truth import Part, Reader


class Windows:
    """`parts` has the part of each lock before and after it was last read in the last snapshot. A lock that was read
    for a proof has none: that verdict is about the whole snapshot.
    """

    def __init__(self, observer: Observer, reader: Reader, indexes: Mapping[int, int]) -> None:
        self.parts: dict[SemId, tuple[Part, Part]] = {}
        self._reader = reader
        self._indexes = indexes  # by inode
        self._judge_now, self._snapshot = observer._judge_now, observer.snapshot
        observer.snapshot = self.snapshot  # type: ignore[method-assign]
        observer._judge_now = self._looked_at  # type: ignore[method-assign]
        observer._prover._judge_now = self._looked_for_proof

    def snapshot(self) -> Snapshot:
        self.parts.clear()
        return self._snapshot()

    def _looked_at(self, semaphore: SemId) -> Judged:
        index = self._indexes.get(semaphore.inode)
        if index is None:
            return self._judge_now(semaphore)
        before = self._reader.part(index)
        judged = self._judge_now(semaphore)
        self.parts[semaphore] = before, self._reader.part(index)
        return judged

    def _looked_for_proof(self, semaphore: SemId) -> Judged:
        self.parts.pop(semaphore, None)
        return self._judge_now(semaphore)
