"""Watches a server for a while, then says what is wrong with it: `semtrace doctor`."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace

from semtrace.lazydata import dataclass
from semtrace.model import CODES, Finding, FindingCode, Problem, ProcessId, SemId, Server, Snapshot, ThreadRef, Wait
from semtrace.observe.observer import LONG_SEARCH_BUDGET_S, Observer
from semtrace.repairs.leaks import leaks
from semtrace.rules import Limits, gone_by, with_findings, worst_first
from semtrace.rules.knots import explained
from semtrace.rules.memory import nearly_full
from semtrace.stacks import confirmed, with_stacks
from semtrace.tracing.follower import Follower

WATCH_S = 1.5

# A proof, a walk for names or a search that is under way at the end gets so much longer.
_PATIENCE_S = 12.0
# The same while a proof waits for the search of large memory on a machine that computes.
_SEARCH_PATIENCE_S = 30.0
_PAUSE_S = 0.05
# What becomes known late, as the names of private locks, is watched for so long at least: that two copies are held at
# once may be true for moments only.
_KNOWN_S = 1.0

# Of a thread that is blocked for ever one of these tells.
_BLOCKED = (FindingCode.STUCK, FindingCode.DEADLOCK, FindingCode.WORKER_DIED)

# What passed by: when it was last seen, on the clock of the snapshots, and how.
Seen = Mapping[Hashable, tuple[float, Finding]]


@dataclass(frozen=True)
class Diagnosis:
    """The last snapshot, with all that was found, and how often was looked."""

    snapshot: Snapshot
    looks: int


class Doctor:
    """Looks at one server again and again and keeps what passes by. Of traced locks it follows the events."""

    def __init__(self, server: Server, limits: Limits, *, stacks: bool = True) -> None:
        self._observer = Observer(server, search_budget_s=LONG_SEARCH_BUDGET_S, telling=Follower(), limits=limits)
        self._limits = limits
        self._stacks = stacks
        self._seen: dict[Hashable, tuple[float, Finding]] = {}
        self._looks = 0

    def close(self) -> None:
        self._observer.close()

    def watch(self, seconds: float = WATCH_S) -> Diagnosis:
        """Looks for so long, a little longer where something is about to be decided, and judges."""
        began = known = time.monotonic()
        snapshot = self._look()
        while snapshot.alive and self._goes_on(time.monotonic() - began, seconds, time.monotonic() - known):
            time.sleep(_PAUSE_S)
            unread = self._observer.unread()
            snapshot = self._look()
            known = time.monotonic() if unread else known
        return Diagnosis(self._judge(snapshot), self._looks)

    @property
    def server(self) -> Server:
        return self._observer.server

    def forget_passed(self) -> None:
        """What was found so far and is over by the next judgement is not reported again."""
        self._seen.clear()

    def _goes_on(self, passed_s: float, seconds: float, known_s: float) -> bool:
        if passed_s < seconds + _PATIENCE_S:
            return passed_s < seconds or known_s < min(seconds, _KNOWN_S) or self._observer.undecided()
        return passed_s < seconds + _SEARCH_PATIENCE_S and self._observer.searches_for_proof()

    def _look(self) -> Snapshot:
        self._looks += 1
        snapshot = self._observer.snapshot()
        passing = [finding for finding in snapshot.findings if CODES[finding.code].passes]
        if new := [finding for finding in passing if finding.key not in self._seen]:
            snapshot = self._with_stacks(snapshot, new)  # now, for soon it may be over
        for finding in snapshot.findings:
            if CODES[finding.code].passes:
                self._seen[finding.key] = (snapshot.monotonic_s, self._better(finding))
        return snapshot

    def _better(self, finding: Finding) -> Finding:
        """Return the one with the stack, which only the first has."""
        _, before = self._seen.get(finding.key, (0.0, finding))
        return before if _located(before) > _located(finding) else finding

    def _judge(self, snapshot: Snapshot) -> Snapshot:
        server = snapshot.server
        room = snapshot.shared_memory
        doubts: tuple[Problem, ...] = ()
        if snapshot.alive and room is not None:
            found = leaks(server.pid, young=nearly_full(room))
            snapshot, doubts = replace(snapshot, shared_memory=replace(room, leaked=found.names)), found.problems
        if snapshot.alive and self._stacks:
            snapshot = self._told(snapshot)
        snapshot = with_findings(snapshot, self._limits)
        return replace(
            snapshot,
            findings=worst_first((*snapshot.findings, *passed(self._seen, snapshot))),
            problems=(*snapshot.problems, *unknown_timeout(server), *doubts),
        )

    def _with_stacks(self, snapshot: Snapshot, new: Iterable[Finding]) -> Snapshot:
        locks = [lock.id for finding in new for lock in finding.locks if lock.id is not None]
        if not self._stacks or not locks:
            return snapshot
        return with_findings(self._told(snapshot, locks), self._limits)

    def _told(self, snapshot: Snapshot, locks: Iterable[SemId] | None = None) -> Snapshot:
        """With stacks. They are taken a little after the look, and the thread may have gone on meanwhile."""
        told = with_stacks(snapshot, locks)
        return told if told is snapshot else confirmed(told, self._observer.snapshot())


def unknown_timeout(server: Server) -> Iterator[Problem]:
    """Without it nothing is said of who is about to be killed, and that should not pass for a good sign."""
    if server.kind == "gunicorn" and server.timeout_s is None:
        yield Problem(
            "tell gunicorn's --timeout",
            "neither its command line nor its memory shows it",
            "so findings do not show which worker gunicorn is about to kill, or has killed",
            unread="timeout",
        )


def passed(seen: Seen, snapshot: Snapshot) -> Iterator[Finding]:
    """Yield what was `seen` at some time and is not among the snapshot's findings any more."""
    living = {process.pid for process in snapshot.processes}
    worse = {lock.id for lock in snapshot.locks if lock.state == "orphaned" or lock.barred} | explained(snapshot)
    present = {finding.key for finding in snapshot.findings}
    instead = {(finding.lock or finding.name) for finding in snapshot.findings if CODES[finding.code].instead}
    blocked = {_thread(each) for finding in snapshot.findings if finding.code in _BLOCKED for each in finding.threads}
    for key, (seen_s, finding) in seen.items():
        if key in present:
            continue
        if finding.code in _BLOCKED and any(_thread(each) in blocked for each in finding.threads):
            continue  # more is known of it by now
        if finding.code == FindingCode.DEADLOCK:
            if finding.severity == "warning":
                continue  # it was a gate, and was opened
            if living.issuperset(finding.pids):
                finding = replace(finding, severity="warning")  # they went on: somebody outside it let them
        elif finding.lock in worse or (finding.lock or finding.name) in instead:
            continue  # it is not over: what has become of it is another finding's
        elif finding.code == FindingCode.LONG_WAIT and _goes_on(finding, seen_s, snapshot):
            continue  # it is not over, but more is known of it by now
        yield gone_by(finding, snapshot.monotonic_s - seen_s)


def _goes_on(finding: Finding, seen_s: float, snapshot: Snapshot) -> bool:
    """Return True if a thread of the finding is still in the same sleep, and another finding is about that thread."""
    asleep = {_thread(each) for each in finding.threads}
    asleep &= {
        (wait.thread.process, wait.thread.tid) for wait in snapshot.waits.waits if _since(wait, snapshot) <= seen_s
    }
    return any(_thread(each) in asleep for present in snapshot.findings for each in present.threads)


def _since(wait: Wait, snapshot: Snapshot) -> float:
    """Return since when the thread has slept, on the clock of the snapshots."""
    return snapshot.monotonic_s - (wait.asleep_s or 0.0)


def _thread(each: ThreadRef) -> tuple[ProcessId, int | None]:
    return each.process, each.tid


def _located(finding: Finding) -> int:
    return sum(thread.place is not None for thread in finding.threads)
