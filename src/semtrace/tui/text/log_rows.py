"""The rows and titles of the event log and of a server's output. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable

from semtrace.model import Death, Snapshot, TracedEvent, Tracing
from semtrace.present.deaths import certificate
from semtrace.text import clean, exact
from semtrace.tui.text.grid import Cell, Column, Row
from semtrace.tui.text.line import Item, Span

EVENTS = (
    Column("TIME", 15, 15, 4),
    Column("PID", 6, 15, 1),
    Column("EVENT", 8, 8, 0),
    Column("LOCK", 10, 48, 0, cut="start"),
    Column("WAITED", 7, 7, 2, right=True),
    Column("HELD", 7, 7, 2, right=True),
    Column("LINE", 12, 70, 3, cut="start"),
)
OUTPUT = (Column("LINE", 10, 1000, 0),)

KEPT_LINES = 2000

NOT_TRACED = (
    "No lock of this server is traced: semtrace takes samples of it, and sees no single event.",
    "To trace them: semtrace run -- gunicorn …   (or call semtrace.install() in the server)",
)
_STYLES = {"wait": "waiting", "acquired": "held", "failed": "bad", "released": "dim"}


def event_rows(snapshot: Snapshot) -> list[Row]:
    """Return a row for each event, and for each process of the server that ended, in the order of time."""
    began = snapshot.taken_at - snapshot.monotonic_s
    recent = snapshot.tracing.recent if snapshot.tracing is not None else ()
    timed: list[tuple[float, TracedEvent | Death]] = [(event.t_s, event) for event in recent]
    timed += [(snapshot.monotonic_s - death.ended_s, death) for death in snapshot.deaths]
    timed.sort(key=lambda each: each[0])
    return [
        _death_row(place, what, began + at, snapshot) if isinstance(what, Death) else _event_row(place, what, began)
        for place, (at, what) in enumerate(timed)
    ]


def events_title(tracing: Tracing | None, following: bool) -> list[Item]:
    items = [Item(0, (Span("Events", "title"),))]
    if tracing is None:
        return items
    items.append(Item(0, (Span(f"{tracing.rate:,.0f}/s", "dim"),)))
    if tracing.one_in > 1:
        items.append(Item(0, (Span(f"too many to read: a sample, one in {tracing.one_in}", "warning"),)))
    if tracing.lost:
        items.append(Item(1, (Span(f"{tracing.lost:,} of {tracing.received + tracing.lost:,} lost", "warning"),)))
    if not following:
        items.append(Item(2, (Span("End follows", "dim"),)))
    return items


def output_rows(lines: Iterable[tuple[int, str]]) -> list[Row]:
    return [Row(number, (Cell(clean(line.expandtabs())),), (number,)) for number, line in lines]


def output_title(running: bool, path: str) -> list[Item]:
    ended = "" if running else ", which has ended"
    return [Item(0, (Span("Output", "title"),)), Item(1, (Span(f"of the server{ended}: {path}", "dim"),))]


def _time_cell(at: float) -> Cell:
    return Cell(time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1e6):06d}", "dim", at)


def _death_row(place: int, death: Death, at: float, snapshot: Snapshot) -> Row:
    cells = (
        _time_cell(at),
        Cell(str(death.pid), "", death.pid),
        Cell("died", "bad"),
        Cell(", ".join(clean(each.name) for each in death.held), "strong"),
        Cell(""),
        Cell(""),
        Cell(certificate(death, snapshot)),
    )
    return Row((death.id, "died"), cells, (place,))


def _event_row(place: int, event: TracedEvent, began: float) -> Row:
    at = began + event.t_s
    who = str(event.process.pid) if event.tid in (0, event.process.pid) else f"{event.process.pid}/{event.tid}"
    cells = (
        _time_cell(at),
        Cell(who, "", event.process.pid),
        Cell(event.event, _STYLES.get(event.event, "")),
        Cell(clean(event.name or (str(event.lock) if event.lock else "")), "strong" if event.name else ""),
        Cell(exact(event.wait_s) if event.wait_s else "", "waiting", event.wait_s or 0.0),
        Cell(exact(event.held_s) if event.held_s is not None else "", "", event.held_s or 0.0),
        Cell(clean(event.site or ""), "dim"),
    )
    return Row((event.process, event.sequence), cells, (place,))
