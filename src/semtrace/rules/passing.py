"""Report findings of the time in which a server was watched that are over now."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace

from semtrace.model import CODES, Finding, FindingCode, ProcessId, Snapshot, ThreadRef, Wait
from semtrace.rules import gone_by
from semtrace.rules.knots import explained

# One of these explains a thread that is stuck.
_BLOCKED = (FindingCode.STUCK, FindingCode.DEADLOCK, FindingCode.WORKER_DIED)

# What passed by: when it was last seen, on the clock of the snapshots, and how.
Seen = Mapping[Hashable, tuple[float, Finding]]


def passed(seen: Seen, snapshot: Snapshot) -> Iterator[Finding]:
    """Yield what was `seen` at some time and is not among the snapshot's findings any more."""
    living = {process.pid for process in snapshot.processes}
    worse = {lock.id for lock in snapshot.locks if lock.state == "orphaned" or lock.proof_needs_rights} | explained(
        snapshot
    )
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
