"""The lines of the timeline: cells, axis, legend, and what the cursor reads out. Pure.

Solid signs are what events told exactly, strokes what samples saw.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from datetime import datetime

from semtrace.model import ProcessId, SemId, Snapshot
from semtrace.raster import By, Cell, Cover, Raster
from semtrace.text import age, clean, exact
from semtrace.timeline import Span as Stretch
from semtrace.timeline import Timeline
from semtrace.tui.line import Line, Span, clip_start, fill, width_of

# exact, sampled, and the style: what a cell shows
SIGNS: dict[Cover, tuple[str, str, str]] = {
    "held": ("█", "━", "held"),
    "contended": ("▓", "╪", "contended"),
    "waiting": ("░", "┄", "bad"),
    "orphaned": ("✖", "✖", "bad"),
    "idle": ("·", "·", "dim"),
    "ended": ("╌", "╌", "dim"),
    "unknown": (" ", " ", ""),
}
SHARES = "▁▃▅█"
WORST: tuple[Cover, ...] = ("orphaned", "waiting", "contended", "held")

EXPLAINED = (
    "(solid: exact, strokes: seen by looking, blank: not seen)",
    "(solid: exact, strokes: seen by looking)",
    "solid: exact",
)

STRIP = " 60s "
LEAST_LABEL = 12
MOST_LABEL = 30
MOST_OTHERS = 3
TICK_CELLS = 10
STEPS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)
LEGEND: tuple[tuple[Cover, str], ...] = (
    ("held", "held"),
    ("contended", "others wait"),
    ("waiting", "waits"),
    ("orphaned", "orphaned"),
    ("idle", "idle"),
    ("ended", "ended"),
)


def label_width(width: int) -> int:
    return max(LEAST_LABEL, min(MOST_LABEL, width // 5))


def labels(timeline: Timeline, by: By) -> list[tuple[Hashable, str]]:
    """The rows that there are, in their natural order."""
    if by == "lock":
        return [(lock, clean(name)) for lock, name in sorted(timeline.names.items(), key=lambda item: item[1])]
    lives = sorted(timeline.lives.values(), key=lambda life: (life.role != "master", life.start, life.process))
    return [(life.process, f"{life.process.pid} {life.role}") for life in lives]


def row_line(label: str, cells: Sequence[Cell], width: int, cursor: int | None, chosen: bool) -> Line:
    """`cursor` is the cell that it is on, None where it is not; the other rows only hint at it."""
    mark = "cursor" if chosen else "cursor.blur"
    spans = [Span(" "), *fill((Span(clip_start(label, width - 1), "strong" if chosen else ""),), width - 1)]
    spans.append(Span(" "))
    for place, cell in enumerate(cells):
        sign, style = sign_of(cell)
        spans.append(Span(sign, f"{style} {mark}" if place == cursor else style))
    return tuple(_joined(spans))


def sign_of(cell: Cell) -> tuple[str, str]:
    solid, stroke, style = SIGNS[cell.cover]
    if not cell.exact:
        return stroke, style
    if cell.cover == "held":
        return SHARES[min(int(cell.held * len(SHARES)), len(SHARES) - 1)], style
    return solid, style


def worst(cells: Sequence[Cell]) -> int:
    """By which a row comes earlier: 0 is the worst."""
    covers = {cell.cover for cell in cells}
    return next((place for place, cover in enumerate(WORST) if cover in covers), len(WORST))


def axis_line(first: int, count: int, cell_s: float, now_s: float, taken_at: float, follows: bool, indent: int) -> Line:
    """Ticks at round times: while it follows, seconds before now; else the time of the clock."""
    step = next((each for each in STEPS_S if each >= TICK_CELLS * cell_s), STEPS_S[-1])
    text = " " * count
    origin = now_s if follows else now_s - taken_at  # when this was a round time
    number = int((first * cell_s - origin) // step)
    while (place := int((origin + number * step) // cell_s) - first) < count:
        at = origin + number * step
        said = "╵" + (f"-{age(now_s - at)}" if follows else clock(at, now_s, taken_at)[:8])
        if 0 <= place <= count - len(said) - 4 * follows:
            text = text[:place] + said + text[place + len(said) :]
        number += 1
    text = f"{text[: count - 3]}now" if follows else text
    return (Span(" " * (indent + 1)), Span(text[:count], "dim"))


def legend_line(width: int) -> Line:
    spans = [Span(" ")]
    for cover, word in LEGEND:
        solid, stroke, style = SIGNS[cover]
        spans += [Span(solid if solid == stroke else f"{solid}{stroke}", style), Span(f" {word}  ", "dim")]
    said = next((each for each in EXPLAINED if width_of(spans) + len(each) <= width), "")
    return (*spans, Span(said, "dim"))


def notes(timeline: Timeline, covers: Iterable[Sequence[Cell]], from_s: float, snapshot: Snapshot) -> list[str]:
    """What the cells that are shown cannot say themselves; they begin at `from_s`."""
    said = []
    if any(cell.thinned for cells in covers for cell in cells):
        said.append("shares are estimates: of fast events one in some")
    if timeline.since is not None and timeline.since != timeline.first and from_s < timeline.since:
        said.append(f"known from {clock(timeline.since, snapshot.monotonic_s, snapshot.taken_at)[:8]} on")
    return said


def clock(at_s: float, now_s: float, taken_at: float) -> str:
    """A time of CLOCK_MONOTONIC as the reader's own wall clock has it."""
    return datetime.fromtimestamp(taken_at - now_s + at_s).strftime("%H:%M:%S.%f")[:-3]


def readout(span: Stretch, snapshot: Snapshot, timeline: Timeline, who: bool = True) -> str:
    """One span in words, with or without whose it is."""
    now, taken = snapshot.monotonic_s, snapshot.taken_at
    name = clean(timeline.names.get(span.lock, str(span.lock)))
    whose = f"{_who(span.process, span.tid)} " if who else ""
    at_least = "" if span.exact else "≥"
    length = span.end - span.start
    where = f", {clean(span.site)}" if span.site else ""
    did = {"held": "holds ", "waiting": "waits for ", "orphaned": ""}[span.what] if who else ""
    subject = f"{name} is orphaned" if span.what == "orphaned" else f"{whose}{did}{name}"
    if span.count > 1 or span.longest_s is not None:
        some = f"at least {span.count}" if span.one_in > 1 else str(span.count)
        return (
            f"{subject} {some} times, about {100 * span.share:.0f} % of {length:.3g}s, longest {exact(span.longest_s)}"
            f"{where}"
        )
    ends = f"{clock(span.start, now, taken)} – {clock(span.end, now, taken)}"
    return f"{subject} {at_least}{exact(length) if span.exact else age(length)}  {ends}{where}"


def others(span: Stretch, of_lock: Iterable[Stretch]) -> str:
    """Who was on the other side of it: who held what it waits for, or waited for what it holds."""
    other = {"held": "waiting", "waiting": "held", "orphaned": "waiting"}[span.what]
    pids = sorted({each.process.pid for each in of_lock if each.what == other and each.process and _met(each, span)})
    if not pids:
        return ""
    shown = " ".join(map(str, pids[:MOST_OTHERS])) + (f" +{len(pids) - MOST_OTHERS}" if pids[MOST_OTHERS:] else "")
    return f", held by {shown}" if other == "held" else f", waited for by {shown}"


def _met(one: Stretch, other: Stretch) -> bool:
    return one.start <= other.end and other.start <= one.end and (one.process, one.tid) != (other.process, other.tid)


def strip_cells(width: int) -> int:
    return width - len(STRIP) - 1


def strip_line(cells: Sequence[Cell]) -> Line:
    """The whole server in one line, for the overview."""
    return tuple(_joined([Span(STRIP, "dim"), *(Span(*sign_of(cell)) for cell in cells)]))


def covers(raster: Raster, rows: Sequence[tuple[Hashable, str]], first: int, count: int) -> list[list[Cell]]:
    live = raster.update(first)
    return [raster.cells(row, first, count, live) for row, _ in rows]


def title_of(by: By) -> str:
    return "Timeline of the locks" if by == "lock" else "Timeline of the workers"


def _who(process: ProcessId | None, tid: int | None) -> str:
    if process is None:
        return "nobody"
    return str(process.pid) if tid in (None, process.pid) else f"{process.pid}/{tid}"


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Neighbours of one style as one span."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].style == span.style:
            joined[-1] = Span(joined[-1].text + span.text, span.style)
        else:
            joined.append(span)
    return joined


def subject_of(row: Hashable) -> ProcessId | SemId | None:
    return row if isinstance(row, (ProcessId, SemId)) else None
