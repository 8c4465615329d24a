"""`semtrace diff`: what changed for each lock between two recordings."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from semtrace.lazydata import dataclass
from semtrace.model import ProcessId, SemId, Snapshot, TracedEvent
from semtrace.record.lockorders import LockOrders
from semtrace.record.replay import Replay, values_that_no_server_has
from semtrace.record.tracedevents import traced_batches
from semtrace.rules import Limits
from semtrace.text import clean, exact, table

# Below this a duration is noise of the machine, and no reason to call a deploy worse.
_LEAST_S = 0.001
# A snapshot counts for no longer than this: behind it nothing is known.
_GAP_S = 2.0
_SHARES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Times:
    """Durations in seconds, and how many there were in a minute; None where nothing was measured. `exact` is False
    where samples saw them.
    """

    a_minute: float = 0.0
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    longest_s: float | None = None
    exact: bool = True


@dataclass(frozen=True)
class Figures:
    """One lock over one recording. `waiters` is how many threads waited on average; `contention` the share of acquires
    that had to wait.
    """

    hold: Times
    wait: Times
    waiters: float
    contention: float | None


@dataclass(frozen=True)
class Side:
    """One recording: its locks by name, and its findings. `orders` are pairs of locks: a thread acquired the second
    while it held the first.
    """

    locks: dict[str, Figures]
    findings: dict[tuple[str, str], str]
    orders: frozenset[tuple[str, str]]

    @property
    def both_ways(self) -> set[tuple[str, str]]:
        """Return the pairs that are acquired in both orders, each once."""
        return {(one, other) for one, other in self.orders if one < other and (other, one) in self.orders}


def diff(
    before: Path,
    after: Path,
    limits: Limits,
    threshold: float | None,
    *,
    as_json: bool,
    tell: Callable[[str], object] | None = None,
) -> tuple[Sequence[str], bool]:
    """Return the lines, and whether the later recording is worse by more than `threshold` percent."""
    one, other = _side(before, limits, tell), _side(after, limits, tell)
    worse = list(_worse(one, other, threshold)) if threshold is not None else []
    if as_json:
        return [json.dumps(_as_json(one, other, worse), indent=2)], bool(worse)
    return list(_text(one, other, worse)), bool(worse)


# -- one recording


def _side(path: Path, limits: Limits, tell: Callable[[str], object] | None) -> Side:
    with Replay(path, limits, tell) as replay, values_that_no_server_has(path):
        gathered = _Gathered()
        for snapshot in replay.between(None, None):
            gathered.add(snapshot)
        for events, lost in traced_batches(replay.recording):
            gathered.add_events(events, lost)
        return gathered.side()


class _Gathered:
    def __init__(self) -> None:
        self._names: dict[SemId, str] = {}
        self._waiters: dict[SemId, int] = {}  # of the last snapshot
        self._seen_s = 0.0
        self._waited_s: dict[SemId, float] = defaultdict(float)
        self._held: dict[SemId, list[float]] = defaultdict(list)
        self._waited: dict[SemId, list[float]] = defaultdict(list)
        self._acts: dict[SemId, list[int]] = defaultdict(lambda: [0, 0])
        self._sampled: dict[tuple[SemId, str], dict[object, float]] = defaultdict(dict)
        self._findings: dict[tuple[str, str], str] = {}
        self._orders: set[tuple[SemId, SemId]] = set()
        self._followed = LockOrders()
        self._first = self._last = 0.0
        self._newest: Snapshot | None = None

    def add(self, snapshot: Snapshot) -> None:
        passed = min(max(snapshot.monotonic_s - self._last, 0.0), _GAP_S) if self._first else 0.0
        for lock_id, count in self._waiters.items():
            self._waited_s[lock_id] += count * passed
        self._seen_s += passed
        self._waiters = {lock.id: len(lock.waiters) for lock in snapshot.locks if not lock.signal}
        self._first, self._last = self._first or snapshot.monotonic_s, max(self._last, snapshot.monotonic_s)
        self._newest = snapshot if snapshot.alive else self._newest or snapshot
        for lock in snapshot.locks:
            if lock.signal:
                continue
            self._names[lock.id] = lock.name or self._names.get(lock.id) or lock.part_of or "without a name"
            for holder in lock.holders:
                self._see(lock.id, "held", snapshot, (holder.process, holder.tid), holder.since_s)
            for waiter in lock.waiters:
                self._see(lock.id, "waited", snapshot, (waiter.process, waiter.tid), waiter.for_s)
        for finding in snapshot.findings:
            key = (str(finding.code), clean(finding.name))
            self._findings[key] = finding.severity
        if snapshot.tracing is not None:
            self._orders |= {(each.outer, each.inner) for each in snapshot.tracing.orders}

    def _see(self, lock: SemId, what: str, snapshot: Snapshot, who: object, for_s: float | None) -> None:
        """One hold or wait is seen by several snapshots: the last of them knows how long it was."""
        began = round(snapshot.monotonic_s - (for_s or 0.0), 1)
        self._sampled[lock, what][who, began] = for_s or 0.0

    def add_events(self, events: Iterable[TracedEvent], lost: Iterable[ProcessId]) -> None:
        """Take events in their order; of these processes some were lost before."""
        self._followed.forget(lost)
        for event in events:
            self._followed.note(event)
            if event.lock is not None:
                self._count(event.lock, event.event, event.wait_s, event.held_s)

    def _count(self, lock: SemId, act: str, wait_s: float | None, held_s: float | None) -> None:
        if act == "acquired":
            self._acts[lock][0] += 1
            if wait_s:
                self._acts[lock][1] += 1
                self._waited[lock].append(wait_s)
        elif act == "released" and held_s is not None:
            self._held[lock].append(held_s)

    def side(self) -> Side:
        minutes = max(self._last - self._first, 1.0) / 60
        by_name: dict[str, list[SemId]] = defaultdict(list)
        for lock, name in self._names.items():
            by_name[clean(name)].append(lock)
        locks = {name: self._figures(several, minutes) for name, several in by_name.items()}
        named = {lock: clean(name) for lock, name in self._names.items()}
        pairs = ((named.get(outer), named.get(inner)) for outer, inner in self._orders | self._followed.pairs)
        orders = frozenset((outer, inner) for outer, inner in pairs if outer and inner and outer != inner)
        return Side(locks, self._findings, orders)

    def _figures(self, locks: Iterable[SemId], minutes: float) -> Figures:
        several = list(locks)
        acts = [self._acts[lock] for lock in several if lock in self._acts]
        acquired, contended = (sum(each[place] for each in acts) for place in (0, 1))
        return Figures(
            hold=self._times(several, self._held, "held", minutes),
            wait=self._times(several, self._waited, "waited", minutes),
            waiters=sum(self._waited_s[lock] for lock in several) / (self._seen_s or 1.0),
            contention=contended / acquired if acquired else None,
        )

    def _times(self, locks: list[SemId], times: dict[SemId, list[float]], what: str, minutes: float) -> Times:
        exactly = any(lock in self._acts for lock in locks)
        found = sorted(each for lock in locks for each in times.get(lock, ()))
        if not exactly:
            found = sorted(each for lock in locks for each in self._sampled.get((lock, what), {}).values())
        if not found:
            return Times(exact=exactly)
        p50, p95, p99 = (found[min(int(share * len(found)), len(found) - 1)] for share in _SHARES)
        return Times(len(found) / minutes, p50, p95, p99, found[-1], exactly)


# -- two recordings


def _worse(one: Side, other: Side, percent: float) -> Iterator[str]:
    """Yield what is worse: durations by more than so many percent, errors and lock orders that were not there."""
    for name, now in other.locks.items():
        then = one.locks.get(name)
        for word, mine, before in (("waits", now.wait, then and then.wait), ("holds", now.hold, then and then.hold)):
            old, new = (before.p95_s or 0.0) if before else 0.0, mine.p95_s or 0.0
            if then is not None and new > max(old * (1 + percent / 100), old + _LEAST_S):
                yield f"{name}: 95 % of the {word} were below {exact(old)}, now below {exact(new)}"
    for key, severity in other.findings.items():
        if severity == "error" and key not in one.findings:
            yield f"{key[1] or 'the server'}: new error {key[0]}"
    for first, second in sorted(other.both_ways - one.both_ways):
        yield f"{first} and {second} are now acquired in both orders: two threads can block each other"


_COLUMNS = ("LOCK", "", "BEFORE", "AFTER", "CHANGE")


def _text(one: Side, other: Side, worse: Sequence[str]) -> Iterator[str]:
    rows = [list(_COLUMNS)]
    for name in sorted({*one.locks, *other.locks}):
        rows += _rows(name, one.locks.get(name), other.locks.get(name))
    yield from table(rows, "<<>>>")
    new, gone = other.findings.keys() - one.findings.keys(), one.findings.keys() - other.findings.keys()
    for word, findings in (("NEW", new), ("GONE", gone)):
        if findings:
            yield ""
            yield f"{word} FINDINGS"
            yield from (f"  {code}: {name or 'the server'}" for code, name in sorted(findings))
    for word, orders in (("NEW", other.orders - one.orders), ("GONE", one.orders - other.orders)):
        if orders:
            yield ""
            yield f"{word} LOCK ORDERS"
            yield from (f"  {inner} is acquired while {outer} is held" for outer, inner in sorted(orders))
    if worse:
        yield ""
        yield "WORSE"
        yield from (f"  {line}" for line in worse)


def _rows(name: str, before: Figures | None, after: Figures | None) -> Iterator[list[str]]:
    label = name if before and after else f"{name} ({'new' if after else 'gone'})"
    for word, take in _FIGURES:
        old, new = (None if each is None else take(each) for each in (before, after))
        if not old and not new:
            continue
        yield [label, word, *(_shown(word, each) for each in (old, new)), _change(old, new)]
        label = ""


_FIGURES: tuple[tuple[str, Any], ...] = (
    ("waiters on average", lambda f: f.waiters),
    ("had to wait", lambda f: f.contention),
    ("waits a minute", lambda f: f.wait.a_minute),
    ("wait p50", lambda f: f.wait.p50_s),
    ("wait p95", lambda f: f.wait.p95_s),
    ("wait p99", lambda f: f.wait.p99_s),
    ("longest wait", lambda f: f.wait.longest_s),
    ("holds a minute", lambda f: f.hold.a_minute),
    ("hold p50", lambda f: f.hold.p50_s),
    ("hold p95", lambda f: f.hold.p95_s),
    ("hold p99", lambda f: f.hold.p99_s),
    ("longest hold", lambda f: f.hold.longest_s),
)


def _shown(word: str, figure: float | None) -> str:
    if figure is None:
        return "-"
    if word == "had to wait":
        return f"{figure * 100:.1f} %"
    return f"{figure:.1f}" if "average" in word or "minute" in word else exact(figure)


def _change(old: float | None, new: float | None) -> str:
    if old is None or new is None:
        return ""
    return f"{(new - old) / old * 100:+.0f} %" if old else "new"


def _as_json(one: Side, other: Side, worse: Sequence[str]) -> dict[str, Any]:
    names = sorted({*one.locks, *other.locks})
    sides = (("before", one), ("after", other))
    return {
        "schema": 1,
        "locks": [
            {"name": name, **{word: asdict(side.locks[name]) if name in side.locks else None for word, side in sides}}
            for name in names
        ],
        "new_findings": [_finding(other, key) for key in sorted(other.findings.keys() - one.findings.keys())],
        "gone_findings": [_finding(one, key) for key in sorted(one.findings.keys() - other.findings.keys())],
        "new_orders": [list(pair) for pair in sorted(other.orders - one.orders)],
        "gone_orders": [list(pair) for pair in sorted(one.orders - other.orders)],
        "worse": list(worse),
    }


def _finding(side: Side, key: tuple[str, str]) -> dict[str, str]:
    return {"code": key[0], "name": key[1], "severity": side.findings[key]}
