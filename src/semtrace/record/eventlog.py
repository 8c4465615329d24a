"""Events in a recording: the bytes as they came, and the legend of what their numbers mean. Pure."""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any

from semtrace.lazydata import dataclass
from semtrace.model import ProcessId, SemId
from semtrace.record.chunks import LONGEST_PLAIN, Chunk, ChunkKind, Compression, deflated, plain, zstd
from semtrace.record.numbers import Damaged
from semtrace.tracing.packing import restored, shuffled
from semtrace.wire.event import EVENT_SIZE

# Of one chunk: what is compressed at once.
MOST_EVENTS = 4096
_USER = struct.Struct("<I")
_TIME = struct.Struct("<Q")
_TIME_AT = 48  # wire/event.py EVENT
_MOST_NAMED = 1 << 17
_LONGEST = 1 << 16


@dataclass(frozen=True)
class Legend:
    """Lines of the source by their numbers, names of locks, the users of processes, and users who may speak of all."""

    sites: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    locks: Mapping[SemId, str] = field(default_factory=dict)
    users: Mapping[ProcessId, int] = field(default_factory=dict)
    trusted: frozenset[int] = frozenset()

    def may_report_process(self, user: int, process: ProcessId) -> bool:
        """Return True if an event of this process counts that came through a pipe of this user."""
        return user in self.trusted or self.users.get(process) == user

    def beyond(self, known: Legend) -> Legend:
        """Return what is in this one and not in the other."""
        return Legend(
            {number: site for number, site in self.sites.items() if known.sites.get(number) != site},
            {lock: name for lock, name in self.locks.items() if known.locks.get(lock) != name},
            {process: user for process, user in self.users.items() if known.users.get(process) != user},
            self.trusted - known.trusted,
        )

    def __or__(self, more: Legend) -> Legend:
        return Legend(
            {**self.sites, **more.sites},
            {**self.locks, **more.locks},
            {**self.users, **more.users},
            self.trusted | more.trusted,
        )

    def __bool__(self) -> bool:
        return bool(self.sites or self.locks or self.users or self.trusted)


def event_chunks(user: int, data: bytes, now_ns: int) -> Iterator[Chunk]:
    """Yield what came through one pipe of a user, in chunks. `now_ns` is after all of it."""
    module, step = zstd(), MOST_EVENTS * EVENT_SIZE
    for at in range(0, len(data), step):
        piece = data[at : at + step]
        packed = _USER.pack(user & 0xFFFFFFFF) + shuffled(piece)
        first, last = (_time_at(piece, place, now_ns) for place in (0, len(piece) - EVENT_SIZE))
        if module is not None:
            yield Chunk(ChunkKind.EVENTS, Compression.ZSTD, min(first, last), last, module.compress(packed, 1))
        else:
            yield Chunk(ChunkKind.EVENTS, Compression.DEFLATE, min(first, last), last, deflated(packed, 1))


def _time_at(piece: bytes, place: int, now_ns: int) -> int:
    """Return the time of a record, at most now: the target chose it."""
    if place < 0 or place + _TIME_AT + _TIME.size > len(piece):
        return now_ns
    return min(int(_TIME.unpack_from(piece, place + _TIME_AT)[0]), now_ns)


def events_of(chunk: Chunk) -> tuple[int, bytes]:
    """Return the user whose pipe it was, and the records. Raises Damaged."""
    data = plain(chunk)
    if len(data) < _USER.size:
        raise Damaged("it has no events")
    return _USER.unpack_from(data)[0], restored(data[_USER.size :])


def legend_chunk(legend: Legend, now_ns: int) -> Chunk:
    table = {
        "sites": [[number, *site] for number, site in legend.sites.items()],
        "locks": [[*lock, name] for lock, name in legend.locks.items()],
        "users": [[*process, user] for process, user in legend.users.items()],
        "trusted": sorted(legend.trusted),
    }
    data = json.dumps(table).encode()
    if len(data) > LONGEST_PLAIN:
        data = b"{}"
    return Chunk(ChunkKind.LEGEND, Compression.DEFLATE, now_ns, now_ns, deflated(data))


def legend_of(chunk: Chunk) -> Legend:
    """Return what a chunk adds to the legend. Raises Damaged."""
    try:
        table = json.loads(plain(chunk))
    except Damaged:
        raise
    except (ValueError, RecursionError) as error:
        raise Damaged("the legend is not JSON") from error
    if not isinstance(table, dict):
        raise Damaged("the legend is not an object")
    return Legend(
        {row[0]: (row[1], row[2]) for row in _rows(table, "sites", (int, str, int))},
        {SemId(*row[:3]): row[3] for row in _rows(table, "locks", (int, int, int, str))},
        {ProcessId(*row[:2]): row[2] for row in _rows(table, "users", (int, int, int))},
        frozenset(each for each in _list(table, "trusted") if type(each) is int),
    )


def _rows(table: Mapping[str, Any], name: str, types: Collection[type]) -> Iterator[list[Any]]:
    for row in _list(table, name):
        if not isinstance(row, list) or [type(each) for each in row] != list(types):
            raise Damaged("a row of the legend is not one of the format")
        if any(isinstance(each, str) and len(each) > _LONGEST for each in row):
            raise Damaged("a name of the legend is too long")
        yield row


def _list(table: Mapping[str, Any], name: str) -> Iterable[Any]:
    found = table.get(name, [])
    if not isinstance(found, list) or len(found) > _MOST_NAMED:
        raise Damaged("the legend is larger than the format allows")
    return found
