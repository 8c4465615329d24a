"""Records are decoded in bulk as one by one, and what is none of them is dropped and counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support import tracewriter
from support.tracewriter import P, Q, record

from semtrace.tracing.events import LONGEST_NS, Decoder, Event
from semtrace.wire.event import EVENT_MAGIC, EventType, Record, encode_event
from semtrace.wire.words import Kind

times = st.integers(0, 2**64 - 2)
records = st.builds(
    record,
    st.sampled_from(EventType),
    times,
    times,
    st.none() | st.integers(0, LONGEST_NS),
    st.sampled_from([P, Q]),
    st.sampled_from([None, tracewriter.LOCK, tracewriter.OTHER]),
    st.integers(1, 2**32 - 1),
    st.sampled_from(Kind),
)


def as_record(event: Event) -> Record:
    o = event.origin
    return Record(
        o.type, o.process, event.tid, o.lock, o.kind, o.flags, o.slot, event.site, event.sequence, event.time_ns,
        event.measured_ns,
    )  # fmt: skip


@given(st.lists(records, max_size=30), st.lists(st.integers(1, 200), max_size=8))
def test_bulk_decoding_gives_what_single_decoding_gives(several: list[Record], cuts: list[int]) -> None:
    data = b"".join(map(encode_event, several))
    decoder, found = Decoder(), []
    for cut in [*cuts, len(data)]:
        found += decoder.decode(data[:cut])
        data = data[cut:]
    assert [as_record(event) for event in found] == several
    assert decoder.malformed == 0


def test_equal_origins_are_one_object() -> None:
    one, other = tracewriter.events(record(EventType.WAIT, 1, 1), record(EventType.WAIT, 2, 2))
    assert one.origin is other.origin


@given(st.lists(records | st.binary(min_size=1, max_size=150), max_size=12))
def test_garbage_between_records_costs_the_garbage_only(pieces: list[Record | bytes]) -> None:
    """As long as the garbage has not the magic bytes of a record in it."""
    magic = EVENT_MAGIC.to_bytes(2, "little")
    pieces = [piece.replace(magic[:1], b"") if isinstance(piece, bytes) else piece for piece in pieces]
    data = b"".join(piece if isinstance(piece, bytes) else encode_event(piece) for piece in pieces)
    decoder = Decoder()
    found = decoder.decode(data)
    good = [piece for piece in pieces if isinstance(piece, Record)]
    assert [as_record(event) for event in found] == good
    after = record(EventType.ACQUIRED, 5, 5)
    assert as_record(decoder.decode(encode_event(after))[-1]) == after


@given(st.binary(max_size=2000))
def test_nothing_raises(data: bytes) -> None:
    decoder = Decoder()
    decoder.decode(data)
    decoder.decode(data)
