"""Readout of the timeline's cursor: who held, who waited, from when to when, at which line. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from semtrace.model import ProcessId, Snapshot, Target
from semtrace.present.waits import target_text
from semtrace.text import age, clean, exact
from semtrace.timelines.raster import By, around, of_row
from semtrace.timelines.spans import Key, Thing, What
from semtrace.timelines.spans import Span as Stretch
from semtrace.timelines.timeline import Timeline
from semtrace.tui.text.line import Line, Span
from semtrace.tui.text.wrapping import wrapped

MOST_OTHERS = 3
MOST_EACH = 2  # Up to so many spans of one thread and lock have a sentence each.
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
    seen: bool = True,
) -> list[Line]:
    """Return the lines about the cell of a row: its own holds and waits, then those of others at the same locks.

    Holders come before waiters, and the longest wait first. `room` is columns and lines. `seen`: there was a sample.
    """
    width, height = room
    found = around(timeline, *times)
    mine = [span for span in found if of_row(span, by, row)]
    of_lock: dict[Thing, list[Stretch]] = {}
    for span in found:
        of_lock.setdefault(span.lock, []).append(span)
    locks = {span.lock for span in mine}
    theirs = [span for span in found if span.lock in locks and not of_row(span, by, row)]
    head = _head(timeline, snapshot, row, times, label, bool(mine), seen)
    lines: list[Line] = [(Span(" "), Span(text, "strong")) for text in wrapped(head, width - 2)]
    groups = [*((each, "") for each in _groups(mine)), *((each, "dim") for each in _groups(theirs))]
    for number, (spans, style) in enumerate(groups):
        opposite = others(spans, of_lock[spans[0].lock])
        words = wrapped(_sentence(spans, snapshot, timeline, opposite), width - 4)
        left = len(groups) - number
        if len(lines) + len(words) + (left > 1) > height:
            lines.append((Span(f" and {left} more", "dim"),))
            break
        lines += [(Span("   " if place else " "), Span(text, style)) for place, text in enumerate(words)]
    return lines[:height]


def _groups(spans: Iterable[Stretch]) -> list[list[Stretch]]:
    """Return groups of spans: many of one thread and lock are one group. Holders come first, then the longest spans."""
    by_key: dict[Key, list[Stretch]] = {}
    for span in spans:
        by_key.setdefault(span.key, []).append(span)
    groups: list[list[Stretch]] = []
    for each in by_key.values():
        groups += [each] if len(each) > MOST_EACH else [[span] for span in each]
    return sorted(groups, key=lambda group: (FIRST[group[0].what], group[0].start - group[0].end))


def _sentence(spans: Sequence[Stretch], snapshot: Snapshot, timeline: Timeline, opposite: str) -> str:
    if len(spans) == 1:
        return readout(spans[0], snapshot, timeline, opposite=opposite)
    longest = max(spans, key=lambda span: span.end - span.start if span.longest_s is None else span.longest_s)
    whole = replace(longest, count=sum(span.count for span in spans), one_in=max(span.one_in for span in spans))
    took = sum((span.end - span.start) * span.share for span in spans)
    length = longest.end - longest.start if longest.longest_s is None else longest.longest_s
    about = "" if all(span.exact and span.one_in == 1 for span in spans) else "about "
    most = f"the longest {exact(length)} {_ends(longest, snapshot, timeline)}{_where(longest)}"
    return f"{_subject(longest, timeline)} {_times(whole)}, {about}{exact(took)} in all{opposite}, {most}"


def readout(
    span: Stretch, snapshot: Snapshot, timeline: Timeline, who: bool = True, opposite: str = "", what: bool = True
) -> str:
    """Return one span in words, with or without its thread and its lock. `opposite` names the other side's threads."""
    subject = _subject(span, timeline, who) if what else _who(span.process, span.tid)
    ends, where = _ends(span, snapshot, timeline), _where(span)
    length = span.end - span.start
    if span.counted:
        share = f"about {100 * span.share:.0f} % of {ends}"
        return f"{subject} {_times(span)}{opposite}, {share}, longest {exact(span.longest_s)}{where}"
    took = exact(length) if span.exact else f"≥{age(length)}" if length else "seen once"
    return f"{subject} {took}{opposite}  {ends}{where}"


def _subject(span: Stretch, timeline: Timeline, who: bool = True) -> str:
    thing = span.lock
    name = target_text(thing) if isinstance(thing, Target) else clean(timeline.names.get(thing, str(thing)))
    if span.what == "orphaned":
        return f"{name} is orphaned"
    return f"{_who(span.process, span.tid)} {'holds' if span.what == 'held' else 'waits for'} {name}" if who else name


def _ends(span: Stretch, snapshot: Snapshot, timeline: Timeline) -> str:
    """Return begin and end, without a blank so that they stay in one line; only the begin of what goes on."""
    now, taken = snapshot.monotonic_s, snapshot.taken_at
    if span.end == timeline.last and not span.counted:
        return f"since {clock(span.start, now, taken)}"
    return f"{clock(span.start, now, taken)}–{clock(span.end, now, taken)}"


def _where(span: Stretch) -> str:
    return f", {_short(clean(span.site))}" if span.site else ""


def others(spans: Sequence[Stretch], of_lock: Iterable[Stretch]) -> str:
    """Name the other side of one thread's spans: holders of what it waits for, or waiters for what it holds."""
    other = {"held": "waiting", "waiting": "held", "orphaned": "waiting"}[spans[0].what]
    mine = sorted(spans, key=lambda span: span.start)  # of one thread: none reaches beyond the next
    starts = [span.start for span in mine]
    found: set[tuple[ProcessId | None, int | None]] = {(spans[0].process, spans[0].tid)}
    for each in of_lock:
        who = each.process, each.tid
        if each.what == other and who not in found:
            place = bisect_right(starts, each.end) - 1
            if place >= 0 and mine[place].end >= each.start:
                found.add(who)
    them = [_who(*who) for who in found if who[0] is not None and who != (spans[0].process, spans[0].tid)]
    if not them:
        return ""
    shown = " ".join(sorted(them)[:MOST_OTHERS]) + (f" +{len(them) - MOST_OTHERS}" if len(them) > MOST_OTHERS else "")
    return f", held by {shown}" if other == "held" else f", waited for by {shown}"


def _head(
    timeline: Timeline, snapshot: Snapshot, row: Hashable, times: tuple[float, float], label: str, did: bool, seen: bool
) -> str:
    now, taken = snapshot.monotonic_s, snapshot.taken_at
    events = list(_life(timeline, snapshot, row, times))
    if not did and not events:
        events = ["nothing" if seen else "not seen"]
    cell = f"{clock(times[0], now, taken)}–{clock(times[1], now, taken)}"
    return f"{cell}  {label}{': ' if label and events else ''}{', '.join(events)}"


def _life(timeline: Timeline, snapshot: Snapshot, row: Hashable, times: tuple[float, float]) -> Iterator[str]:
    """Yield that a process began or ended in that time."""
    life = timeline.lives.get(row) if isinstance(row, ProcessId) else None
    if life is None:
        return
    now, taken = snapshot.monotonic_s, snapshot.taken_at
    if life.start >= times[0]:
        yield f"began {clock(life.start, now, taken)}"
    if life.ended and life.end < times[1]:
        yield f"ended {clock(life.end, now, taken)[:8]}"


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
