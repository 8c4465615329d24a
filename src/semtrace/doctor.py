"""Watches a server for a while, then says what is wrong with it: `semtrace doctor`."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from semtrace.model import Finding, Problem, SemId, Server, Snapshot
from semtrace.observe.observer import Observer
from semtrace.repairs.leaks import leaks
from semtrace.rules import Limits, findings, gone_by, worst_first
from semtrace.rules.deadlocks import deadlocked
from semtrace.stacks import confirmed, with_stacks
from semtrace.tracing.follower import Follower

WATCH_S = 1.5

# A proof, a walk for names or a search that is under way at the end gets so much longer.
_PATIENCE_S = 6.0
_PAUSE_S = 0.05

# What passes by: a later picture does not show that it was not so. Everything else stays, or was mended.
_PASSING = ("deadlock", "timeout-risk", "long-hold", "long-wait")
# Of one lock one of these is told: it takes the place of what was told of it before.
_INSTEAD = ("timeout-risk", "long-hold", "long-wait", "inherited-hold")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The last snapshot, with all that was found, and how often was looked."""

    snapshot: Snapshot
    looks: int


class Doctor:
    """Looks at one server again and again and keeps what passes by. Of traced locks it follows the events."""

    def __init__(self, server: Server, limits: Limits, *, stacks: bool = True) -> None:
        self._observer = Observer(server, telling=Follower(), limits=limits)
        self._limits = limits
        self._stacks = stacks
        self._seen: dict[Key, tuple[float, Finding]] = {}
        self._looks = 0

    def close(self) -> None:
        self._observer.close()

    def watch(self, seconds: float = WATCH_S) -> Diagnosis:
        """Looks for so long, a little longer where something is about to be decided, and judges."""
        began = time.monotonic()
        snapshot = self._look()
        while snapshot.alive and self._goes_on(time.monotonic() - began, seconds):
            time.sleep(_PAUSE_S)
            snapshot = self._look()
        return Diagnosis(self._judge(snapshot), self._looks)

    def _goes_on(self, passed_s: float, seconds: float) -> bool:
        return passed_s < seconds or (self._observer.undecided() and passed_s < seconds + _PATIENCE_S)

    def _look(self) -> Snapshot:
        self._looks += 1
        snapshot = self._observer.snapshot()
        passing = [finding for finding in snapshot.findings if finding.code in _PASSING]
        if new := [finding.lock for finding in passing if _key(finding) not in self._seen]:
            snapshot = self._with_stacks(snapshot, new)  # now, for soon it may be over
        for finding in snapshot.findings:
            if finding.code in _PASSING:
                self._seen[_key(finding)] = (snapshot.monotonic_s, self._better(finding))
        return snapshot

    def _better(self, finding: Finding) -> Finding:
        """The one with the stack, which only the first has."""
        before = self._seen.get(_key(finding))
        return before[1] if before and len(before[1].evidence) > len(finding.evidence) else finding

    def _judge(self, snapshot: Snapshot) -> Snapshot:
        server = snapshot.server
        room = snapshot.shared_memory
        doubts: tuple[Problem, ...] = ()
        if snapshot.alive and room is not None:
            found = leaks(server.pid)
            snapshot, doubts = replace(snapshot, shared_memory=replace(room, leaked=found.names)), found.problems
        if snapshot.alive and self._stacks:
            snapshot = self._told(snapshot)
        now = findings(snapshot, self._limits)
        present = {_key(finding) for finding in now}
        return replace(
            snapshot,
            findings=worst_first((*now, *passed(self._seen, snapshot, present))),
            problems=(*snapshot.problems, *unknown_timeout(server), *doubts),
        )

    def _with_stacks(self, snapshot: Snapshot, new: Iterable[SemId | None]) -> Snapshot:
        locks = [lock for lock in new if lock is not None]
        if not self._stacks or not locks:
            return snapshot
        told = self._told(snapshot, locks)
        return replace(told, findings=findings(told, self._limits))

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
            "so whom gunicorn is about to kill, or has killed, is not said",
        )


def passed(
    seen: Mapping[Key, tuple[float, Finding]], snapshot: Snapshot, present: Collection[Key]
) -> Iterator[Finding]:
    """What was `seen` at some time and is not `present` any more."""
    living = {process.pid for process in snapshot.processes}
    worse = {lock.id for lock in snapshot.locks if lock.state == "orphaned" or lock.barred} | deadlocked(snapshot)
    instead = {lock for code, lock in present if code in _INSTEAD}
    for key, (seen_s, finding) in seen.items():
        if finding.code != "deadlock" and (finding.lock in worse or key[1] in instead):
            continue  # it is not over: what has become of it is another finding's
        if finding.code == "deadlock" and finding.severity == "warning":
            continue  # it was a gate, and was opened
        if finding.code == "deadlock" and living.issuperset(finding.pids):
            finding = replace(finding, severity="warning")  # they went on: somebody outside it let them
        if key not in present:
            yield gone_by(finding, snapshot.monotonic_s - seen_s)


def _key(finding: Finding) -> Key:
    return finding.code, str(finding.lock or finding.name)
