"""Gather a recording once for all exports: holds and waits over time, findings, deaths."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from semtrace.errors import UsageError
from semtrace.lazydata import dataclass
from semtrace.model import Death, Finding, ProcessId, SemId, Snapshot, Target
from semtrace.present.deaths import death_text
from semtrace.present.waits import target_text
from semtrace.record.moments import Moment
from semtrace.record.replay import Replay, values_that_no_server_has
from semtrace.record.tracedevents import traced_batches
from semtrace.timelines.spans import Span, Thing
from semtrace.timelines.timeline import Life, Timeline

# More would not be looked at, and does not fit into memory.
MOST_SPANS = 2_000_000
MOST_COUNTS = 2_000_000
_PART = "give a part of it: --from and --until"


@dataclass(frozen=True)
class Sighting:
    """A finding from its first to its last snapshot, as the last one has it. Times are CLOCK_MONOTONIC in seconds."""

    finding: Finding
    first_s: float
    last_s: float


@dataclass(frozen=True)
class Story:
    """Times are CLOCK_MONOTONIC in seconds; `offset_s` makes them seconds since the epoch. `spans` are sorted by their
    beginnings. `counts` are how many waited for a lock, whenever that changed. `samples` is how many snapshots there
    are. `last` has the findings of its time.
    """

    last: Snapshot
    offset_s: float
    first_s: float
    last_s: float
    samples: int
    spans: Sequence[Span]
    names: Mapping[SemId, str]
    lives: Mapping[ProcessId, Life]
    certificates: Mapping[ProcessId, Death]
    sightings: Sequence[Sighting]
    counts: Mapping[SemId, Sequence[tuple[float, int]]]
    gaps: Sequence[tuple[float, float]]

    def name(self, thing: Thing) -> str:
        """Return what a lock is called, or what else keeps a worker from its work."""
        return target_text(thing) if isinstance(thing, Target) else self.names.get(thing) or str(thing)

    def deaths(self) -> Iterator[tuple[float, str]]:
        """Yield when processes went while others stayed, and how."""
        for life in self.lives.values():
            if life.ended:
                death = self.certificates.get(life.process)
                how = death_text(death.cause, death.exit_code, death.silent_s) if death else "ended"
                yield life.end, f"{life.role} {life.process.pid} {how}"


def identity(thing: Thing) -> str | None:
    """Return the device and inode of a semaphore; what else a worker waits for has none."""
    return None if isinstance(thing, Target) else str(thing)


def gather(replay: Replay, since: Moment | None = None, until: Moment | None = None) -> Story:
    """Read a recording, or a part of it. Raises UsageError if it has too much for one export."""
    gatherer = _Gatherer()
    with values_that_no_server_has(replay.path):
        for snapshot in replay.between(since, until):
            gatherer.add(snapshot)
        for events, _ in traced_batches(replay.recording, since, until):
            gatherer.add_spans(Timeline.spans_of(events))
        return gatherer.story(replay)


class _Gatherer:
    def __init__(self) -> None:
        self._timeline = Timeline()
        self._sampled: list[Span] = []
        self._exact: list[Span] = []
        self._names: dict[SemId, str] = {}
        self._lives: dict[ProcessId, Life] = {}
        self._certificates: dict[ProcessId, Death] = {}
        self._seen: dict[Hashable, Sighting] = {}
        self._counts: dict[SemId, list[tuple[float, int]]] = defaultdict(list)
        self._counted = 0
        self._samples = 0
        self._last: Snapshot | None = None
        self._first_s = 0.0

    def add(self, snapshot: Snapshot) -> None:
        self._first_s = self._first_s or snapshot.monotonic_s
        self._samples += 1
        self._last = snapshot
        self._timeline.add(snapshot)
        self._sampled.extend(self._timeline.closed)
        self._timeline.closed.clear()
        self._names |= {lock.id: lock.name for lock in snapshot.locks if lock.name}
        self._lives |= self._timeline.lives
        for finding in snapshot.findings:
            known = self._seen.get(finding.key)
            first_s = known.first_s if known else snapshot.monotonic_s
            self._seen[finding.key] = Sighting(finding, first_s, snapshot.monotonic_s)
        self._certificates |= {death.id: death for death in snapshot.deaths}
        self._count(snapshot)
        if len(self._sampled) + len(self._exact) > MOST_SPANS or self._counted > MOST_COUNTS:
            raise UsageError("the recording is too long for one export", _PART)

    def add_spans(self, spans: Iterable[Span]) -> None:
        self._exact.extend(spans)
        if len(self._exact) > MOST_SPANS:
            raise UsageError("the recording has too many events for one export", _PART)

    def story(self, replay: Replay) -> Story:
        assert self._last is not None, "there was a snapshot"
        last_s = self._timeline.last or self._first_s
        sampled = [*self._sampled, *self._timeline.open]
        spans = sorted((*self._exact, *_not_among(self._exact, sampled)), key=lambda span: span.start)
        head = replay.recording.head
        return Story(
            last=self._last,
            offset_s=head.began_at - head.began_ns / 1e9,
            first_s=self._first_s,
            last_s=max([last_s, *(span.end for span in self._exact[-1:])]),
            samples=self._samples,
            spans=spans,
            names=self._names,
            lives=self._lives,
            certificates=self._certificates,
            sightings=list(self._seen.values()),
            counts=dict(self._counts),
            gaps=list(self._timeline.gaps),
        )

    def _count(self, snapshot: Snapshot) -> None:
        for lock in snapshot.locks:
            if lock.signal:
                continue
            before = self._counts[lock.id]
            if not before or before[-1][1] != len(lock.waiters):
                before.append((snapshot.monotonic_s, len(lock.waiters)))
                self._counted += 1


def _not_among(exact: Sequence[Span], sampled: Iterable[Span]) -> Iterator[Span]:
    """Yield the sampled spans that no event reports: of locks that are not traced, and what has not ended."""
    ends: dict[object, list[float]] = defaultdict(list)
    starts: dict[object, list[float]] = defaultdict(list)
    for span in sorted(exact, key=lambda span: span.end):
        ends[span.key].append(span.end)
        starts[span.key].append(span.start)
    for span in sampled:
        place = bisect_left(ends[span.key], span.start)
        begins = starts[span.key]
        if place >= len(begins) or begins[place] > span.end:
            yield span
