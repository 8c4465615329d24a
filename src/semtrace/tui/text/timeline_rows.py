"""The lines of the timeline: rows of cells, axis and legend. Pure.

Solid signs are exact spans from events, dots are events counted together, strokes are spans that samples saw.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import groupby, repeat
from typing import NamedTuple

from rich.cells import cell_len

from semtrace.model import ProcessId, SemId, Snapshot
from semtrace.text import age, clean, exact
from semtrace.timelines.raster import IDLE, UNKNOWN, By, Cell, Cover
from semtrace.timelines.timeline import Life, Timeline
from semtrace.tui.text.line import ELLIPSIS, Item, Line, Span, fill, spread, tail_of
from semtrace.tui.text.signs import ENDED, PAUSED, WARNING
from semtrace.tui.text.timeline_readout import clock
from semtrace.tui.text.timeline_readout import readout as readout


class Signs(NamedTuple):
    """Signs of a cell whose spans are known one by one, counted together, or seen in samples; and the word for it."""

    exact: str
    counted: str
    seen: str
    style: str
    word: str
    meaning: str


SIGNS: dict[Cover, Signs] = {
    "held": Signs("█", "⡇", "━", "held", "held", "held, and nobody waited"),
    "contended": Signs("▓", "⣿", "╪", "contended", "others wait", "held while others waited for it"),
    "waiting": Signs(
        "░", "⠶", "┄", "waiting", "waits", "kept from its work: waited for a lock, a queue, a file, an end"
    ),
    "orphaned": Signs("✖", "✖", "✖", "bad", "orphaned", "locked, and no living process held it"),
    "idle": Signs("·", "·", "·", "dim", "idle", "neither held nor waited"),
    "began": Signs("├", "├", "├", "dim", "began", "the process began"),
    "ended": Signs("╌", "╌", "╌", "dim", "ended", "the process had ended"),
    "unknown": Signs(" ", " ", " ", "", "not seen", "no sample was taken, or the process was not there yet"),
}
BOTH = Signs("▞", "⢕", "╬", "", "both", "held and waited, in turn or by several threads")
SHARES = "▁▃▅█"
COUNTED = "⡀⡄⡆⡇"
WORST: tuple[Cover, ...] = ("orphaned", "waiting", "contended", "held")

STRIP = " 60s "
LEAST_LABEL = 12
MOST_LABEL = 40
LEAST_READOUT = 3
STEPS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)


class TimelineRow(NamedTuple):
    id: Hashable
    label: str
    ended: float | None = None  # when it was last there
    leads: bool = False  # it neither holds nor waits as a rule

    @property
    def gone(self) -> bool:
        return self.ended is not None


class DrawnRow(NamedTuple):
    """The line of a row, and what it is made of."""

    made_of: tuple[object, ...]
    covers: list[Cell]
    distinct: frozenset[Cell]
    line: Line


class Now(NamedTuple):
    """The time that is shown: of the picture, and whether it goes on."""

    at_s: float
    taken_at: float
    goes_on: bool = True
    word: str = "now"


def now_of(snapshot: Snapshot, paused: bool) -> Now:
    at = clock(snapshot.monotonic_s, snapshot.monotonic_s, snapshot.taken_at)[:8]
    word = f"{ENDED} ended {at}" if not snapshot.alive else f"{PAUSED} {at}" if paused else "now"
    return Now(snapshot.monotonic_s, snapshot.taken_at, snapshot.alive and not paused, word)


def label_width(width: int, rows: Iterable[TimelineRow]) -> int:
    """The whole label where it leaves most of the width to the cells."""
    wanted = max((cell_len(row.label) + 1 for row in rows), default=0)
    return max(LEAST_LABEL, min(wanted, MOST_LABEL, width * 3 // 8))


def labels(timeline: Timeline, by: By) -> list[TimelineRow]:
    """The rows that there are, in their natural order: the living first, of the dead the last one to go."""
    if by == "lock":
        return [
            TimelineRow(lock, clean(name)) for lock, name in sorted(timeline.names.items(), key=lambda item: item[1])
        ]
    lives = sorted(timeline.lives.values(), key=_natural)
    return [
        TimelineRow(
            life.process, f"{life.process.pid} {life.role}", life.end if life.ended else None, life.role == "master"
        )
        for life in lives
    ]


def arranged(rows: Sequence[TimelineRow], order: Sequence[Hashable]) -> list[TimelineRow]:
    """Return the rows in the order that they had: new ones come after them, ended ones after the living."""
    places = {row: place for place, row in enumerate(order)}
    return sorted(rows, key=lambda row: (1, 0) if row.gone else (0, places.get(row.id, len(places))))


def in_window(rows: Sequence[TimelineRow], from_s: float, kept: Hashable) -> list[TimelineRow]:
    """Return the rows without those that had ended before it begins, except the one that is being read."""
    return [row for row in rows if row.ended is None or row.ended >= from_s or row.id == kept]


def with_unseen(cells: list[Cell], longest: int) -> list[Cell]:
    """Mark short idle gaps between two samples as unknown: a thread that waits, then holds, was hardly idle between.

    At most `longest` cells are such a gap.
    """
    place, seen = 0, False
    for cell, run in groupby(tuple(cells)):
        end = place + len(list(run))
        idle = cell is IDLE
        if idle and seen and end <= place + longest and end < len(cells) and _inspected(cells[end]):
            cells[place:end] = [UNKNOWN] * (end - place)
        place, seen = end, not idle and _inspected(cell)
    return cells


def _inspected(cell: Cell) -> bool:
    return not cell.exact and cell.cover in WORST


def chart_height(living: int, gone: int, total: int) -> int:
    """Return the height of the rows with the axis. The rest is for the readout: it always has some lines, and it comes
    before the rows of dead processes.
    """
    some, more = (max(LEAST_READOUT, total // part) for part in (4, 3))
    return max(min(living + gone + 1, total - more), min(living + 1, total - some), 2)


def row_line(
    label: str,
    cells: Sequence[Cell],
    width: int,
    cursor: int | None,
    chosen: bool,
    style: str = "",
    ages: Sequence[str] = (),
) -> Line:
    """`cursor` is the cell that it is on, None where it is not; the other rows only hint at it. A row that a finding is
    about has its style, and its sign at the very left. `ages` are the styles of cells with an old hold.
    """
    mark = "cursor" if chosen else "cursor.blur"
    flagged = style in ("bad", "warning")
    look = style if flagged or not chosen else "strong"
    spans = [Span(WARNING, style) if flagged else Span(" ")]
    spans += fill((Span(_clipped(label, width - 1), look),), width - 1)
    spans.append(Span(" "))
    if cursor is None or not 0 <= cursor < len(cells):
        return tuple(_joined([*spans, *_drawn(cells, ages)]))
    (sign, look), after = next(_drawn(cells[cursor : cursor + 1], ages[cursor:])), cursor + 1
    under_it = Span(sign, f"{look} {mark}")
    before = _drawn(cells[:cursor], ages[:cursor])
    return tuple(_joined([*spans, *before, under_it, *_drawn(cells[after:], ages[after:])]))


def _drawn(cells: Sequence[Cell], ages: Sequence[str] = ()) -> Iterator[Span]:
    """Yield a span for each run of equal cells. The colour of an age takes the place of that of a hold, of no other."""
    for (cell, old), run in groupby(zip(cells, ages or repeat(""), strict=False)):
        sign, look = sign_of(cell)
        yield Span(sign * len(list(run)), old if old and look == SIGNS["held"].style else look)


def sign_of(cell: Cell) -> tuple[str, str]:
    own = SIGNS[cell.cover]
    signs = BOTH if cell.both else own
    if not cell.exact:
        return signs.seen, own.style
    if signs is SIGNS["held"]:
        levels = COUNTED if cell.counted else SHARES
        return levels[min(int(cell.held * len(levels)), len(levels) - 1)], own.style
    return signs.counted if cell.counted else signs.exact, own.style


def worst(cells: Sequence[Cell]) -> int:
    """Return the rank of the worst cell: 0 is the worst."""
    covers = {cell.cover for cell in cells}
    return next((place for place, cover in enumerate(WORST) if cover in covers), len(WORST))


def axis_line(first: int, count: int, cell_s: float, now: Now, follows: bool, indent: int) -> Line:
    """Ticks at round times: while it goes on with the time, seconds before now; else the time of the clock."""
    text, ago = " " * count, follows and now.goes_on
    step = next((each for each in STEPS_S if each >= cell_s * (len(_tick(ago, each, 0.0, now)) + 2)), STEPS_S[-1])
    end = f" {now.word}" if follows else ""
    origin = now.at_s if ago else now.at_s - now.taken_at  # when this was a round time
    number = int((first * cell_s - origin) // step)
    while (place := int((origin + number * step) // cell_s) - first) < count:
        tick = _tick(ago, step, origin + number * step, now)
        if 0 <= place <= count - len(tick) - len(end):
            text = text[:place] + tick + text[place + len(tick) :]
        number += 1
    return (Span(" " * (indent + 1)), Span(text[: max(count - len(end), 0)], "dim"), Span(end, "dim"))


def _tick(ago: bool, step: float, at: float, now: Now) -> str:
    """Return a time with enough digits that two ticks differ."""
    digits = 0 if step >= 1 else 1 if step >= 0.1 else 2 if step >= 0.01 else 3
    if ago:
        back = max(now.at_s - at, 0.0)
        return f"╵-{age(back)}" if digits < 2 else f"╵-{back:.{digits}f}s"
    time = clock(at + 0.0005, now.at_s, now.taken_at)  # a round time may lie below itself, by rounding
    return f"╵{time[: 9 + digits] if digits else time[:8]}"


def legend_line(cells: Iterable[Cell], by: By, width: int) -> Line:
    """Return the legend: signs that are in view come first."""
    there = set(cells)
    covers = {cell.cover for cell in there}
    partly = any(cell.cover == "held" and cell.exact and not cell.counted and cell.held < 0.75 for cell in there)
    counted = any(cell.counted and cell.exact for cell in there)
    items = [_explained(SIGNS[cover], 1 if cover in covers else 6) for cover in ("held", "contended", "waiting")]
    if by == "worker":
        items.append(_explained(BOTH, 1 if any(cell.both for cell in there) else 5))
    items += [_explained(SIGNS["orphaned"], 1 if "orphaned" in covers else 9)]
    items += [Item(2 if partly else 10, _words(SHARES[:-1], "part of it", "held"))]
    items += [Item(1 if counted else 13, _words(COUNTED, "counted together", "held"))]
    items += [_explained(SIGNS[cover], 3 if cover in covers else 11) for cover in ("ended", "began")]
    items += [_explained(SIGNS["idle"], 8), Item(4, (Span("solid: exact", "dim"),))]
    items += [Item(12, (Span("strokes: by samples, blank: not seen", "dim"),))]
    return spread(items, (), width)


def sign_entries() -> Iterator[tuple[str, str, str]]:
    """Yield signs, their meaning and their style, for the help."""
    for signs in (*SIGNS.values(), BOTH):
        drawn = "".join(dict.fromkeys((signs.exact, signs.counted, signs.seen)))
        if drawn.strip():
            yield drawn, f"{signs.word}: {signs.meaning}", signs.style
    yield SHARES, "held for so much of the cell's time: from events, each known from when to when", "held"
    yield COUNTED, "so many events that they are counted together: for how much of the time, but not when in it", "held"
    yield "━╪┄╬", "strokes: seen in samples; what is shorter than the interval may be missing", ""


def _explained(signs: Signs, order: int) -> Item:
    drawn = signs.exact if signs.exact == signs.seen else signs.exact + signs.seen
    return Item(order, _words(drawn, signs.word, signs.style))


def _words(drawn: str, word: str, style: str) -> Line:
    return Span(drawn, style), Span(f" {word}", "dim")


def notes(timeline: Timeline, cells: Iterable[Cell], from_s: float, snapshot: Snapshot) -> list[str]:
    """Return notes about what the shown cells cannot show themselves; they begin at `from_s`."""
    found = []
    if any(cell.thinned for cell in cells):
        found.append("shares are estimates: a sample of the events")
    if timeline.since is not None and timeline.since != timeline.first and from_s < timeline.since:
        found.append(f"known from {clock(timeline.since, snapshot.monotonic_s, snapshot.taken_at)[:8]} on")
    return found


def strip_cells(width: int) -> int:
    return width - len(STRIP) - 1


def strip_line(cells: Sequence[Cell], ages: Sequence[str] = ()) -> Line:
    """The whole server in one line, for the overview."""
    return tuple(_joined([Span(STRIP, "dim"), *_drawn(cells, ages)]))


def title_items(
    by: By, window_s: float, cell_s: float, now: Now, shown: tuple[int, int, int], standing: str
) -> list[Item]:
    """`shown` are the first and the last row in view, and how many there are; `standing` is the key that goes on."""
    items = [Item(1, (Span(f"Timeline of the {by}s", "title.focus"),))]
    if shown[0] > 1 or shown[1] < shown[2]:
        items.append(Item(2, (Span(f"{shown[0]}–{shown[1]} of {shown[2]}", "dim"),)))
    items.append(Item(3, (Span(f"{age(window_s)} wide", "dim"),)))
    items.append(Item(5, (Span(f"a cell is {exact(cell_s)}", "dim"),)))
    if not now.goes_on:
        items.append(Item(2, (Span(now.word, "warning"),)))
    if standing:
        goes = "goes back to now" if now.goes_on else "goes to the end"
        items.append(Item(0, (Span(f"it stands still: {standing} {goes}", "warning @now"),)))
    return items


def _natural(life: Life) -> tuple[bool, float, bool, float, ProcessId]:
    return life.ended, -life.end if life.ended else 0.0, life.role != "master", life.start, life.process


def _clipped(label: str, width: int) -> str:
    """Return the end of the label: it matters most in a dotted name."""
    return label if cell_len(label) <= width else ELLIPSIS + tail_of(label, width)


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
