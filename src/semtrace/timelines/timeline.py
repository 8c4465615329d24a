"""Record holds and waits as spans of time, from the snapshots and the events in them. Pure, and bounded.

A sample shows the state of that moment. Its spans reach from sample to sample, and shorter ones are missing; but a
thread that is known to have slept all along has waited all along. Events are exact. A wait for a signal has no holder,
so it makes a span only if it keeps a worker from its work.

Each span is kept as it was while there is room; the oldest are then counted together. If events come so fast that a
snapshot has only some of them, the short ones are counted from the start: a single one would look like the only one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from semtrace.lazydata import dataclass, replace
from semtrace.model import ProcessId, SemId, Snapshot, TracedEvent, Tracing, Wait
from semtrace.timelines.spans import BUCKET_S, LONGEST_BUCKET_S, Thing, What, bucket_for, count, together
from semtrace.timelines.spans import Key as Key
from semtrace.timelines.spans import Span as Span
from semtrace.waits.workers import serving_waits_by_worker

KEPT_S = 660.0
MOST_SINGLE = 60_000  # of the newest; more than a minute of as many events as a snapshot has
MOST_OLDER = 40_000  # with those some 20 MB
CHUNK = 2000  # so many of the oldest are counted together at once
MOST_NAMES = 10_000
REACH_S = 90.0  # the buckets become longer where they would fill the room before that
GAP_S = 2.0  # so long without a sample, and nothing is known of the time in between
GAP_INTERVALS = 3.0  # where samples are rarer than that, so many intervals
SAME_S = 0.001  # two accounts of one beginning differ by less


@dataclass(frozen=True)
class Life:
    """The life of a process, from its first to its last snapshot; `ended` if it is gone."""

    process: ProcessId
    role: str
    start: float
    end: float
    ended: bool = False


class Timeline:
    """`add` takes every snapshot, in their order. `closed` are the spans that have ended, in the order in which that
    became known. `closed_ever` counts them, also those that are in `older` since, counted together, and those that were
    dropped. All that ended after `since` is there.
    """

    def __init__(self) -> None:
        self.closed: deque[Span] = deque()
        self.older: deque[Span] = deque()
        self.closed_ever = 0
        self.lives: dict[ProcessId, Life] = {}
        self.names: dict[SemId, str] = {}
        self.gaps: deque[tuple[float, float]] = deque(maxlen=1000)
        self.first: float | None = None
        self.last: float | None = None
        self.since: float | None = None
        self.step_s = 0.0  # between the last two samples
        self._unbroken = False  # nothing is known of the time between them, if not
        self._open: dict[Key, Span] = {}
        self._buckets: dict[Key, Span] = {}
        self._just_reported: dict[Key, Span] = {}  # by the events of this snapshot
        self._bucket_s = BUCKET_S
        self._taken: frozenset[tuple[ProcessId, int]] = frozenset()
        self._came: int | None = None  # records until the last sample, also those that no snapshot had
        self._signals: frozenset[SemId] = frozenset()
        self._named: dict[SemId, float] = {}  # when each was last there, as `names` the oldest first
        self._marks: deque[tuple[float, int]] = deque(maxlen=10_000)  # when, and `closed_ever` before that sample

    @property
    def open(self) -> Iterator[Span]:
        """Yield the spans that go on, with those that are being counted together."""
        yield from self._open.values()
        yield from self._buckets.values()

    def ended_after(self, time: float) -> Iterator[Span]:
        """Return ended spans, the latest known first, until none can reach beyond `time`."""
        place = bisect_left(self._marks, (time - LONGEST_BUCKET_S, 0))
        oldest = self._marks[place - 1][1] if place else 0
        return islice(chain(reversed(self.closed), reversed(self.older)), max(self.closed_ever - oldest, 0))

    def lately(self, process: ProcessId, what: What, most: int) -> list[Span]:
        """Return the latest spans of a process, the newest first."""
        going_on = sorted((each for each in self.open if each.process == process and each.what == what), key=_end)
        ended = chain(reversed(self.closed), reversed(self.older))
        found = (each for each in ended if each.process == process and each.what == what)
        return sorted([*going_on[-most:], *islice(found, most)], key=_end, reverse=True)[:most]

    def ended_lately(self, thing: Thing, what: What, most: int) -> list[Span]:
        """Return what has ended of late at one lock, the newest first."""
        ended = chain(reversed(self.closed), reversed(self.older))
        found = islice((each for each in ended if each.lock == thing and each.what == what), most)
        return sorted(found, key=_end, reverse=True)

    @staticmethod
    def spans_of(events: Iterable[TracedEvent]) -> Iterator[Span]:
        """Yield the spans that these events end."""
        return (span for event in events if (span := _span_of(event, 1)) is not None)

    def add(self, snapshot: Snapshot) -> None:
        if not snapshot.alive:
            self._end()
            return
        now, before = snapshot.monotonic_s, self.last
        if before is not None and now <= before:
            return
        self._marks.append((now, self.closed_ever))
        if before is None:
            self.first = self.since = before = now
        self._unbroken = now - before <= max(GAP_S, GAP_INTERVALS * self.step_s)
        self.step_s = now - before
        if not self._unbroken:
            self.gaps.append((before, now))
        self._name(snapshot, now)
        self._take_events(snapshot)
        self._look(snapshot, now)
        self._live(snapshot, now)
        self.last = now
        self._forget(now - KEPT_S)

    # ---- samples

    def _look(self, snapshot: Snapshot, now: float) -> None:
        known, self._open = self._open, {}
        for lock in snapshot.locks:
            if lock.signal:
                continue
            for who in lock.holders:
                held: Key = (lock.id, who.process, who.tid, "held")
                self._see(
                    known.pop(held, None), held, who.evidence == "events", who.since_s, who.site, now, who.asleep_s
                )
            for each in lock.waiters:
                waits: Key = (lock.id, each.process, each.tid, "waiting")
                exact = each.evidence == "events"
                self._see(known.pop(waits, None), waits, exact, each.for_s, each.site, now, each.asleep_s)
            if lock.state == "orphaned" or (lock.state == "unknown" and lock.orphaned_s is not None):
                orphaned: Key = (lock.id, None, None, "orphaned")
                self._see(known.pop(orphaned, None), orphaned, False, None, None, now)
        for key, wait in self._other_waits(snapshot):
            self._see(known.pop(key, None), key, False, wait.for_s, wait.site, now, wait.asleep_s)
        for span in known.values():
            self._close(span)

    def _other_waits(self, snapshot: Snapshot) -> Iterator[tuple[Key, Wait]]:
        """Yield what keeps workers from their work, other than shared locks: a full queue, a private lock, a file, a
        join.
        """
        for waits in serving_waits_by_worker(snapshot).values():
            for wait in waits:
                thing: Thing = wait.target
                key: Key = (thing, wait.thread.process, wait.thread.tid, "waiting")
                if wait.target.semaphore not in self.names and key not in self._open:
                    yield key, wait

    def _see(
        self,
        known: Span | None,
        key: Key,
        exact: bool,
        for_s: float | None,
        site: str | None,
        now: float,
        asleep_s: float | None = None,
    ) -> None:
        """Extend or begin a span. `known` is that of the last sample: it goes on, or it has ended and begun again
        meanwhile. A thread that has slept for `asleep_s` did the same all that time.
        """
        start = now - max(for_s or 0.0, 0.0)
        slept = now - (asleep_s or 0.0)
        reported = self._just_reported.get(key)
        if reported is not None and (reported.end > now or (exact and abs(reported.start - start) <= SAME_S)):
            return  # it ended while the sample was taken: an event has reported all of it
        if known is not None and (start <= known.start + SAME_S if exact else self._unbroken or slept <= known.end):
            known.start = min(known.start, start if exact else slept)
            known.end, known.exact, known.site = now, exact, site or known.site
            self._open[key] = known
            return
        if known is not None:
            known.end = max(min(known.end, start), known.start) if exact else known.end
            self._close(known)
        if not exact and self.last is not None:
            start = min(max(start, self.last if self._unbroken else now), slept)
        self._open[key] = Span(*key, start, now, exact, site)

    # ---- events

    def _take_events(self, snapshot: Snapshot) -> None:
        """Successive snapshots repeat events: each is taken once."""
        self._just_reported = {}
        tracing = snapshot.tracing
        if tracing is None:
            return
        numbers = [(event.process, event.sequence) for event in tracing.recent]
        new = [event for event, number in zip(tracing.recent, numbers, strict=True) if number not in self._taken]
        one_in = self._thinned(tracing, len(new))
        for event in new:
            span = _span_of(event, one_in) if event.lock not in self._signals else None
            if span is not None:
                self._take(span)
        self._taken = frozenset(numbers)

    def _thinned(self, tracing: Tracing, new: int) -> float:
        """Return how many events each new one stands for, also if samples are too rare to have them all."""
        came, before = tracing.received + tracing.lost, self._came
        self._came = came
        if before is None or came <= before or not new:
            return tracing.one_in
        return max((came - before) / new, 1.0)

    def _take(self, span: Span) -> None:
        """Take a span that is known completely: it replaces what samples showed of it."""
        self._just_reported[span.key] = span
        known = self._open.get(span.key)
        if known is not None and known.start < span.end:
            del self._open[span.key]
            if known.start < span.start - SAME_S:
                known.end = min(known.end, span.start)
                self._close(known)
        if span.one_in > 1 and span.end - span.start < BUCKET_S:
            self._count(span)
        else:
            self._close(span)

    def _count(self, span: Span) -> None:
        bucket = self._buckets.get(span.key)
        if bucket is not None and not bucket.start <= span.end < bucket.end:
            self._close(bucket)
            bucket = None
        if bucket is None:
            bucket = self._buckets[span.key] = bucket_for(span, self._bucket_s)
        count(bucket, span, (span.end - span.start) * span.one_in)

    # ---- names and lives

    def _name(self, snapshot: Snapshot, now: float) -> None:
        self._signals = frozenset(lock.id for lock in snapshot.locks if lock.signal)
        for lock in snapshot.locks:
            self._named.pop(lock.id, None)
            self.names.pop(lock.id, None)
            if not lock.signal:
                self._named[lock.id] = now
                self.names[lock.id] = lock.label

    def _live(self, snapshot: Snapshot, now: float) -> None:
        for process in snapshot.processes:
            known = self.lives.get(process.id)
            start = known.start if known else min(now, now - (snapshot.taken_at - process.started_at))
            self.lives[process.id] = Life(process.id, process.role, start, now)
        there = {process.id for process in snapshot.processes}
        for each, life in self.lives.items():
            if each not in there and not life.ended:
                self.lives[each] = replace(life, ended=True)

    def _end(self) -> None:
        """End all spans: the server has ended, so the snapshot is its last one again."""
        for span in self.open:
            self._close(span)
        self._open, self._buckets = {}, {}
        self.lives = {each: replace(life, ended=True) for each, life in self.lives.items()}

    # ---- bounds

    def _close(self, span: Span) -> None:
        self.closed.append(span)
        self.closed_ever += 1
        if len(self.closed) > MOST_SINGLE:
            chunk = [self.closed.popleft() for _ in range(min(CHUNK, MOST_SINGLE))]
            self.older.extend(together(chunk))
            while len(self.older) > MOST_OLDER:
                self._drop(self.older)

    def _drop(self, spans: deque[Span]) -> None:
        self.since = max(self.since or 0.0, spans.popleft().end)

    def _forget(self, before: float) -> None:
        for spans in (self.older, self.closed):
            while spans and spans[0].end < before:
                self._drop(spans)
        for key in [key for key, span in self._buckets.items() if span.end < (self.last or 0.0) - 1.0]:
            self._close(self._buckets.pop(key))
        wanted = BUCKET_S
        while wanted < LONGEST_BUCKET_S and len(self._buckets) * REACH_S / wanted > MOST_SINGLE:
            wanted *= 2
        self._bucket_s = wanted
        for each in [each for each, life in self.lives.items() if life.ended and life.end < before]:
            del self.lives[each]
        while self.gaps and self.gaps[0][1] < before:
            self.gaps.popleft()
        while self._named and (len(self._named) > MOST_NAMES or next(iter(self._named.values())) < before):
            lock = next(iter(self._named))
            del self._named[lock], self.names[lock]


def _span_of(event: TracedEvent, one_in: float) -> Span | None:
    """Return the span that ends with the event."""
    if event.lock is None:
        return None
    what: What = "held" if event.event == "released" else "waiting"
    length = event.held_s if what == "held" else event.wait_s if event.event in ("acquired", "failed") else None
    if not length:
        return None
    start = event.t_s - length
    return Span(event.lock, event.process, event.tid, what, start, event.t_s, True, event.site, one_in=one_in)


def _end(span: Span) -> float:
    return span.end
