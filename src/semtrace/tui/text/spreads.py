"""Histogram of waits and holds, as bars: one line for each span of time that any of them fell into. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from semtrace.model import Durations, Statistics
from semtrace.text import exact
from semtrace.tui.text.entry import Entry

BAR_WIDTH = 16
EIGHTHS = " ▏▎▍▌▋▊▉█"


def spread_entries(statistics: Statistics) -> Iterator[Entry]:
    """Waits at the left, holds at the right, on the same scale of time."""
    waits, holds = dict(statistics.wait.spread), dict(statistics.hold.spread)
    bounds = sorted({*waits, *holds})
    if not bounds:
        return
    yield Entry("how long", f"{'':>9}  {_headed('waits', statistics.wait)}  {_headed('holds', statistics.hold)}", "dim")
    for bound in bounds:
        left = _bar(waits.get(bound, 0), waits.values())
        right = _bar(holds.get(bound, 0), holds.values())
        yield Entry("", f"{'< ' + exact(bound):>9}  {left}  {right}")


def _headed(word: str, durations: Durations) -> str:
    """Fewer may have been watched than there were."""
    seen = sum(count for _, count in durations.spread)
    return f"{f'{seen} {word} watched':<{BAR_WIDTH + 9}}"


def _bar(count: int, every: Iterable[int]) -> str:
    most = max(every, default=0)
    length = round(8 * BAR_WIDTH * count / most) if most else 0
    whole, part = divmod(max(length, 1 if count else 0), 8)
    bar = "█" * whole + (EIGHTHS[part] if part else "")
    return f"{bar:<{BAR_WIDTH}} {count or '':<8}"
