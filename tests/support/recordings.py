"""Recordings for the tests: values of any type of the schema, and files of several snapshots."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from semtrace.commands.export import export
from semtrace.model import Death, DeathCause, Lock, Snapshot, WaitGraph
from semtrace.record.chunks import encode
from semtrace.record.eventlog import Legend, event_chunks, legend_chunk
from semtrace.record.groups import Frame, GroupWriter
from semtrace.record.head import Head, encode_head, schema
from semtrace.rules import Limits
from semtrace.wire.event import EventType, encode_event

from .snapshots import holder, lock, pid, processes, snapshot, waiter
from .tracewriter import LOCK, P, record

TYPES = schema()
HEAD = Head(100_000_000_000, 1_700_000_100.0, 0.2, "9.9")
S = 1_000_000_000


def value(described: Any, random_: random.Random, depth: int = 0) -> Any:
    """Return any value of a type as the schema describes it."""
    if isinstance(described, str):
        return _SCALARS[described](random_)
    word, *rest = described
    if word == "maybe":
        return value(rest[0], random_, depth) if random_.random() < 0.6 else None
    if word in ("of", "word"):
        return random_.choice(rest if word == "of" else list(TYPES.classes[rest[0]]))  # type: ignore[call-overload]
    if word in ("class", "one"):
        return instance(random_.choice(rest), random_, depth)
    if word == "fixed":
        return tuple(value(each, random_, depth) for each in rest)
    most = (2 if word == "set" else 3) if depth < 5 else 1  # of a set the order is nobody's choice, and shows in repr
    several = (value(rest[0], random_, depth + 1) for _ in range(random_.randrange(most)))
    return frozenset(several) if word == "set" else tuple(several)


def instance(name: str, random_: random.Random, depth: int = 0) -> Any:
    """Return any value of a class."""
    fields = TYPES.description[name]
    return TYPES.classes[name](*(value(described, random_, depth + 1) for _, described in fields))


def any_snapshot(random_: random.Random, before: Snapshot | None = None) -> Snapshot:
    """Return any snapshot, or one of which some fields are those of the one before."""
    found = replace(instance("Snapshot", random_), monotonic_s=random_.random() * 1e6)
    if before is None:
        return found
    kept = {name for name, _ in TYPES.description["Snapshot"] if random_.random() < 0.6} - {"monotonic_s"}
    return replace(found, **{name: getattr(before, name) for name in kept})


_SCALARS: dict[str, Callable[[random.Random], Any]] = {
    "int": lambda r: r.choice([0, 1, -1, r.getrandbits(64), -r.getrandbits(70), r.randrange(300)]),
    "float": lambda r: r.choice([0.0, -0.0, 7, r.random(), -r.random() * 10 ** r.randrange(300)]),
    "time": lambda r: r.random() * 2e9,
    "str": lambda r: r.choice(["app.lock", "\udc80x", "", "\x1b[2J", "\U0001f512", str(r.randrange(9))]),
    "bool": lambda r: r.random() < 0.5,
}


def moving(count: int, start_s: float = 100.0, step_s: float = 0.2) -> list[Snapshot]:
    """One server as it goes on: a hold that grows, a waiter that comes and goes, a worker's heartbeat."""
    found = []
    for number in range(count):
        passed = number * step_s
        waiting = (waiter(12, passed),) if number % 3 else ()
        one = snapshot(lock(holders=(holder(11, 5.0 + passed),), waiters=waiting), lock("app.other", 2))
        found.append(
            replace(one, monotonic_s=start_s + passed, taken_at=one.taken_at + passed, watched_s=20.0 + passed)
        )
    return found


def frames(snapshots: Iterable[Snapshot]) -> list[Frame]:
    return [Frame(round(each.monotonic_s * S), each) for each in snapshots]


def recorded(several: Iterable[Frame], head: Head = HEAD, group_ns: int = 10 * S) -> list[bytes]:
    """The chunks of a recording, the head first."""
    writer = GroupWriter(TYPES, group_ns)
    return [encode(encode_head(head, TYPES)), *(encode(writer.chunk(frame)) for frame in several)]


def write(path: Path, several: Iterable[Frame], **changes: Any) -> Path:
    path.write_bytes(b"".join(recorded(several, **changes)))
    return path


def file(path: Path, several: list[Snapshot], *more: bytes) -> Path:
    path.write_bytes(b"".join([*recorded(frames(several)), *more]))
    return path


def traced_bytes(count: int, wait_ns: int = 0) -> bytes:
    """One thread of P acquires and releases, each hold 1 ms."""
    found = []
    for number in range(count):
        at = 100 * S + number * 10_000_000
        found.append(record(EventType.ACQUIRED, at, 2 * number + 1, wait_ns, P))
        found.append(record(EventType.RELEASED, at + 1_000_000, 2 * number + 2, 1_000_000, P))
    return b"".join(map(encode_event, found))


def with_events(path: Path, data: bytes, legend: Legend | None = None) -> Path:
    legend = legend or Legend({}, {LOCK: "app.traced"}, {}, frozenset({0}))
    chunks = [legend_chunk(legend, 100 * S), *event_chunks(0, data, 1 << 60)]
    return file(path, [traced_snapshot(each) for each in moving(20)], *map(encode, chunks))


def traced_snapshot(plain: Snapshot) -> Snapshot:
    return replace(plain, locks=(Lock(LOCK, "Lock", "free", 1, 1, "app.traced"),), waits=WaitGraph())


def contended(count: int = 50, name: str = "app.lock") -> list[Snapshot]:
    """Two threads take a lock by turns; the other one waits. A worker goes in the end."""
    found = []
    for number, plain in enumerate(moving(count)):
        one, other = (11, 12) if number // 5 % 2 else (12, 11)
        passed = number % 5 * 0.2
        busy = lock(name, holders=(holder(one, passed),), waiters=(waiter(other, passed),))
        gone = number >= count - 5
        deaths = (Death(pid(13), "worker", DeathCause.SIGNAL, -9, 0.2),) if gone else ()
        found.append(replace(plain, locks=(busy,), processes=processes(2 if gone else 3), deaths=deaths))
    return found


def exported(path: Path, to: str) -> bytes:
    out = path.with_suffix(f".{to}")
    export(path, to, out, (None, None), Limits())
    assert out.stat().st_mode & 0o777 == 0o600
    return out.read_bytes()
