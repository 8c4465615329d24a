"""Who held and who waited when: spans of time, gathered from the snapshots and the events in them. Pure, and bounded.

A sample says where somebody was at that moment: its spans reach from look to look, and what was shorter than the
interval is missing. An event says it exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from semtrace.model import Holder, Lock, ProcessId, SemId, Snapshot, TracedEvent, Waiter

What = Literal["held", "waiting", "orphaned"]
Key = tuple[SemId, "ProcessId | None", "int | None", What]

KEPT_S = 660.0
MOST_SPANS = 40_000
BUCKET_S = 0.25
GAP_S = 2.0  # so long without a look, and nothing is known of the time in between


@dataclass(frozen=True, slots=True)
class Span:
    """Times are CLOCK_MONOTONIC in seconds. `process` is None of an orphaned lock.

    `exact` is what events tell. Shorter ones of one thread and lock are counted together: `count` of them took
    `share` of the time, the longest `longest_s`; with `one_in` above 1 only so many of them were read, and the share is
    estimated from those.
    """

    lock: SemId
    process: ProcessId | None
    tid: int | None
    what: What
    start: float
    end: float
    exact: bool = False
    site: str | None = None
    share: float = 1.0
    count: int = 1
    longest_s: float | None = None
    one_in: int = 1

    @property
    def key(self) -> Key:
        return self.lock, self.process, self.tid, self.what


@dataclass(frozen=True, slots=True)
class Life:
    """When a process was there: from its first to its last picture, `ended` if it is gone."""

    process: ProcessId
    role: str
    start: float
    end: float
    ended: bool = False


class Timeline:
    """`add` takes every snapshot, in their order. `closed` are the spans that have ended, about in the order of their
    ends; `closed_ever` counts them, also those that were dropped since.
    """

    def __init__(self) -> None:
        self.closed: deque[Span] = deque(maxlen=MOST_SPANS)
        self.closed_ever = 0
        self.lives: dict[ProcessId, Life] = {}
        self.names: dict[SemId, str] = {}
        self.gaps: deque[tuple[float, float]] = deque(maxlen=1000)
        self.first: float | None = None
        self.last: float | None = None
        self._open: dict[Key, Span] = {}
        self._buckets: dict[Key, Span] = {}
        self._heard: dict[ProcessId, int] = {}

    @property
    def open(self) -> Iterator[Span]:
        """Those that go on, with what is not yet counted together."""
        yield from self._open.values()
        yield from self._buckets.values()

    def add(self, snapshot: Snapshot) -> None:
        now = snapshot.monotonic_s
        if self.last is not None and now <= self.last:
            return
        before = self.last
        if before is None:
            self.first = now
        elif now - before > GAP_S:
            self.gaps.append((before, now))
            before = None
        self._hear(snapshot)
        self._look(snapshot, now, before)
        self._live(snapshot, now)
        self.last = now
        self._forget(now - KEPT_S)

    # ---- samples

    def _look(self, snapshot: Snapshot, now: float, before: float | None) -> None:
        seen = {span.key: span for lock in snapshot.locks for span in _seen(lock, now)}
        self.names.update((lock.id, lock.label) for lock in snapshot.locks)
        for key in [key for key in self._open if key not in seen or before is None]:
            self._close(self._open.pop(key))
        for key, span in seen.items():
            known = self._open.get(key)
            if known is not None and (not span.exact or span.start <= known.start + 0.001):
                self._open[key] = replace(known, end=now, exact=span.exact, site=span.site or known.site)
                continue
            if known is not None:  # it let go and took it again between the looks
                self._close(replace(known, end=min(known.end, span.start)))
            self._open[key] = span

    # ---- events

    def _hear(self, snapshot: Snapshot) -> None:
        tracing = snapshot.tracing
        if tracing is None:
            return
        newest: dict[ProcessId, int] = {}
        for event in tracing.recent:
            if event.sequence > self._heard.get(event.process, -1):
                newest[event.process] = max(newest.get(event.process, -1), event.sequence)
                for span in _told(event, tracing.one_in):
                    self._take(span)
        self._heard.update(newest)

    def _take(self, span: Span) -> None:
        """The whole span is known: it replaces what samples showed of it."""
        known = self._open.get(span.key)
        if known is not None and known.start < span.end:
            del self._open[span.key]
            if known.start < span.start - 0.001 and not known.exact:
                self._close(replace(known, end=span.start))
        if span.end - span.start >= BUCKET_S:
            self._close(span)
        else:
            self._count(span)

    def _count(self, span: Span) -> None:
        start = span.end // BUCKET_S * BUCKET_S
        length = span.end - span.start
        share = min(length * span.one_in / BUCKET_S, 1.0)
        known = self._buckets.get(span.key)
        if known is not None and known.start != start:
            self._close(self._buckets.pop(span.key))
            known = None
        if known is None:
            self._buckets[span.key] = replace(span, start=start, end=start + BUCKET_S, share=share, longest_s=length)
        else:
            self._buckets[span.key] = replace(
                known,
                share=min(known.share + share, 1.0),
                count=known.count + 1,
                longest_s=max(known.longest_s or 0.0, length),
                one_in=max(known.one_in, span.one_in),
                site=span.site or known.site,
            )

    # ---- lives

    def _live(self, snapshot: Snapshot, now: float) -> None:
        for process in snapshot.processes:
            known = self.lives.get(process.id)
            start = known.start if known else min(now, now - (snapshot.taken_at - process.started_at))
            self.lives[process.id] = Life(process.id, process.role, start, now)
        there = {process.id for process in snapshot.processes} if snapshot.alive else set()
        for each, life in self.lives.items():
            if each not in there and not life.ended:
                self.lives[each] = replace(life, ended=True)

    # ---- bounds

    def _close(self, span: Span) -> None:
        if span.end > span.start:
            self.closed.append(span)
            self.closed_ever += 1

    def _forget(self, before: float) -> None:
        while self.closed and self.closed[0].end < before:
            self.closed.popleft()
        for key in [key for key, span in self._buckets.items() if span.end < (self.last or 0.0) - 1.0]:
            self._close(self._buckets.pop(key))
        for each in [each for each, life in self.lives.items() if life.ended and life.end < before]:
            del self.lives[each]
            self._heard.pop(each, None)
        while self.gaps and self.gaps[0][1] < before:
            self.gaps.popleft()


def _seen(lock: Lock, now: float) -> Iterator[Span]:
    for holder in lock.holders:
        yield _span(lock.id, holder, holder.since_s, "held", now)
    for waiter in lock.waiters:
        yield _span(lock.id, waiter, waiter.for_s, "waiting", now)
    if lock.state == "orphaned":
        yield Span(lock.id, None, None, "orphaned", now - 1e-6, now)


def _span(lock: SemId, who: Holder | Waiter, since_s: float | None, what: What, now: float) -> Span:
    start = now - max(since_s or 0.0, 1e-6)
    return Span(lock, who.process, who.tid, what, start, now, who.evidence == "events", who.site)


def _told(event: TracedEvent, one_in: int) -> Iterator[Span]:
    if event.lock is None:
        return
    if event.event == "released" and event.held_s:
        start = event.t_s - event.held_s
        yield Span(event.lock, event.process, event.tid, "held", start, event.t_s, True, event.site, one_in=one_in)
    if event.event in ("acquired", "failed") and event.wait_s:
        start = event.t_s - event.wait_s
        yield Span(event.lock, event.process, event.tid, "waiting", start, event.t_s, True, event.site, one_in=one_in)
