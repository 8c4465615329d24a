"""Draw attention to rows: the sign and colour of their findings, a place at the top, and the colour of an age. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from semtrace.model import CODES, Finding, Lock, ProcessId, Severity, Snapshot
from semtrace.tui.text.grid import Cell, Row
from semtrace.tui.text.rows import LOCKS, WORKERS
from semtrace.tui.text.signs import WARNING

AGED_S = 10.0
OLD_S = 60.0
STYLES: dict[Severity, str] = {"error": "bad", "warning": "warning"}
_PINS = {"bad": 0, "orphaned": 0, "warning": 1}
_LOCK = {column.title: place for place, column in enumerate(LOCKS)}
_WORKER = {column.title: place for place, column in enumerate(WORKERS)}


def age_style(seconds: float | None) -> str:
    """Return the colour of how long a hold or a wait has lasted: a colour, and no verdict."""
    if seconds is None or seconds < AGED_S:
        return ""
    return "old" if seconds >= OLD_S else "aged"


class Flags:
    """The worst finding of each lock and process, of those that are so now."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._of: dict[Hashable, Severity] = {}
        for finding in snapshot.findings:  # the worst first
            if finding.severity in STYLES and finding.over_s is None and not CODES[finding.code].in_brief:
                for each in _about(finding):
                    self._of.setdefault(each, finding.severity)

    def style(self, row: Hashable) -> str:
        """Return the style of what is wrong with the row's subject, or nothing."""
        severity = self._of.get(row)
        return STYLES[severity] if severity is not None else ""


def _about(finding: Finding) -> Iterator[Hashable]:
    """Yield its locks; its processes only where it is about what they do now."""
    for lock in finding.locks:
        yield lock.id if lock.id is not None else lock.name
    if CODES[finding.code].passes:
        for thread in finding.threads:
            yield thread.process


def lock_attention(rows: Iterable[Row], locks: Iterable[Lock], flags: Flags) -> list[Row]:
    """Return the rows of locks with their signs, ages and pins."""
    of: dict[Hashable, Lock] = {lock.id: lock for lock in locks}
    return [_flagged(_aged_lock(row, of[row.id]), _LOCK["STATE"], flags) for row in rows]


def worker_attention(rows: Iterable[Row], locks: Iterable[Lock], flags: Flags) -> list[Row]:
    """Return the rows of processes likewise."""
    held: dict[ProcessId, float] = {}
    for lock in locks:
        for holder in lock.holders:
            held[holder.process] = max(held.get(holder.process, 0.0), holder.since_s or 0.0)
    return [_flagged(_aged_worker(row, held), _WORKER["STATE"], flags) for row in rows]


def private_attention(rows: Iterable[Row], state: int, flags: Flags) -> list[Row]:
    """Return the rows of private locks with their signs and pins; `state` is the column of their state."""
    return [_flagged(row, state, flags) for row in rows]


def _aged_lock(row: Row, lock: Lock) -> Row:
    if not lock.holders and not lock.waiters:
        return row
    held = age_style(max((holder.since_s or 0.0 for holder in lock.holders), default=None))
    waited = age_style(max((waiter.for_s or 0.0 for waiter in lock.waiters), default=None))
    styles: dict[int, str] = {}
    if held:
        styles |= {_LOCK["FOR"]: held}
        if lock.state == "held":
            styles |= {_LOCK["STATE"]: held, _LOCK["HELD BY"]: held, **_minute(row, len(LOCKS), held)}
    if waited:
        styles |= {_LOCK["WAITED"]: waited}
    return _styled(row, styles)


def _aged_worker(row: Row, held: dict[ProcessId, float]) -> Row:
    style = age_style(held.get(row.id)) if isinstance(row.id, ProcessId) else ""
    holds = row.cells[_WORKER["HOLDS"]]
    if not style or holds.style != "held":
        return row
    return _styled(row, {_WORKER["HOLDS"]: style, **_minute(row, len(WORKERS), style)})


def _minute(row: Row, place: int, style: str) -> dict[int, str]:
    """Return the style for the last minute, if the row has one and nothing in it is worse than a hold."""
    return {place: style} if len(row.cells) > place and row.cells[place].style == "held" else {}


def _flagged(row: Row, state: int, flags: Flags) -> Row:
    """Return the row with the sign before the word of its state, which stays as it is if it is bad already."""
    cell, style = row.cells[state], flags.style(row.id)
    if cell.style in ("bad", "orphaned"):
        return row._replace(pin=0)
    if not style:
        return row
    word = cell.text.split(" ", 1)[-1]
    cells = tuple(
        Cell(f"{WARNING} {word}".rstrip(), style, cell.key) if i == state else each for i, each in enumerate(row.cells)
    )
    return row._replace(cells=cells, pin=_PINS[style])


def _styled(row: Row, styles: dict[int, str]) -> Row:
    """Return the row with these styles, except in cells that mark a lock as bad: those matter more than an age."""
    if not styles:
        return row
    cells = tuple(
        cell._replace(style=styles[i]) if i in styles and cell.style not in ("bad", "orphaned") else cell
        for i, cell in enumerate(row.cells)
    )
    return row._replace(cells=cells)
