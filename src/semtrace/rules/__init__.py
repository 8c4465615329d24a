"""What is wrong with a server, from a snapshot of it. Each rule is a small pure function; false alarms are worse than
silence, so each says only what the evidence carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from semtrace.model import Finding, Severity, Snapshot
from semtrace.rules.basis import Limits
from semtrace.rules.counts import inherited_hold, over_release
from semtrace.rules.deadlocks import deadlock
from semtrace.rules.holds import keeps_waiting
from semtrace.rules.memory import leaked_name, shm_full
from semtrace.rules.orders import lock_order
from semtrace.rules.orphans import lost_unit, orphaned_lock, seems_orphaned
from semtrace.rules.semaphores import semaphore_wait
from semtrace.rules.sharing import locked_at_fork, private_lock, unshared_lock
from semtrace.text import age

__all__ = ["USUAL", "Limits", "findings", "gone_by", "worst_first"]

Rule = Callable[[Snapshot, Limits], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    orphaned_lock,
    deadlock,
    unshared_lock,
    private_lock,
    seems_orphaned,
    lost_unit,
    inherited_hold,
    locked_at_fork,
    over_release,
    keeps_waiting,
    semaphore_wait,
    lock_order,
    leaked_name,
    shm_full,
)

_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}
USUAL = Limits()


def findings(snapshot: Snapshot, limits: Limits = USUAL) -> tuple[Finding, ...]:
    """All that the rules find, the worst first."""
    return worst_first(finding for rule in RULES for finding in rule(snapshot, limits))


def gone_by(finding: Finding, seen_s: float) -> Finding:
    """It was so, last `seen_s` ago, and is not any more."""
    title = f"{finding.title} (over by now)"
    if finding.code == "timeout-risk":
        title = finding.title.replace("will soon kill", "was about to kill").replace("which holds", "which held")
    return replace(finding, title=title, evidence=(*finding.evidence, f"over by now: last seen {age(seen_s)} ago"))


def worst_first(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Of the same severity in the order of the rules."""
    return tuple(sorted(found, key=lambda finding: _ORDER[finding.severity]))
