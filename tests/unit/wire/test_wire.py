"""The bytes survive a round trip, and nothing that is not ours is taken for ours."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.model import ProcessId, SemId
from semtrace.wire.event import (
    EVENT,
    EVENT_PREFIX,
    EVENT_SIZE,
    EVENT_WORDS,
    EventType,
    Record,
    decode_event,
    decode_events,
    encode_event,
)
from semtrace.wire.offsets import (
    HEADER_WORDS,
    NAME_BYTES,
    SITE,
    SITES_AT_BYTES,
    STATE_SIZE,
    Header,
    LockWord,
    encode_header,
    encode_name,
    encode_site,
    identity_word,
    lock_at,
    site_at,
    site_id,
    viewer_at,
)
from semtrace.wire.place import (
    CONTROL_SIZE,
    control_is_valid,
    encode_control,
    fifo_name,
    generation,
    parse_fifo_name,
    parse_process_name,
    parse_state_name,
    process_name,
    server_directory,
    state_name,
)
from semtrace.wire.statefile import Site, decode_state
from semtrace.wire.words import Flag, Kind, who

PROCESS = ProcessId(1234, 5678)
LOCK = SemId(0, 0x1B, 99)

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
locks = st.builds(SemId, st.integers(0, 2**12 - 1), st.integers(0, 2**20 - 1), st.integers(1, 2**64 - 1))
records = st.builds(
    Record,
    st.sampled_from(EventType),
    st.builds(ProcessId, st.integers(1, 2**22), u64),
    u32,
    st.none() | locks,
    st.sampled_from(Kind),
    st.sampled_from([Flag.NONE, Flag.SIGNAL]),
    st.integers(0, 65535),
    u32,
    u64,
    u64,
    st.none() | st.integers(0, 2**64 - 2),
)


def test_sizes_are_what_the_format_promises() -> None:
    assert EVENT.size == EVENT_SIZE == EVENT_PREFIX.size + EVENT_WORDS.size
    assert os.fpathconf(0, "PC_PIPE_BUF") % EVENT_SIZE == 0 if hasattr(os, "fpathconf") else True
    assert SITES_AT_BYTES % 8 == 0
    assert SITE.size % 8 == 0


@given(records)
def test_a_record_survives_the_round_trip(record: Record) -> None:
    assert decode_event(encode_event(record)) == record


@given(st.lists(records, max_size=5), st.binary(max_size=EVENT_SIZE - 1))
def test_several_records_and_a_rest(several: list[Record], rest: bytes) -> None:
    data = b"".join(map(encode_event, several)) + rest
    assert decode_events(data) == (several, 0, rest)


@given(st.binary(min_size=EVENT_SIZE, max_size=EVENT_SIZE * 3))
def test_anything_else_is_counted_not_raised(data: bytes) -> None:
    found, malformed, rest = decode_events(data)
    assert (len(found) + malformed) * EVENT_SIZE + len(rest) == len(data)


def blank(process: ProcessId = PROCESS) -> bytearray:
    data = bytearray(STATE_SIZE)
    struct.pack_into(f"<{HEADER_WORDS}Q", data, 0, *encode_header(process, 7, 42))
    return data


def fill(data: bytearray, slot: int, name: str = "", **values: int) -> None:
    at = lock_at(slot)
    words = {"INODE": LOCK.inode, "IDENTITY": identity_word(LOCK, Kind.LOCK, Flag.SIGNAL, slot)}
    for word, value in {**words, **values}.items():
        struct.pack_into("<Q", data, (at + LockWord[word]) * 8, value)
    start = (at + LockWord.NAME) * 8
    data[start : start + NAME_BYTES] = encode_name(name)


def test_a_state_file_survives_the_round_trip() -> None:
    data = blank()
    fill(data, 3, "orders", WHO=who(77, 5), SINCE=1000, COUNT=2**64 - 1, ACQUIRED=9)
    data[site_at(0) : site_at(1)] = encode_site("/app/a.py", 12)
    struct.pack_into("<Q", data, Header.SITES * 8, 1)
    struct.pack_into("<3Q", data, viewer_at(1) * 8, 5, 6, 7)
    state = decode_state(bytes(data))
    assert state is not None
    assert (state.process, state.parent_pid, state.since_ns, state.active) == (PROCESS, 7, 42, True)
    assert state.lost_by_viewer == {ProcessId(5, 6): 7}
    assert state.sites == {site_id("/app/a.py", 12): Site("/app/a.py", 12)}
    (book,) = state.locks
    assert (book.slot, book.lock, book.kind, book.flags) == (3, LOCK, Kind.LOCK, Flag.SIGNAL)
    assert (book.name, book.tid, book.site, book.since_ns, book.count) == ("orders", 77, 5, 1000, 0)
    assert (book.acquired, book.released, book.waiting_since_ns, book.steady) == (9, 8, None, True)


def test_a_hold_that_changed_between_two_readings_is_not_steady() -> None:
    first, second = blank(), blank()
    fill(first, 0, SINCE=1)
    fill(second, 0, SINCE=2)
    state = decode_state(bytes(first), bytes(second))
    assert state is not None
    assert [book.steady for book in state.locks] == [False]


@pytest.mark.parametrize("word", [Header.MAGIC, Header.VERSION, Header.LOCK_SLOTS])
def test_a_state_file_of_another_format_is_refused(word: Header) -> None:
    data = blank()
    struct.pack_into("<Q", data, word * 8, 12345)
    assert decode_state(bytes(data)) is None


def test_a_short_state_file_is_refused() -> None:
    assert decode_state(bytes(blank()[:-1])) is None


@given(st.binary(max_size=400))
def test_garbage_behind_a_good_header_does_not_raise(garbage: bytes) -> None:
    data = blank()
    data[HEADER_WORDS * 8 : HEADER_WORDS * 8 + len(garbage)] = garbage
    data[Header.SITES * 8] = 255
    assert decode_state(bytes(data)) is not None


@given(st.text())
def test_a_long_name_is_cut_between_characters(name: str) -> None:
    encoded = encode_name(name)
    assert len(encoded) == NAME_BYTES
    encoded.rstrip(b"\0").decode()


def test_of_a_long_path_the_end_is_kept() -> None:
    data = blank()
    data[site_at(0) : site_at(1)] = encode_site("/x" * 200 + "/views.py", 3)
    struct.pack_into("<Q", data, Header.SITES * 8, 1)
    state = decode_state(bytes(data))
    assert state is not None
    (site,) = state.sites.values()
    assert site.file.startswith("...")
    assert site.file.endswith("/x/views.py")
    assert site.line == 3


@given(u32, st.integers(1, 2**31))
def test_names_survive_the_round_trip(pid: int, ticks: int) -> None:
    process = ProcessId(pid, ticks)
    assert parse_state_name(state_name(process)) == process
    assert parse_fifo_name(fifo_name(process, 3)) == process
    assert parse_process_name(process_name(process)) == process


@pytest.mark.parametrize("name", ["", "control", "1-2", "x-1.state", "1-2.fifo", "-1.state", "1.state", "1-²-0.fifo"])
def test_other_names_are_nobodys(name: str) -> None:
    assert parse_state_name(name) is None
    assert parse_fifo_name(name) is None


def test_paths() -> None:
    assert server_directory(5, PROCESS, "/base") == "/base/semtrace-5/1234-5678"


def test_a_control_file_is_checked() -> None:
    assert control_is_valid(encode_control(1))
    assert not control_is_valid(bytes(CONTROL_SIZE))
    assert generation(10**12, 5) != generation(10**12, 6) != generation(10**12 + 5000, 6)
