"""Recordings: what was written comes back, whatever has become of the file."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.recordings import HEAD, TYPES, S, any_snapshot, frames, moving, recorded, write
from support.snapshots import lock, snapshot

from semtrace.errors import SemtraceError, UsageError
from semtrace.model import LockOrder, SemId, Snapshot, Tracing
from semtrace.record.chunks import Chunk, ChunkKind, Compression, decode, deflated, encode, plain, zstd
from semtrace.record.groups import Frame, GroupReader, GroupWriter, lean
from semtrace.record.head import NotARecording, encode_head
from semtrace.record.moments import parse_moment
from semtrace.record.numbers import Cursor, Damaged, signed
from semtrace.record.reader import Recording, time_of
from semtrace.record.replay import Replay
from semtrace.record.sink import CannotWrite, File, Full, Ring
from semtrace.rules import Limits
from semtrace.text import size

FEW = settings(max_examples=settings.default.max_examples // 2, deadline=None)
ORDER = LockOrder(SemId(0, 1, 1), SemId(0, 1, 2), "a.py:1", "a.py:2", (), frozenset({SemId(0, 1, 3)}))
SEEDS = st.integers(0, 1 << 32)


def any_snapshots(seed: int) -> list[Snapshot]:
    random_ = random.Random(seed)
    found = [any_snapshot(random_)]
    for _ in range(3):
        found.append(any_snapshot(random_, found[-1]))
    return found


def opened(data: bytes, folder: Path) -> list[Frame]:
    path = folder / "x.semrec"
    path.write_bytes(data)
    recording = Recording(path)
    try:
        return list(recording.frames())
    finally:
        recording.close()


@given(seed=SEEDS)
@FEW
def test_snapshots_come_back_field_by_field(seed: int) -> None:
    several = any_snapshots(seed)
    writer, reader = GroupWriter(TYPES), GroupReader(TYPES.reader(TYPES.description))
    for number, each in enumerate(several):
        found = reader.frame(decode(encode(writer.chunk(Frame(number, each)))) or pytest.fail("not whole"))
        assert repr(found) == repr(Frame(number, lean(each)))  # repr also shows what == leaves out


def test_renamed_fields_of_old_recordings_keep_their_values() -> None:
    new = snapshot(lock(proof_needs_rights=True), tracing=Tracing(False, (), 1, 0.0, 0, 0, (ORDER,)))
    old = json.loads(
        json.dumps(TYPES.description).replace("proof_needs_rights", "barred").replace("also_held", "beside")
    )
    found = GroupReader(TYPES.reader(old)).frame(GroupWriter(TYPES).chunk(Frame(1, new)))
    assert found.snapshot.locks[0].proof_needs_rights
    assert found.snapshot.tracing is not None
    assert found.snapshot.tracing.orders == (ORDER,)


@given(seed=SEEDS)
@FEW
def test_types_of_another_version_are_converted(seed: int) -> None:
    several = any_snapshots(seed)
    theirs = json.loads(json.dumps(TYPES.description))
    reader = TYPES.reader({**theirs, "Unused": [["x", "int"]]})
    groups, writer = GroupReader(reader), GroupWriter(TYPES)
    for each in several:
        found = groups.frame(writer.chunk(Frame(1, each)))
        assert repr(found) == repr(Frame(1, lean(each)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["Lock"].remove(["kind", "str"]), "Lock has no kind"),
        (lambda d: d["Lock"].__setitem__(1, ["kind", "int"]), "Lock.kind is of another type"),
        (lambda d: d["Holder"].append(["evidence", ["of", "guess"]]), "Holder.evidence is of another type"),
        (lambda d: d.pop("Snapshot"), "no Snapshot"),
        (lambda d: d["Lock"].append(["more", ["class", "Nowhere"]]), "a class is not described"),
        (lambda d: d["Lock"].append(["more", ["many"]]), "a type is not one of the format"),
        (lambda d: d["Lock"].append("more"), "a field is not described"),
    ],
)
def test_types_that_do_not_fit_are_refused_with_the_field(change: object, says: str, tmp_path: Path) -> None:
    theirs = json.loads(json.dumps(TYPES.description))
    change(theirs)  # type: ignore[operator]
    told = json.loads(plain(encode_head(HEAD, TYPES)))
    head = Chunk(ChunkKind.HEAD, Compression.DEFLATE, 1, 1, deflated(json.dumps({**told, "types": theirs}).encode()))
    with pytest.raises(NotARecording, match=says):
        opened(encode(head), tmp_path)


def test_lacking_fields_get_their_defaults(tmp_path: Path) -> None:
    theirs = json.loads(json.dumps(TYPES.description))
    theirs["Snapshot"] = theirs["Snapshot"][:5]
    told = json.loads(plain(encode_head(HEAD, TYPES)))
    head = Chunk(ChunkKind.HEAD, Compression.DEFLATE, 1, 1, deflated(json.dumps({**told, "types": theirs}).encode()))
    assert opened(encode(head), tmp_path) == []
    reader = TYPES.reader(theirs)
    assert reader.convert(reader.codec.read_whole(Cursor(old_snapshot()), shared())).alive


def old_snapshot() -> bytes:
    return TYPES.reader(TYPES.description).codec.whole(snapshot(), shared())


def shared() -> object:
    from semtrace.record.codec import Shared

    return Shared()


def test_a_file_cut_anywhere_gives_all_that_was_whole(tmp_path: Path) -> None:
    several = frames(moving(4))
    chunks = recorded(several, group_ns=S // 3)  # two groups
    data, ends = b"".join(chunks), [sum(map(len, chunks[: n + 1])) for n in range(len(chunks))]
    for cut in range(ends[0], len(data) + 1):
        whole = sum(end <= cut for end in ends) - 1
        assert opened(data[:cut], tmp_path) == several[:whole], cut


def test_a_file_cut_inside_its_head_is_refused(tmp_path: Path) -> None:
    data = recorded([])[0]
    for length in (0, 1, 23, 24, len(data) - 1):
        with pytest.raises(NotARecording, match="cut off" if length > 2 else "not a recording"):
            opened(data[:length], tmp_path)


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
@FEW
def test_flipped_bits_lose_no_more_than_their_group(
    place: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    several = frames(moving(12))
    chunks = recorded(several, group_ns=S)
    data = bytearray(b"".join(chunks))
    at = len(chunks[0]) + place % (len(data) - len(chunks[0]))
    data[at] ^= 1 << bit
    found = opened(bytes(data), tmp_path_factory.getbasetemp())
    assert found == [each for each in several if each in found], "what comes back was recorded"
    assert len(found) >= len(several) - 5, "a group has five snapshots"


def test_damage_is_counted_once_and_reported(tmp_path: Path) -> None:
    chunks = recorded(frames(moving(20)), group_ns=S)
    chunks[7] = b"\0" * len(chunks[7])
    path = tmp_path / "x"
    path.write_bytes(b"".join(chunks))
    said: list[str] = []
    with Replay(path, Limits(), said.append) as replay:
        assert len(list(replay.between(None, None))) == len(list(replay.between(None, None))) < 20
        lost = replay.recording.lost
    assert len(chunks[7]) <= lost <= sum(map(len, chunks[7:12]))
    assert said == [f"{size(lost)} of {path} are damaged: snapshots are missing there"]


def test_file_truncated_at_its_end_is_not_called_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "x", frames(moving(20)))
    path.write_bytes(path.read_bytes()[:-5])
    said: list[str] = []
    with Replay(path, Limits(), said.append) as replay:
        assert len(list(replay.between(None, None))) == 19
    assert said == []


@pytest.mark.parametrize("count", [1, 5, 400])
def test_any_moment_is_found(count: int, tmp_path: Path) -> None:
    several = frames(moving(count, step_s=1.0))
    recording = Recording(write(tmp_path / "x", several, group_ns=2 * S))
    times = [time_of(frame) for frame in several]
    assert recording.span() == (times[0], times[-1])
    for number in {0, count // 3, count // 2, count - 1}:
        assert recording.at(times[number]) == several[number]
        assert recording.at(times[number] + 0.5) == several[number]
        assert list(recording.frames(times[number] - 2.0, times[number])) == several[max(0, number - 2) : number + 1]
    assert recording.at(0.0) == several[0]
    recording.close()


def test_a_last_picture_keeps_its_findings_and_its_time(tmp_path: Path) -> None:
    from support.finding_cases import cases

    found = tuple(finding for _, finding in cases())
    last = replace(moving(1)[0], alive=False, findings=found)
    (frame,) = opened(b"".join(recorded([Frame(107 * S, last)])), tmp_path)
    assert frame == Frame(107 * S, last)
    assert time_of(frame) == pytest.approx(last.taken_at + 7)


def test_a_file_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.semrec"
    File(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="is there already"):
        File(path)
    with pytest.raises(CannotWrite, match="No such file"):
        File(tmp_path / "no" / "x")


def test_a_full_file_ends_with_a_whole_chunk(tmp_path: Path) -> None:
    several = frames(moving(9))
    chunks = [decode(each) or pytest.fail("not whole") for each in recorded(several)]
    file = File(tmp_path / "x", sum(each.size for each in chunks[:4]) + 3)
    with pytest.raises(Full):
        file.write(chunks)
    file.close()
    assert opened((tmp_path / "x").read_bytes(), tmp_path) == several[:3]


def test_a_full_disk_is_told_with_what_stays() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    file = File.__new__(File)
    file.path, file.size, file._most, file._fd = Path("/dev/full"), 0, None, os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(CannotWrite, match="No space left on device; what was recorded before can be read"):
        file.write([Chunk(ChunkKind.HEAD, 0, 1, 1, b"x")])
    file.close()


def test_a_ring_keeps_whole_groups_of_the_last_time() -> None:
    ring, writer = Ring(20 * S, 1 << 30), GroupWriter(TYPES)
    several = frames(moving(100, step_s=1.0))
    for frame in several:
        ring.add(writer.chunk(frame))
    reader = GroupReader(TYPES.reader(TYPES.description))
    assert [reader.frame(chunk) for chunk in ring.taken()] == several[70:]
    assert list(ring.taken()) == []


def test_numbers_of_any_length_are_refused() -> None:
    for data in (b"\xff" * 30, b"", b"\x80"):
        with pytest.raises(Damaged):
            Cursor(data).signed()
    assert Cursor(signed(-(1 << 64))).signed() == -(1 << 64)


def test_a_compressed_bomb_is_not_unpacked() -> None:
    bomb = Chunk(ChunkKind.EVENTS, Compression.DEFLATE, 1, 1, deflated(bytes(1 << 24)))
    with pytest.raises(Damaged, match="longer than the format allows"):
        plain(bomb)


@pytest.mark.skipif(zstd() is None, reason="this Python has no zstd")
def test_zstd_is_read_where_python_has_it() -> None:
    packed = zstd().compress(b"x" * 100)  # type: ignore[union-attr]
    assert plain(Chunk(ChunkKind.EVENTS, Compression.ZSTD, 1, 1, packed)) == b"x" * 100
    with pytest.raises(Damaged):
        plain(Chunk(ChunkKind.EVENTS, Compression.ZSTD, 1, 1, packed), 10)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("+90", 1_700_000_090.0),
        ("+1.5m", 1_700_000_090.0),
        ("-10s", 1_700_000_190.0),
        ("2023-11-14T22:14:20Z", 1_700_000_060.0),
        ("2023-11-14T22:14:20.5Z", 1_700_000_060.5),
        ("2023-11-14T23:14:20+01:00", 1_700_000_060.0),
    ],
)
def test_moments_are_understood(text: str, at: float) -> None:
    assert parse_moment(text).within(1_700_000_000.0, 1_700_000_200.0) == pytest.approx(at)


def test_time_of_day_is_the_last_one_before_the_end() -> None:
    found = parse_moment("9:05:07.5").within(1_700_000_000.0, 1_700_000_200.0)
    assert 0 <= 1_700_000_201 - found <= 86_400
    assert found % 60 == pytest.approx(7.5)


@pytest.mark.parametrize("text", ["", "x", "+", "25:00", "12", "2023-13-01", "-1y"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_moment(text)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("/dev/null")):
        with pytest.raises(SemtraceError, match="cannot open"):
            Recording(path)
