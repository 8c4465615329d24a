"""Chrome's trace format, as speedscope, Firefox Profiler and Perfetto read it: one object of JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from semtrace.export.owners import Owners, label, thread_of
from semtrace.export.story import Story, identity
from semtrace.present.findings import title
from semtrace.text import clean
from semtrace.timelines.spans import Thing


def chrome_lines(story: Story) -> Iterator[str]:
    """Yield the lines of the JSON: an event each. Slices of one track must nest, so each thread has a track for each
    lock. Times are microseconds since the first snapshot.
    """
    events = _events(story)
    yield '{"displayTimeUnit": "ms", "traceEvents": ['
    before = None
    for event in events:
        if before is not None:
            yield f"{before},"
        before = json.dumps(event)
    if before is not None:
        yield before
    yield "]}"


def _events(story: Story) -> Iterator[dict[str, Any]]:
    server, owners, tracks = story.last.server.pid, Owners(story.spans), _Tracks(story)
    yield {"ph": "M", "name": "process_name", "pid": server, "args": {"name": clean(story.last.server.title)}}
    for span in story.spans:
        track, new = tracks.of(thread_of(span), span.lock)
        yield from new
        slice_ = {"ph": "X", "cat": span.what, "name": label(story, span, owners), "pid": server, "tid": track}
        when = {"ts": _us(story, span.start), "dur": round((span.end - span.start) * 1e6, 3)}
        yield {**slice_, **when, "args": {"lock": identity(span.lock), "exact": span.exact, "site": span.site}}
    for number, (one, other) in enumerate(owners.successors()):
        flow = {"cat": "released", "name": "released", "id": number, "pid": server}
        yield {**flow, "ph": "s", "tid": tracks.of(thread_of(one), one.lock)[0], "ts": _us(story, one.end)}
        where = {"tid": tracks.of(thread_of(other), other.lock)[0], "ts": _us(story, other.start)}
        yield {**flow, "ph": "f", "bp": "e", **where}
    yield from _others(story, server)


def _others(story: Story, server: int) -> Iterator[dict[str, Any]]:
    for lock, counts in story.counts.items():
        for time, count in counts:
            name = f"waiters of {story.name(lock)}"
            yield {"ph": "C", "name": name, "pid": server, "ts": _us(story, time), "args": {"waiters": count}}
    for time, text in story.deaths():
        yield {"ph": "i", "s": "p", "name": text, "pid": server, "ts": _us(story, time)}
    for sighting in story.sightings:
        if sighting.finding.severity != "note":
            name = f"{sighting.finding.severity}: {clean(title(sighting.finding))}"
            yield {"ph": "i", "s": "p", "name": name, "pid": server, "ts": _us(story, sighting.first_s)}


def _us(story: Story, time: float) -> float:
    return round((time - story.first_s) * 1e6, 3)


class _Tracks:
    """A number for each thread and lock, and what says how it is called."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._tracks: dict[tuple[int, Thing], int] = {}

    def of(self, tid: int, lock: Thing) -> tuple[int, list[dict[str, Any]]]:
        known = self._tracks.get((tid, lock))
        if known is not None:
            return known, []
        track = self._tracks[tid, lock] = len(self._tracks) + 1
        name = {"name": f"{tid or 'nobody'} {clean(self._story.name(lock))}"}
        pid = self._story.last.server.pid
        return track, [{"ph": "M", "name": "thread_name", "pid": pid, "tid": track, "args": name}]
