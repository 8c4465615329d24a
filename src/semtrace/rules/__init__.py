"""Find faults of a server in a snapshot of it. Each rule is a small pure function. False alarms are worse than silence,
so each reports only what the evidence proves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from semtrace.lazydata import replace
from semtrace.model import CODES, SEVERITIES, Finding, FindingCode, Snapshot
from semtrace.rules.basis import Limits
from semtrace.rules.counts import inherited_hold, over_release
from semtrace.rules.deadlocks import deadlock
from semtrace.rules.dying import dying_workers
from semtrace.rules.files import file_locks
from semtrace.rules.holds import keeps_waiting
from semtrace.rules.memory import leaked_name, shm_full
from semtrace.rules.orders import lock_order
from semtrace.rules.orphans import lost_unit, orphaned_lock, seems_orphaned
from semtrace.rules.others import long_waits
from semtrace.rules.semaphores import semaphore_wait
from semtrace.rules.sharing import locked_at_fork, private_lock, unshared_lock
from semtrace.rules.stuck import stopped, stuck
from semtrace.rules.tasks import waiting_tasks

__all__ = ["USUAL", "Limits", "findings", "gone_by", "with_findings", "worst_first"]

Rule = Callable[[Snapshot, Limits], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    orphaned_lock,
    deadlock,
    stuck,
    stopped,
    dying_workers,
    unshared_lock,
    private_lock,
    seems_orphaned,
    lost_unit,
    inherited_hold,
    locked_at_fork,
    over_release,
    keeps_waiting,
    file_locks,
    long_waits,
    waiting_tasks,
    semaphore_wait,
    lock_order,
    leaked_name,
    shm_full,
)

USUAL = Limits()

# What may be as the program means it: each process has its own.
_PER_PROCESS = (FindingCode.PRIVATE_LOCK, FindingCode.UNSHARED_LOCK)


def findings(snapshot: Snapshot, limits: Limits = USUAL) -> tuple[Finding, ...]:
    """All that the rules find, the worst first."""
    found = (finding for rule in RULES for finding in rule(snapshot, limits))
    return worst_first(finding for finding in found if not _is_ignored(finding, limits))


def _is_ignored(finding: Finding, limits: Limits) -> bool:
    return finding.code in _PER_PROCESS and finding.name in limits.ignore


def with_findings(snapshot: Snapshot, limits: Limits = USUAL) -> Snapshot:
    """Return the snapshot with what the rules find in it."""
    return replace(snapshot, findings=findings(snapshot, limits))


def gone_by(finding: Finding, seen_s: float) -> Finding:
    """Return it as one that is over, last seen `seen_s` ago."""
    return replace(finding, over_s=seen_s)


def worst_first(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort them by severity, and those of the same severity in the order of the table of codes."""
    return tuple(sorted(found, key=lambda finding: (SEVERITIES.index(finding.severity), _PLACES[finding.code])))


_PLACES = {code: place for place, code in enumerate(CODES)}
