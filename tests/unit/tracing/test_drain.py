"""Events on their way from a pipe to a line: nothing is lost while somebody decodes or prints."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from support import wait_until
from support.tracewriter import LOCK, SITES, FakeServer, P, S, events, record

from semtrace.reports.schema import event_json
from semtrace.tracing import drain as draining
from semtrace.tracing.drain import Drain
from semtrace.tracing.events import Decoder
from semtrace.tracing.lines import JsonLines
from semtrace.tracing.losses import Losses
from semtrace.tracing.reader import EventPipe
from semtrace.tracing.state import State
from semtrace.tracing.traced import traced_event
from semtrace.tracing.tracedirs import find
from semtrace.wire.event import EventType, encode_event
from semtrace.wire.place import SHM_VARIABLE

MANY = b"".join(encode_event(record(EventType.WAIT, S, number, None, P)) for number in range(1, 60))


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv(SHM_VARIABLE, str(tmp_path))
    server = FakeServer(tmp_path)
    (directory,) = find([server.process], [os.geteuid()])
    found = EventPipe(directory)
    yield server, found
    found.close()
    directory.close()


def test_a_burst_larger_than_the_pipe_waits_in_memory(pipe: tuple[FakeServer, EventPipe]) -> None:
    """Nobody takes anything meanwhile; a part of it is packed."""
    server, fifo = pipe
    draining._PACK_FROM, before = 1 << 20, draining._PACK_FROM
    drain = Drain()
    try:
        drain.follow([fifo])
        sent = 0
        while sent < 3 * fifo.capacity:
            wait_until(lambda: server.tell(MANY), what="room in the pipe", pause=0.001)
            sent += len(MANY)
        wait_until(lambda: sum(len(data) for _, data in peek(drain)) == sent, what="all to be read")
    finally:
        draining._PACK_FROM = before
        drain.close()


def peek(drain: Drain) -> list[tuple[EventPipe, bytes]]:
    KEPT.extend(drain.take())
    return KEPT


KEPT: list[tuple[EventPipe, bytes]] = []


def test_full_memory_leaves_the_rest_in_the_pipe(pipe: tuple[FakeServer, EventPipe]) -> None:
    server, fifo = pipe
    drain = Drain(most=len(MANY))
    drain.follow([fifo])
    try:
        wait_until(lambda: server.tell(MANY) == 0, what="the pipe to be full", pause=0)
        assert drain.waiting < 2 << 20
    finally:
        drain.close()


def test_a_wait_ends_when_something_comes(pipe: tuple[FakeServer, EventPipe]) -> None:
    server, fifo = pipe
    drain = Drain()
    drain.follow([fifo])
    try:
        server.tell(MANY)
        began = time.monotonic()
        drain.wait(30.0)
        assert time.monotonic() - began < 25
        assert b"".join(data for _, data in drain.take()) == MANY
        drain.follow(())
        server.tell(MANY)
        assert drain.take() == []
    finally:
        drain.close()


def test_lines_are_those_of_event_json() -> None:
    told = events(
        record(EventType.WAIT, S, 1, None, P),
        record(EventType.ACQUIRED, 2 * S + 1, 2, 1_234_567_891, P),
        record(EventType.ACQUIRED, 3 * S, 3, 0, P, site=0),
        record(EventType.RELEASED, 4 * S, 4, 5, P),
        record(EventType.RELEASED, 4 * S, 5, None, P),
        record(EventType.FAILED, 5 * S, 6, 7, P),
        record(EventType.FORKED, 6 * S, 7, 1, P, None),
    )
    state = State(sites=SITES)
    names = {LOCK: 'app.lock["\u00e9\x1b"]'}
    made = JsonLines()
    made.sites, made.names = state.sites, names
    text = made.text(told)
    assert text.isascii()
    assert [json.loads(line) for line in text.splitlines()] == [
        event_json(traced_event(event, state, names)) for event in told[:-1]
    ]


def test_gaps_in_the_numbers_are_losses() -> None:
    losses, decoder = Losses(), Decoder()

    def heard(*numbers: int) -> dict[object, int]:
        data = b"".join(encode_event(record(EventType.WAIT, S, number, None, P)) for number in numbers)
        return dict(losses.note(decoder.decode(data)))

    assert heard(7, 8, 9) == {}
    assert sum(heard(*range(1000, 1070)).values()) + sum(heard(*range(1070, 1140)).values()) == 990
    assert heard(1140) == {}
    assert losses.note([], {P: 1200}) == {P: 210}
