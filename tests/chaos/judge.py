"""Compare a lock of a snapshot with the truth. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from semtrace.model import Finding, Holder, Lock
from semtrace.present.findings import title
from tests.chaos.truth import NO_WAITS, Truth, Waits, Who

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


def judge(truth: Truth, lock: Lock, findings: Iterable[Finding] = (), waits: Waits = NO_WAITS) -> list[Wrong]:
    """Return all that is wrong with it, also with reservations. `waits` says what findings of several locks need."""
    found = _holders(truth, lock) or _state(truth, lock)
    found += (
        Wrong(FALSE_ERROR, f"{finding.code}: {title(finding)}")
        for finding in findings
        if finding.severity == "error" and finding.lock == lock.id and not _justified(truth, finding, waits)
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


def _justified(truth: Truth, finding: Finding, waits: Waits) -> bool:
    """Return True if dead processes hold units of each of its locks, or if nobody who holds one can go on. What the
    journal does not say is not counted against it.
    """
    mine = truth.entry.inode
    waits = replace(waits, truths={**waits.truths, mine: truth})
    named = {mine, *(each.id.inode for each in finding.locks if each.id is not None)}
    by_itself = truth.dead > 0 or (bool(truth.holders) and truth.holders.keys() <= truth.acting)
    return all((inode == mine and by_itself) or is_stuck(inode, waits) is not False for inode in named)


def is_stuck(inode: int, waits: Waits, behind: frozenset[int] = frozenset()) -> bool | None:
    """Return True if the dead hold units of this lock, or if each thread that holds it is stopped or waits for a lock
    that is stuck itself. A ring of those is stuck too. None if the journal does not say. `behind` are locks that were
    followed to this one.
    """
    if inode in behind:
        return True
    truth = waits.truths.get(inode)
    if truth is None:
        return None
    if truth.dead or truth.living < truth.entry.units:
        return truth.dead > 0
    threads = {process: [each for each in truth.threads if each[:2] == process] for process in truth.holders}
    if not all(threads.values()):
        return False
    found = [_cannot_go_on(each, waits, behind | {inode}) for each in truth.threads]
    return False if False in found else None if None in found else True


def _cannot_go_on(thread: Who, waits: Waits, behind: frozenset[int]) -> bool | None:
    if (thread.pid, thread.start_ticks) in waits.stopped:
        return True
    wanted = waits.wanted.get(thread)
    return False if wanted is None else is_stuck(wanted, waits, behind)


def _truly(truth: Truth) -> str:
    if not truth.holders:
        return "nobody"
    return "PID " + " ".join(f"{pid} ({units})" for (pid, _), units in truth.holders.items())


def _pids(holders: Iterable[Holder]) -> str:
    return " ".join(f"PID {holder.pid}" for holder in holders) or "nobody"


def kind_of_reason(reason: str | None) -> str:
    """The reason without its numbers: what can be counted."""
    return re.sub(r"\d[\d.,]*( \d+)*( and \d+ more)?", "N", reason or "no reason")
