"""Compare a lock of a snapshot with the truth. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from semtrace.model import Finding, Holder, Lock
from semtrace.present.findings import title
from tests.chaos.truth import Truth

FALSE_HOLDER, FALSE_FREE, FALSE_ORPHAN = "false holder", "false free", "false orphan"
FALSE_ERROR, HELD_BY_NOBODY, MISSED_HOLDER, DROPPED = "false error", "held by nobody", "missed holder", "dropped lock"
QUALIFIED = "qualified holder"
WRONG = (FALSE_HOLDER, FALSE_FREE, FALSE_ORPHAN, FALSE_ERROR, HELD_BY_NOBODY, MISSED_HOLDER, DROPPED)

_TAKEN = ("held", "contended", "exhausted")


@dataclass(frozen=True)
class Wrong:
    """A statement of a snapshot that the journal contradicts; `qualified` ones were not stated as certain."""

    what: str
    detail: str


def judge(truth: Truth, lock: Lock, findings: Iterable[Finding] = ()) -> list[Wrong]:
    """Return all that is wrong with it, also with reservations."""
    found = _holders(truth, lock) or _state(truth, lock)
    found += (
        Wrong(FALSE_ERROR, f"{finding.code}: {title(finding)}")
        for finding in findings
        if finding.severity == "error" and finding.lock == lock.id and not _justified(truth, finding)
    )
    return found


def judge_dropped(lock: Lock) -> list[Wrong]:
    """Judge a lock that does not exist any more: it cannot be held, nor orphaned."""
    if lock.state in ("free", "unknown") and not lock.holders:
        return []
    return [Wrong(DROPPED, f"{lock.state}, held by {_pids(lock.holders)}")]


def _holders(truth: Truth, lock: Lock) -> list[Wrong]:
    found = []
    for holder in lock.holders:
        if tuple(holder.process) not in truth.holders:
            what = QUALIFIED if is_qualified(lock, holder) else FALSE_HOLDER
            found.append(Wrong(what, f"PID {holder.pid} does not hold it; {_truly(truth)} do"))
    return found


def is_qualified(lock: Lock, holder: Holder) -> bool:
    """Return True if the snapshot itself says that it may not hold."""
    return not getattr(holder, "certain", True) or "inherit" in (lock.reason or "")


def _state(truth: Truth, lock: Lock) -> list[Wrong]:
    if lock.state == "free":
        gone = truth.dead and not truth.entry.open_ended
        return [Wrong(FALSE_FREE, f"{_truly(truth)}, {truth.dead} by the dead")] if truth.holders or gone else []
    if lock.state == "orphaned":
        wrong = truth.holders or truth.dead < truth.entry.units
        return [Wrong(FALSE_ORPHAN, f"{_truly(truth)} hold it, {truth.dead} by the dead")] if wrong else []
    if lock.state in _TAKEN:
        return _taken(truth, lock)
    return []


def _taken(truth: Truth, lock: Lock) -> list[Wrong]:
    found = []
    lost = lock.lost
    if lost and lost.proved and lost.units > truth.dead:
        found.append(Wrong(FALSE_ORPHAN, f"{lost.units} units proved lost, truly {truth.dead}"))
    if not lock.holders and truth.holders:
        found.append(Wrong(HELD_BY_NOBODY, f"{lock.state}, but {_truly(truth)} hold it"))
    elif not lock.holders and not truth.dead and not truth.entry.open_ended:
        found.append(Wrong(HELD_BY_NOBODY, f"{lock.state}, but it is free"))
    elif (missed := truth.holders.keys() - {tuple(h.process) for h in lock.holders}) and not lock.reason:
        found.append(Wrong(MISSED_HOLDER, f"PID {' '.join(str(pid) for pid, _ in missed)} holds it too"))
    return found


def _justified(truth: Truth, finding: Finding) -> bool:
    """Return True if dead processes hold units of it, or if all its holders wait for it."""
    return truth.dead > 0 or (bool(truth.holders) and truth.holders.keys() <= truth.acting)


def _truly(truth: Truth) -> str:
    if not truth.holders:
        return "nobody"
    return "PID " + " ".join(f"{pid} ({units})" for (pid, _), units in truth.holders.items())


def _pids(holders: Iterable[Holder]) -> str:
    return " ".join(f"PID {holder.pid}" for holder in holders) or "nobody"


def kind_of_reason(reason: str | None) -> str:
    """The reason without its numbers: what can be counted."""
    return re.sub(r"\d[\d.,]*( \d+)*( and \d+ more)?", "N", reason or "no reason")
