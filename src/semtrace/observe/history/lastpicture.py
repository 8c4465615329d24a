"""The picture that stays when a server has ended: the one from before its workers went, with what was wrong then. Pure.

gunicorn stops its workers first: the very last pictures show locks that nobody waits for any more, and holders that
have just been killed by the stop itself. A worker that was killed is still there for some milliseconds, but waits no
more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Hashable, Iterator

from semtrace.lazydata import replace
from semtrace.model import SEVERITIES, Finding, Lock, SemId, Snapshot

# So long after its last worker a master may live and still be ending; one that lives longer went on without workers.
ENDING_S = 5.0
# The workers go one after another: of so long before the last had gone the picture is kept that has the most of them.
LEAVING_S = 1.0
# Findings of so long before the workers went were not over. Where samples are far apart, the last two are this old.
REPORTED_S = 5.0


class LastPicture:
    """`add` takes every picture, in their order."""

    def __init__(self) -> None:
        self._newest: Snapshot | None = None
        self._with_workers: deque[tuple[int, Snapshot]] = deque()  # with how many workers
        self._gone = False  # the newest has no workers, where others had some
        self._reported: dict[Hashable, tuple[float, Finding]] = {}
        self._orphans: dict[SemId, tuple[float, Lock]] = {}

    def add(self, snapshot: Snapshot) -> None:
        self._newest, now_s = snapshot, snapshot.monotonic_s
        workers = sum(process.role == "worker" for process in snapshot.processes)
        was_gone, self._gone = self._gone, not workers and any(count for count, _ in self._with_workers)
        if self._gone:
            return
        if was_gone:
            self._with_workers.clear()
        self._with_workers.append((workers, snapshot))
        while now_s - self._with_workers[0][1].monotonic_s > (LEAVING_S if len(self._with_workers) > 2 else REPORTED_S):
            self._with_workers.popleft()
        serious = (finding for finding in snapshot.findings if finding.severity != "note")
        self._reported |= {finding.key: (now_s, finding) for finding in serious}
        self._reported = {key: seen for key, seen in self._reported.items() if now_s - seen[0] <= REPORTED_S}
        self._orphans |= {lock.id: (now_s, lock) for lock in snapshot.locks if lock.state == "orphaned"}
        still = {lock.id for lock in snapshot.locks if lock.state in ("orphaned", "unknown")}
        self._orphans = {s: seen for s, seen in self._orphans.items() if s in still and now_s - seen[0] <= REPORTED_S}

    def ended(self, now_s: float) -> Snapshot | None:
        """None if there never was one."""
        if self._newest is None:
            return None
        last_working = self._with_workers[-1][1]
        last_working_s = last_working.monotonic_s
        if last_working_s < self._newest.monotonic_s and now_s - last_working_s > ENDING_S:
            return replace(self._newest, alive=False, locks=tuple(map(_over, self._newest.locks)))
        free = {lock.id for lock in last_working.locks if lock.state == "free"}
        _, best = max(reversed(self._with_workers), key=lambda each: (each[0], _waiting(each[1], free)))
        locks = tuple(self._lock(lock) for lock in best.locks)
        return replace(best, alive=False, locks=locks, findings=tuple(self._findings(best)))

    def _lock(self, lock: Lock) -> Lock:
        """Return an orphaned lock that the end of the server made unknown, as it was when it was proved. That proof may
        have been repeated after the waiters had been killed.
        """
        if lock.state == "unknown" and lock.id in self._orphans:
            proved = self._orphans[lock.id][1]
            return replace(proved, waiters=max(proved.waiters, lock.waiters, key=len))
        return _over(lock)

    def _findings(self, best: Snapshot) -> Iterator[Finding]:
        """Yield the findings of the picture, and those reported shortly before about a lock that did not become free
        meanwhile; those of each severity together.
        """
        own = {finding.key for finding in best.findings}
        free = {lock.id for lock in best.locks if lock.state == "free"}
        more = [finding for key, (_, finding) in self._reported.items() if key not in own and finding.lock not in free]
        for severity in SEVERITIES:
            yield from (finding for finding in (*best.findings, *more) if finding.severity == severity)


def _waiting(snapshot: Snapshot, free: Container[SemId]) -> int:
    """Return how many threads wait for locks that did not become free afterwards: fewer do so once some are killed."""
    return sum(len(lock.waiters) for lock in snapshot.locks if lock.id not in free)


def _over(lock: Lock) -> Lock:
    """Return it as it is once the server has ended: a proof that was under way is so no more."""
    return replace(lock, reason=lock.if_ended, if_ended=None) if lock.if_ended else lock
