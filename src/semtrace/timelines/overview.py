"""A whole recording as one row of cells: how many threads waited, where findings began, and who died. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from semtrace.lazydata import dataclass
from semtrace.model import Severity


class Cell(NamedTuple):
    """The most waiters of this time; None if no snapshot is of it. `severity` is that of the worst finding that was
    there, `begins` is True if it was not there in the cell before.
    """

    waiters: int | None = None
    severity: Severity | None = None
    begins: bool = False
    died: bool = False


@dataclass(frozen=True)
class Seen:
    """Numbers of one snapshot: its time in seconds since the epoch, its waiters, and its errors and warnings."""

    at: float
    waiters: int
    findings: frozenset[tuple[Severity, Hashable]] = frozenset()


def cells(
    seen: Sequence[Seen], deaths: Sequence[float], span: tuple[float, float], count: int, reach_s: float
) -> list[Cell]:
    """Return so many cells. A snapshot counts until the next one, but for no longer than `reach_s`."""
    began, ended = span
    if count < 1:
        return []
    cell_s = max((ended - began) / count, 1e-9)

    def place(at: float) -> int:
        return min(max(int((at - began) / cell_s), 0), count - 1)

    found = [Cell()] * count
    before: frozenset[tuple[Severity, Hashable]] = frozenset()
    for number, each in enumerate(seen):
        until = seen[number + 1].at if number + 1 < len(seen) else ended
        until = min(until, each.at + reach_s)
        new = each.findings - before
        before = each.findings
        first = place(each.at)
        for at in range(first, max(place(until), first) + 1):
            found[at] = _joined(found[at], each, new if at == first else frozenset())
    for at in map(place, deaths):
        found[at] = found[at]._replace(died=True)
    return found


def _joined(cell: Cell, seen: Seen, new: frozenset[tuple[Severity, Hashable]]) -> Cell:
    waiters = max(cell.waiters or 0, seen.waiters)
    begins = _worst(new)
    if begins is not None and not (cell.begins and cell.severity == "error"):
        return Cell(waiters, begins, True, cell.died)
    if cell.begins:
        return cell._replace(waiters=waiters)
    worst = "error" if cell.severity == "error" else _worst(seen.findings) or cell.severity
    return Cell(waiters, worst, False, cell.died)


def _worst(findings: frozenset[tuple[Severity, Hashable]]) -> Severity | None:
    severities = {severity for severity, _ in findings}
    return "error" if "error" in severities else "warning" if "warning" in severities else None
