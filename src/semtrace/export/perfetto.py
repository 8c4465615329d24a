"""Perfetto's own format: track events, written by hand with interned names. Pure.

Field numbers are those of perfetto/protos/perfetto/trace/: trace_packet.proto, track_event/track_event.proto,
track_event/track_descriptor.proto, interned_data/interned_data.proto (version 50).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack

from semtrace.export.owners import Owners, label, thread_of
from semtrace.export.story import Story
from semtrace.present.findings import title
from semtrace.record.numbers import unsigned
from semtrace.text import clean
from semtrace.timelines.spans import Span, Thing

_SEQUENCE = 1
_CLEARED, _NEEDED = 1, 2  # TracePacket.SequenceFlags
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4  # TrackEvent.Type
_MONOTONIC = 3  # BuiltinClock BUILTIN_CLOCK_MONOTONIC
_SERVER, _FIRST_FREE = 1, 1000


def perfetto_pieces(story: Story) -> Iterator[bytes]:
    """Yield the packets of the trace, in the order of their times within each track."""
    writer = _Writer(story)
    yield from writer.descriptors()
    yield from writer.slices()
    yield from writer.counters()
    yield from writer.instants()


# -- protobuf (https://protobuf.dev/programming-guides/encoding)


def _number(field: int, value: int) -> bytes:
    return unsigned(field << 3) + unsigned(value & 0xFFFFFFFFFFFFFFFF)


def _bytes(field: int, value: bytes) -> bytes:
    return unsigned(field << 3 | 2) + unsigned(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, clean(value).encode("utf-8", "replace"))


def _fixed(field: int, value: int) -> bytes:
    return unsigned(field << 3 | 1) + pack("<Q", value)


def _packet(*parts: bytes, flags: int = _NEEDED) -> bytes:
    """Return one packet of the trace: Trace.packet = 1, TracePacket.trusted_packet_sequence_id = 10, sequence_flags =
    13.
    """
    return _bytes(1, b"".join((*parts, _number(10, _SEQUENCE), _number(13, flags))))


class _Writer:
    def __init__(self, story: Story) -> None:
        self._story = story
        self._owners = Owners(story.spans)
        self._names: dict[str, int] = {}
        self._tracks: dict[object, int] = {}
        self._flows: dict[int, list[bytes]] = {}
        for number, (one, other) in enumerate(self._owners.successors(), 1):
            self._flows.setdefault(id(one), []).append(_fixed(47, number))  # TrackEvent.flow_ids
            self._flows.setdefault(id(other), []).append(_fixed(48, number))  # terminating_flow_ids

    def descriptors(self) -> Iterator[bytes]:
        server = self._story.last.server
        process = _number(1, server.pid) + _text(6, server.title)  # ProcessDescriptor.pid, process_name
        yield _packet(_bytes(60, _number(1, _SERVER) + _bytes(3, process)), flags=_CLEARED | _NEEDED)

    def slices(self) -> Iterator[bytes]:
        """Those of one track must nest: a track for each thread and lock, and what overlaps in it goes to another."""
        free: dict[tuple[int, Thing, str], list[float]] = {}
        for span in self._story.spans:
            lanes = free.setdefault((thread_of(span), span.lock, span.what), [])
            lane = next((number for number, end in enumerate(lanes) if end <= span.start), len(lanes))
            lanes[lane : lane + 1] = [span.end]
            yield from self._slice(span, lane)

    def _slice(self, span: Span, lane: int) -> Iterator[bytes]:
        track, new = self._lock_track(span, lane)
        yield from new
        name, interned = self._name(label(self._story, span, self._owners))
        begin = _number(9, _BEGIN) + _number(11, track) + name + b"".join(self._flows.get(id(span), ()))
        if span.site:
            begin += _bytes(4, _text(10, "site") + _text(6, span.site))  # DebugAnnotation.name, string_value
        yield self._event(span.start, begin, interned)
        yield self._event(span.end, _number(9, _END) + _number(11, track))

    def counters(self) -> Iterator[bytes]:
        for lock, counts in self._story.counts.items():
            track = self._next(("counter", lock))
            named = _text(2, f"waiters of {self._story.name(lock)}")
            yield _packet(_bytes(60, _number(1, track) + named + _number(5, _SERVER) + _bytes(8, b"")))
            for time, count in counts:
                yield self._event(time, _number(9, _COUNTER) + _number(11, track) + _number(30, count))

    def instants(self) -> Iterator[bytes]:
        moments = list(self._story.deaths())
        for sighting in self._story.sightings:
            if sighting.finding.severity != "note":
                moments.append((sighting.first_s, f"{sighting.finding.severity}: {title(sighting.finding)}"))
        for time, text in sorted(moments):
            name, interned = self._name(text)
            yield self._event(time, _number(9, _INSTANT) + _number(11, _SERVER) + name, interned)

    def _event(self, time: float, event: bytes, interned: bytes = b"") -> bytes:
        """TracePacket: timestamp 8, track_event 11, interned_data 12, timestamp_clock_id 58."""
        stamp = _number(8, max(round(time * 1e9), 0)) + _number(58, _MONOTONIC)
        return _packet(stamp, interned, _bytes(11, event))

    def _name(self, text: str) -> tuple[bytes, bytes]:
        """Return TrackEvent.name_iid = 10, and what carries the name if it is new: InternedData.event_names = 2."""
        known = self._names.get(text)
        if known is not None:
            return _number(10, known), b""
        number = self._names[text] = len(self._names) + 1
        return _number(10, number), _bytes(12, _bytes(2, _number(1, number) + _text(2, text)))

    def _lock_track(self, span: Span, lane: int) -> tuple[int, list[bytes]]:
        tid = thread_of(span)
        key = (tid, span.lock, span.what, lane)
        if key in self._tracks:
            return self._tracks[key], []
        thread, new = self._thread_track(tid)
        track = self._next(key)
        named = _text(2, f"{self._story.name(span.lock)} {span.what}")
        return track, [*new, _packet(_bytes(60, _number(1, track) + named + _number(5, thread)))]

    def _thread_track(self, tid: int) -> tuple[int, list[bytes]]:
        """ThreadDescriptor: pid 1, tid 2, thread_name 5. The workers are threads of one process, the server: the plugin
        looks for an owner within the same process.
        """
        if not tid:
            return _SERVER, []
        if tid in self._tracks:
            return self._tracks[tid], []
        track = self._next(tid)
        thread = _number(1, self._story.last.server.pid) + _number(2, tid) + _text(5, f"{self._role(tid)} {tid}")
        return track, [_packet(_bytes(60, _number(1, track) + _number(5, _SERVER) + _bytes(4, thread)))]

    def _role(self, tid: int) -> str:
        return next((life.role for life in self._story.lives.values() if life.process.pid == tid), "thread")

    def _next(self, key: object) -> int:
        self._tracks[key] = _FIRST_FREE + len(self._tracks)
        return self._tracks[key]
