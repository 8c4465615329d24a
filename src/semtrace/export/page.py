"""One page of HTML that needs nothing else: what was found, who held and waited when, statistics, stacks. Pure but for
reading the template.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from semtrace.export.owners import thread_of
from semtrace.export.story import Sighting, Story
from semtrace.model import SEVERITIES, Lock, Process
from semtrace.present.findings import advice, command, evidence, title
from semtrace.present.headline import headline_text
from semtrace.reports.stacks import stack_report
from semtrace.rules.headline import headline
from semtrace.text import age, clean, counted, exact, iso, percent, size
from semtrace.timelines.spans import Span, Thing

# A span takes some 14 bytes: so the page stays below a megabyte, however long the recording is.
MOST_SPANS = 20_000
MOST_LANES = 400
_PARTS = 4096  # of the time, of which spans of one lane are drawn together
_COARSEST = 64

_TEMPLATE = Path(__file__).with_name("page.html")


def page_pieces(story: Story) -> Iterator[bytes]:
    """Yield the page. What the target chose is data: the script shows it as text and nothing else."""
    text = json.dumps(_data(story), separators=(",", ":"))
    # Inside a script element only these could end it (HTML, "Restrictions for contents of script elements").
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    before, after = _TEMPLATE.read_text().split("{{DATA}}")
    yield from (before.encode(), safe.encode(), after.encode())


def _data(story: Story) -> dict[str, Any]:
    last = story.last
    lanes, spans, unit_ms = _lanes(story)
    return {
        "title": f"{clean(last.server.title)} (PID {last.server.pid})",
        "about": f"recorded from {iso(story.first_s + story.offset_s)} for {age(story.last_s - story.first_s)}: "
        f"{counted(story.samples, 'snapshot')}. Verdict and tables are of the last one.",
        "verdict": headline_text(headline(last)),
        "began_ms": (story.first_s + story.offset_s) * 1e3,
        "length_ms": _ms(story, story.last_s),
        "findings": [_finding(story, each) for each in _sorted(story)],
        "lanes": lanes,
        "spans": spans,
        "unit_ms": unit_ms,
        "gaps": [[_ms(story, start), _ms(story, end)] for start, end in story.gaps],
        "marks": _marks(story),
        **_tables(story),
        "stacks": _stacks(story),
    }


def _ms(story: Story, time: float) -> float:
    return round((time - story.first_s) * 1e3, 3)


def _sorted(story: Story) -> list[Sighting]:
    return sorted(story.sightings, key=lambda each: (SEVERITIES.index(each.finding.severity), each.first_s))


def _finding(story: Story, sighting: Sighting) -> dict[str, Any]:
    found = sighting.finding
    return {
        "severity": found.severity,
        "code": str(found.code),
        "title": clean(title(found)),
        "evidence": [clean(line) for line in evidence(found)],
        "advice": clean(advice(found)),
        "command": clean(command(found) or ""),
        "first_ms": _ms(story, sighting.first_s),
        "last_ms": _ms(story, sighting.last_s),
    }


def _marks(story: Story) -> list[dict[str, Any]]:
    marks = [(time, "death", text) for time, text in story.deaths()]
    for each in story.sightings:
        if each.finding.severity != "note":
            marks.append((each.first_s, each.finding.severity, clean(title(each.finding))))
    return [{"ms": _ms(story, time), "severity": severity, "text": text} for time, severity, text in marks]


def _lanes(story: Story) -> tuple[list[dict[str, str]], list[int], float]:
    """Return the lanes, and their spans in four numbers each: lane, start, length, and how many are drawn as one. They
    are in units of so many ms.
    """
    numbers: dict[tuple[str, int, str], int] = {}
    for span in story.spans:
        numbers.setdefault((story.name(span.lock), thread_of(span), span.what), len(numbers))
    order = sorted(numbers, key=lambda key: (key[0], key[2] != "orphaned", key[1], key[2]))[:MOST_LANES]
    places = {key: place for place, key in enumerate(order)}
    lanes = [{"name": clean(f"{name} {tid or ''}"), "what": what} for name, tid, what in order]
    parts = _PARTS
    while True:
        unit_ms = max(_ms(story, story.last_s), 1.0) / parts
        drawn = _drawn(story, places, unit_ms)
        if len(drawn) <= 4 * MOST_SPANS or parts <= _COARSEST:
            return lanes, drawn[: 4 * MOST_SPANS], unit_ms
        parts //= 2


def _drawn(story: Story, places: Mapping[tuple[str, int, str], int], unit_ms: float) -> list[int]:
    newest: dict[int, list[int]] = {}
    found: list[list[int]] = []
    for span in story.spans:
        lane = places.get((story.name(span.lock), thread_of(span), span.what))
        if lane is None:
            continue
        start, end = _units(story, span, unit_ms)
        before = newest.get(lane)
        if before is not None and start <= before[1] + before[2]:
            before[2] = max(before[2], end - before[1])
            before[3] += span.count
        else:
            newest[lane] = [lane, start, end - start, span.count]
            found.append(newest[lane])
    return [number for each in found for number in each]


def _units(story: Story, span: Span, unit_ms: float) -> tuple[int, int]:
    return round(_ms(story, span.start) / unit_ms), round(_ms(story, span.end) / unit_ms)


def _tables(story: Story) -> dict[str, Any]:
    last, lengths = story.last, _lengths(story)
    return {
        "lock_columns": _LOCK_COLUMNS,
        "locks": [_lock(lock, lengths) for lock in last.locks if not lock.signal],
        "process_columns": ["PID", "role", "state", "CPU %", "memory", "threads"],
        "processes": [_process(each) for each in last.processes],
    }


_LOCK_COLUMNS = ("lock", "kind", "state", "held by", "waiting", "acquired", "contended", "p95 wait", "p95 hold")


def _process(each: Process) -> list[object]:
    return [each.pid, each.role, each.state, percent(each.cpu_percent), size(each.rss), each.threads]


Lengths = Mapping[tuple[Thing, str], Sequence[float]]


def _lengths(story: Story) -> Lengths:
    """Return how long the holds and waits of each lock were, as events tell it, in rising order."""
    found: dict[tuple[Thing, str], list[float]] = {}
    for span in story.spans:
        if span.exact:
            found.setdefault((span.lock, span.what), []).append(span.end - span.start)
    return {key: sorted(several) for key, several in found.items()}


def _lock(lock: Lock, lengths: Lengths) -> list[object]:
    """A row of the table. The times are those of the recording's events, else what the server counted."""
    statistics = lock.statistics
    holders = ", ".join(str(holder.pid) for holder in lock.holders)
    share = "" if statistics is None or statistics.contention is None else f"{statistics.contention * 100:.1f} %"
    row: list[object] = [clean(lock.label), lock.kind, lock.state, holders, len(lock.waiters)]
    row += ["" if statistics is None else statistics.acquired, share]
    for what, counted_s in (
        ("waiting", statistics.wait.p95_s if statistics else None),
        ("held", statistics.hold.p95_s if statistics else None),
    ):
        several = lengths.get((lock.id, what), ())
        row.append(exact(several[int(0.95 * len(several))] if several else counted_s))
    return row


def _stacks(story: Story) -> list[dict[str, Any]]:
    lines = [clean(line) for line in stack_report(story.last)]
    return [{"who": "holders and waiters, in the last snapshot", "lines": lines}] if lines else []
