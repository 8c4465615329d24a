"""What the timeline's cursor reads out: who held, who waited, from when to when, at which line. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from datetime import datetime

from semtrace.model import ProcessId, Snapshot
from semtrace.raster import By, around, of_row
from semtrace.spans import Span as Stretch
from semtrace.spans import What
from semtrace.text import age, clean, exact
from semtrace.timeline import Timeline
from semtrace.tui.line import Line, Span
from semtrace.tui.wrapping import wrapped

MOST_OTHERS = 3
SITE_WIDTH = 32
FIRST: dict[What, int] = {"orphaned": 0, "held": 1, "waiting": 2}  # who has it is what one wants to know first


def clock(at_s: float, now_s: float, taken_at: float) -> str:
    """A time of CLOCK_MONOTONIC as the reader's own wall clock has it."""
    return datetime.fromtimestamp(taken_at - now_s + at_s).strftime("%H:%M:%S.%f")[:-3]


def tell(
    timeline: Timeline,
    snapshot: Snapshot,
    by: By,
    row: Hashable,
    times: tuple[float, float],
    room: tuple[int, int],
    label: str = "",
) -> list[Line]:
    """The cell of a row in so many columns and lines: what it did itself, then who else was at the same locks."""
    width, height = room
    found = sorted(around(timeline, *times), key=lambda span: FIRST[span.what])
    mine = [span for span in found if of_row(span, by, row)]
    locks = {span.lock for span in mine}
    theirs = [span for span in found if span.lock in locks and not of_row(span, by, row)]
    head = _head(timeline, snapshot, row, times, label, bool(mine))
    lines: list[Line] = [(Span(" "), Span(text, "strong")) for text in wrapped(head, width - 2)]
    told = [*((span, "") for span in mine), *((span, "dim") for span in theirs)]
    for number, (span, style) in enumerate(told):
        met = [each for each in found if each.lock == span.lock]
        words = wrapped(readout(span, snapshot, timeline, beside=others(span, met)), width - 4)
        left = len(told) - number
        if len(lines) + len(words) + (left > 1) > height:
            lines.append((Span(f" and {left} more", "dim"),))
            break
        lines += [(Span("   " if place else " "), Span(text, style)) for place, text in enumerate(words)]
    return lines[:height]


def readout(span: Stretch, snapshot: Snapshot, timeline: Timeline, who: bool = True, beside: str = "") -> str:
    """One span in words, with or without whose it is; `beside` is who was on the other side."""
    name = clean(timeline.names.get(span.lock, str(span.lock)))
    did = {"held": "holds", "waiting": "waits for", "orphaned": ""}[span.what]
    whose = f"{_who(span.process, span.tid)} {did} " if who else ""
    subject = f"{name} is orphaned" if span.what == "orphaned" else f"{whose}{name}"
    now, taken = snapshot.monotonic_s, snapshot.taken_at
    ends = f"{clock(span.start, now, taken)}–{clock(span.end, now, taken)}"  # no blank: it is not torn apart
    where = f", {_short(clean(span.site))}" if span.site else ""
    length = span.end - span.start
    if span.counted:
        share = f"about {100 * span.share:.0f} % of {ends}"
        return f"{subject} {_times(span)}{beside}, {share}, longest {exact(span.longest_s)}{where}"
    return f"{subject} {exact(length) if span.exact else f'≥{age(length)}'}{beside}  {ends}{where}"


def others(span: Stretch, of_lock: Iterable[Stretch]) -> str:
    """Who was on the other side of it: who held what it waits for, or waited for what it holds."""
    other = {"held": "waiting", "waiting": "held", "orphaned": "waiting"}[span.what]
    them = {
        _who(each.process, each.tid) for each in of_lock if each.what == other and each.process and _met(each, span)
    }
    if not them:
        return ""
    shown = " ".join(sorted(them)[:MOST_OTHERS]) + (f" +{len(them) - MOST_OTHERS}" if len(them) > MOST_OTHERS else "")
    return f", held by {shown}" if other == "held" else f", waited for by {shown}"


def _head(
    timeline: Timeline, snapshot: Snapshot, row: Hashable, times: tuple[float, float], label: str, did: bool
) -> str:
    now, taken = snapshot.monotonic_s, snapshot.taken_at
    said = list(_life(timeline, snapshot, row, times))
    if not did and not said:
        said = ["nothing" if _seen(timeline, *times) else "not seen"]
    cell = f"{clock(times[0], now, taken)}–{clock(times[1], now, taken)}"
    return f"{cell}  {label}{': ' if label and said else ''}{', '.join(said)}"


def _life(timeline: Timeline, snapshot: Snapshot, row: Hashable, times: tuple[float, float]) -> Iterator[str]:
    """That it was not there yet, or not any longer."""
    life = timeline.lives.get(row) if isinstance(row, ProcessId) else None
    if life is None:
        return
    now, taken = snapshot.monotonic_s, snapshot.taken_at
    if life.start >= times[0]:
        yield f"began {clock(life.start, now, taken)}"
    if life.ended and life.end < times[1]:
        yield f"ended {clock(life.end, now, taken)[:8]}"


def _seen(timeline: Timeline, start: float, end: float) -> bool:
    """Somebody looked at that time."""
    if timeline.since is None or timeline.last is None or end <= timeline.since or start > timeline.last:
        return False
    return not any(before <= start and end <= after for before, after in timeline.gaps)


def _met(one: Stretch, other: Stretch) -> bool:
    return one.start <= other.end and other.start <= one.end and (one.process, one.tid) != (other.process, other.tid)


def _times(span: Stretch) -> str:
    some = "once" if span.count == 1 else f"{span.count} times"
    return f"at least {some}" if span.one_in > 1 else some


def _who(process: ProcessId | None, tid: int | None) -> str:
    if process is None:
        return "nobody"
    return str(process.pid) if tid in (None, process.pid) else f"{process.pid}/{tid}"


def _short(site: str) -> str:
    """The file and its folder: the whole path is in the details."""
    parts: Sequence[str] = site.split("/")
    return site if len(site) <= SITE_WIDTH or len(parts) < 3 else f"…/{'/'.join(parts[-2:])}"
