"""Exports and comparisons of recordings: what other tools and other people get."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from support.recordings import S, contended, exported, file, moving, traced_bytes, with_events
from support.snapshots import lock, snapshot
from support.tracewriter import LOCK, P, record

from semtrace.commands.export import export
from semtrace.errors import SemtraceError, UsageError
from semtrace.model import EventName, Lock, SemId, TracedEvent, WaitGraph
from semtrace.record.chunks import encode
from semtrace.record.diffing import diff
from semtrace.record.eventlog import Legend, event_chunks, events_of, legend_chunk, legend_of
from semtrace.record.lockorders import LockOrders
from semtrace.rules import Limits
from semtrace.tracing.packing import packed, restored, shuffled, unpacked
from semtrace.wire.event import EventType, encode_event

HOSTILE = "</script><script>alert(1)</script>"
NOTHING = (None, None)


def test_events_come_back_as_they_were_with_their_legend() -> None:
    data = traced_bytes(5000) + b"half"
    assert restored(shuffled(data)) == unpacked(packed(data)) == data
    chunks = list(event_chunks(7, data, 1 << 60))
    assert [events_of(chunk)[0] for chunk in chunks] == [7] * len(chunks)
    assert b"".join(events_of(chunk)[1] for chunk in chunks) == data
    assert sum(chunk.size for chunk in chunks) < len(data) / 5
    legend = Legend({3: ("/app/a.py", 7)}, {LOCK: "a"}, {P: 1000}, frozenset({0}))
    assert legend_of(legend_chunk(legend, 1)) == legend
    assert not legend.beyond(legend)
    assert legend.may_report_process(1000, P)
    assert not legend.may_report_process(1001, P)


def test_csv_has_a_row_for_each_hold_and_wait(tmp_path: Path) -> None:
    rows = list(csv.DictReader(exported(file(tmp_path / "x", contended()), "csv").decode().splitlines()))
    assert {row["what"] for row in rows} == {"held", "waiting"}
    assert {row["pid"] for row in rows} == {"11", "12"}
    assert {row["name"] for row in rows} == {"app.lock"}


def test_csv_gives_a_spreadsheet_no_formula(tmp_path: Path) -> None:
    rows = list(csv.DictReader(exported(file(tmp_path / "x", contended(9, "=cmd()")), "csv").decode().splitlines()))
    assert {row["name"] for row in rows} == {"'=cmd()"}


def test_events_give_exact_spans(tmp_path: Path) -> None:
    rows = list(csv.DictReader(exported(with_events(tmp_path / "x", traced_bytes(30)), "csv").decode().splitlines()))
    assert [(row["name"], row["seconds"], row["exact"]) for row in rows] == [("app.traced", "0.001000000", "1")] * 30


def test_events_of_who_may_not_speak_are_left_out(tmp_path: Path) -> None:
    path = with_events(tmp_path / "x", traced_bytes(30), Legend({}, {}, {P: 1000}, frozenset()))
    assert len(exported(path, "csv").splitlines()) == 1


def test_slices_of_a_chrome_track_nest(tmp_path: Path) -> None:
    events = json.loads(exported(file(tmp_path / "x", contended()), "chrome"))["traceEvents"]
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            tracks[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert len(tracks) == 2
    assert any("Lock contention on a app.lock lock (owner tid: 1" in event["name"] for event in events)
    assert [event["name"] for event in events if event["ph"] == "i"] == ["worker 13 was killed by SIGKILL"]
    assert {event["ph"] for event in events} >= {"X", "C", "M", "s", "f"}


def test_perfetto_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("google.protobuf")
    pb2 = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    trace = pb2.Trace()
    trace.ParseFromString(exported(file(tmp_path / "x", contended()), "perfetto"))
    names, open_slices, ends, slices = {}, {}, {}, []
    for packet in trace.packet:
        names |= {each.iid: each.name for each in packet.interned_data.event_names}
        event, at = packet.track_event, packet.timestamp
        if event.type == event.TYPE_SLICE_BEGIN:
            assert event.track_uuid not in open_slices, "slices of one track must not overlap"
            assert at >= ends.get(event.track_uuid, 0)
            open_slices[event.track_uuid] = names[event.name_iid]
        elif event.type == event.TYPE_SLICE_END:
            slices.append(open_slices.pop(event.track_uuid))
            ends[event.track_uuid] = at
    assert not open_slices
    assert {"app.lock_lock_held", "Lock contention on a app.lock lock (owner tid: 11)"} <= set(slices)
    tracks = {packet.track_descriptor.uuid: packet.track_descriptor for packet in trace.packet}
    assert {each.thread.tid for each in tracks.values() if each.HasField("thread")} == {11, 12}
    assert any(each.name == "waiters of app.lock" for each in tracks.values())
    assert "worker 13 was killed by SIGKILL" in names.values()


def page_data(page: str) -> dict[str, object]:
    return json.loads(re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[0])


def test_a_page_fetches_nothing_and_runs_nothing_of_the_target(tmp_path: Path) -> None:
    page = exported(file(tmp_path / "x", contended(50, HOSTILE)), "html").decode()
    assert page.count("<script") == 2
    assert not re.findall(r"https?://|src=|href=", page)
    assert "default-src 'none'" in page
    assert page_data(page)["locks"][0][0] == HOSTILE  # type: ignore[index]


def test_an_export_overwrites_nothing(tmp_path: Path) -> None:
    path = file(tmp_path / "x.semrec", contended(3))
    export(path, "csv", None, NOTHING, Limits())
    with pytest.raises(UsageError, match="is there already"):
        export(path, "csv", None, NOTHING, Limits())
    with pytest.raises(SemtraceError, match="No such file"):
        export(path, "csv", tmp_path / "no" / "x", NOTHING, Limits())


# -- diff


def test_a_later_recording_with_longer_waits_is_worse(tmp_path: Path) -> None:
    before = with_events(tmp_path / "a", traced_bytes(50, wait_ns=2_000_000))
    after = with_events(tmp_path / "b", traced_bytes(50, wait_ns=9_000_000))
    lines, worse = diff(before, after, Limits(), 50.0, as_json=False)
    assert worse
    assert any("app.traced: 95 % of the waits were below 2.00ms, now below 9.00ms" in line for line in lines)
    assert diff(before, after, Limits(), 400.0, as_json=False)[1] is False
    assert diff(after, before, Limits(), 0.0, as_json=False)[1] is False
    assert diff(before, after, Limits(), None, as_json=False)[1] is False


def test_a_new_error_is_worse_whatever_the_threshold(tmp_path: Path) -> None:
    orphan = lock(state="orphaned", reason="locked in all 40 samples over 4.8 s; nobody holds it")
    before, after = file(tmp_path / "a", moving(3)), file(tmp_path / "b", [snapshot(orphan)])
    told = json.loads("\n".join(diff(before, after, Limits(), 1e6, as_json=True)[0]))
    assert told["worse"] == ["app.lock: new error orphaned-lock"]
    assert told["new_findings"] == [{"code": "orphaned-lock", "name": "app.lock", "severity": "error"}]
    assert {each["name"] for each in told["locks"]} == {"app.lock", "app.other"}


def test_waits_of_an_untraced_server_are_compared_by_samples(tmp_path: Path) -> None:
    before, after = file(tmp_path / "a", moving(3)), file(tmp_path / "b", contended())
    lines, _ = diff(before, after, Limits(), None, as_json=False)
    found = json.loads("\n".join(diff(before, after, Limits(), None, as_json=True)[0]))
    times = next(each["after"] for each in found["locks"] if each["name"] == "app.lock")
    assert times["hold"]["longest_s"] == pytest.approx(0.8)
    assert times["wait"]["a_minute"] > 0
    assert times["wait"]["exact"] is False
    assert any("longest hold" in line and "800ms" in line for line in lines)


INNER = SemId(0, 27, 8)


def nested_bytes(first: SemId, second: SemId, at: int, number: int) -> bytes:
    """One thread of P acquires the second lock while it holds the first."""
    acts = [(EventType.ACQUIRED, first), (EventType.ACQUIRED, second), (EventType.RELEASED, second)]
    found = [
        record(kind, at + place * 1000, number + place, 0 if kind is EventType.ACQUIRED else 1000, P, lock)
        for place, (kind, lock) in enumerate([*acts, (EventType.RELEASED, first)])
    ]
    return b"".join(map(encode_event, found))


def test_new_lock_orders_are_shown_and_both_orders_are_worse(tmp_path: Path) -> None:
    legend = Legend({}, {LOCK: "app.traced", INNER: "app.inner"}, {}, frozenset({0}))
    locks = (Lock(LOCK, "Lock", "free", 1, 1, "app.traced"), Lock(INNER, "Lock", "free", 1, 1, "app.inner"))

    def recording(name: str, data: bytes) -> Path:
        several = [replace(each, locks=locks, waits=WaitGraph()) for each in moving(20)]
        chunks = [legend_chunk(legend, 100 * S), *event_chunks(0, data, 1 << 60)]
        return file(tmp_path / name, several, *map(encode, chunks))

    one = nested_bytes(LOCK, INNER, 100 * S, 1)
    none, before = recording("a", b""), recording("b", one)
    after = recording("c", one + nested_bytes(INNER, LOCK, 101 * S, 5))
    lines, worse = diff(none, before, Limits(), 1e6, as_json=False)
    assert "  app.inner is acquired while app.traced is held" in lines
    assert worse is False
    lines, worse = diff(before, after, Limits(), 1e6, as_json=False)
    assert "  app.traced is acquired while app.inner is held" in lines
    assert worse
    assert "GONE LOCK ORDERS" in diff(after, none, Limits(), 0.0, as_json=False)[0]


def test_locks_held_around_lost_events_make_no_order() -> None:
    orders = LockOrders()
    orders.note(event_of(LOCK, "acquired", 1))
    orders.forget([P])
    orders.note(event_of(INNER, "acquired", 5))
    assert orders.pairs == set()
    orders.note(event_of(LOCK, "acquired", 6))
    assert orders.pairs == {(INNER, LOCK)}


def event_of(lock: SemId, act: EventName, sequence: int) -> TracedEvent:
    return TracedEvent(1.0, P, 1, act, lock, None, None, None, None, sequence)
