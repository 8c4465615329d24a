"""The live view of a recording: it plays, stands, steps and jumps."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from support.recordings import S, frames, moving, traced_bytes, traced_snapshot, write
from support.recordings import recorded as recorded_chunks
from support.screens import live_view
from support.snapshots import lock
from support.tracewriter import LOCK

from semtrace.model import Snapshot, Tracing
from semtrace.record.chunks import encode
from semtrace.record.eventlog import Legend, event_chunks, legend_chunk
from semtrace.record.moments import parse_moment
from semtrace.record.overview import Overview
from semtrace.record.player import SPEEDS, Player
from semtrace.record.reader import time_of
from semtrace.rules import Limits
from semtrace.timelines.overview import Cell, Seen, cells
from semtrace.tui.text.line import text_of
from semtrace.tui.widgets.replay_bar import replay_line


def sick_from(number: int) -> list[Snapshot]:
    """Twenty seconds, with an orphan from one snapshot on."""
    orphan = lock(state="orphaned", reason="locked in all 40 samples over 4.8 s; nobody holds it")
    several = moving(100)
    return [each if place < number else replace(each, locks=(orphan,)) for place, each in enumerate(several)]


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, list[Snapshot]]:
    several = sick_from(50)
    return write(tmp_path / "x", frames(several)), several


def test_a_player_moves_as_its_keys_say(recorded: tuple[Path, list[Snapshot]]) -> None:
    path, several = recorded
    clock = Time()
    player = Player(path, Limits(), now=clock)

    def at() -> float:
        return player.snapshot().monotonic_s

    assert at() == several[0].monotonic_s
    player.step(1)
    assert at() == several[1].monotonic_s
    player.step(-1)
    player.step(-1)
    assert at() == several[0].monotonic_s
    player.toggle()
    clock.now += 2.0
    assert at() == several[10].monotonic_s
    player.faster(2)
    assert player.speed == SPEEDS[2]
    clock.now += 1.0
    assert at() == several[35].monotonic_s
    player.toggle()
    clock.now += 9.0
    assert at() == several[35].monotonic_s
    assert [each.monotonic_s for each in player.history()] == [each.monotonic_s for each in several[:36]]
    player.skip(-1000)
    assert at() == several[0].monotonic_s
    player.skip(1000)
    assert at() == several[-1].monotonic_s
    assert player.snapshot() is player.snapshot()
    player.close()


def test_a_player_jumps_to_findings_and_back(recorded: tuple[Path, list[Snapshot]]) -> None:
    path, several = recorded
    player = Player(path, Limits())
    assert player.event(1) == "app.lock is orphaned: the process that held it died"
    assert player.snapshot().monotonic_s == several[50].monotonic_s
    assert player.snapshot().findings[0].code == "orphaned-lock"
    assert not player.event(1)
    player.skip(5.0)
    assert player.event(-1)
    assert player.snapshot().monotonic_s == several[50].monotonic_s
    player.close()


def test_a_player_begins_at_a_moment(recorded: tuple[Path, list[Snapshot]]) -> None:
    path, several = recorded
    player = Player(path, Limits(), parse_moment("+4s"))
    assert player.snapshot().monotonic_s == several[20].monotonic_s
    assert player.position == pytest.approx(time_of(frames(several)[20]))
    player.close()


def test_keys_of_a_recording_reach_it_in_the_live_view(recorded: tuple[Path, list[Snapshot]]) -> None:
    path, _ = recorded
    player = Player(path, Limits())

    async def go() -> None:
        async with live_view(lambda server: player, (150, 36), player=player) as seen:  # type: ignore[arg-type]
            await seen.sees("Locks", "⏸", "+0.0s of 19s")
            await seen.press("n")
            await seen.sees("app.lock is orphaned", "+10s of 19s")
            await seen.press("left_square_bracket")
            await seen.sees("OK:", "+9.8s of 19s")
            await seen.press("right_curly_bracket")
            await seen.sees("+19s of 19s")
            await seen.press("N")
            await seen.sees("+10s of 19s")
            await seen.press("n")
            await seen.sees("there is no other finding or death")
            await seen.press("greater_than_sign", "space")
            await seen.sees("×2")

    asyncio.run(go())


def test_without_a_recording_its_keys_do_nothing() -> None:
    from support.scenes import Script, picture

    async def go() -> None:
        async with live_view(Script(picture()), (150, 36)) as seen:
            await seen.sees("Locks")
            await seen.press("n", "right_square_bracket", "right_curly_bracket")
            await seen.sees("Locks")

    asyncio.run(go())


@pytest.mark.parametrize("view", ["", "t"])
def test_a_time_that_is_typed_is_gone_to(recorded: tuple[Path, list[Snapshot]], view: str) -> None:
    path, _ = recorded
    player = Player(path, Limits())
    player.prepare()

    async def go() -> None:
        async with live_view(lambda server: player, (80, 24), player=player) as seen:  # type: ignore[arg-type]
            await seen.sees("Locks", "+0.0s of 19s")
            if view:
                await seen.press(view)
            await seen.press("T", "plus", "9", "s")
            await seen.sees("+9s")
            await seen.press("enter")
            await seen.sees("+9.0s of 19s")
            await seen.press("T", "x", "enter")
            await seen.sees("'x' is not a time")
            await seen.press("T", "minus", "1", "s", "escape", "right_square_bracket")
            await seen.sees("+9.2s of 19s")
            bar = seen.line("+9.2s of 19s")
            assert bar.count("✖") == 1, "where the finding begins"

    asyncio.run(go())


def test_a_click_on_the_bar_goes_there(recorded: tuple[Path, list[Snapshot]]) -> None:
    path, _ = recorded
    player = Player(path, Limits())
    player.prepare()

    async def go() -> None:
        async with live_view(lambda server: player, (80, 24), player=player) as seen:  # type: ignore[arg-type]
            await seen.sees("Locks", "✖")
            place = seen.line("✖").index("✖")
            await seen.pilot.click("#replay", offset=(place, 0))
            await seen.sees("+9.9s of 19s")

    asyncio.run(go())


def test_the_bar_keeps_to_narrow_and_to_empty_terminals() -> None:
    several = [Cell(), Cell(0), Cell(1), Cell(8), Cell(4, "error", True), Cell(4, "error"), Cell(0, None, False, True)]

    def line(width: int) -> str:
        return text_of(replay_line(True, "+1s", 0.5, lambda count: (several * count)[:count], width))

    assert line(40)[7:14] == " ·▁█✖▄†"
    assert all(len(line(width)) == width for width in range(1, 90))


def test_cells_show_gaps_the_most_waiters_and_where_findings_begin() -> None:
    bad = frozenset([("error", "x")])
    seen = [Seen(0.0, 1), Seen(1.0, 3), Seen(5.0, 0, bad), Seen(6.0, 2, bad)]  # type: ignore[arg-type]
    found = cells(seen, [8.5], (0.0, 10.0), 10, 2.0)
    assert [cell.waiters for cell in found] == [1, 3, 3, 3, None, 0, 2, 2, 2, None]
    assert [cell.begins for cell in found].index(True) == 5
    assert [cell.severity for cell in found][5:9] == ["error"] * 4
    assert [place for place, cell in enumerate(found) if cell.died] == [8]
    assert cells([], [], (5.0, 5.0), 3, 1.0) == [Cell()] * 3


def test_an_overview_of_a_long_recording_takes_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "x", frames(moving(200, step_s=1.0)))
    overview = Overview(path, Limits())
    with patch("semtrace.record.overview.MOST_FRAMES", 50), patch("semtrace.record.overview._SAMPLES", 25):
        overview.gather()
    found = overview.cells(50)
    assert all(cell.waiters is not None for cell in found)


def test_events_before_the_moment_are_shown(tmp_path: Path) -> None:
    legend = Legend({}, {LOCK: "app.traced"}, {}, frozenset({0}))
    several = [replace(traced_snapshot(each), tracing=Tracing(True)) for each in moving(40)]
    chunks = recorded_chunks(frames(several))
    chunks[6:6] = map(encode, [legend_chunk(legend, 101 * S), *event_chunks(0, traced_bytes(50), 101 * S)])
    path = tmp_path / "x"
    path.write_bytes(b"".join(chunks))
    player = Player(path, Limits(), parse_moment("+0.2s"))
    tracing = player.snapshot().tracing
    assert tracing is not None
    assert tracing.recent == ()
    player.prepare()
    snapshot = player.snapshot()
    assert snapshot.tracing is not None
    recent = snapshot.tracing.recent
    assert recent
    assert 100.1 < max(event.t_s for event in recent) <= snapshot.monotonic_s
    assert {event.name for event in recent} == {"app.traced"}
    history = player.history()[-1].tracing
    assert history is not None
    assert history.recent == recent
    player.go("+3s")
    later = player.snapshot().tracing
    assert later is not None
    assert len(later.recent) == 100
    player.close()


class FakeRecorder:
    def __init__(self) -> None:
        self.running = False
        self.ended = ""
        self.asked: list[object] = []

    def start(self, pid: int, events: bool) -> str:
        self.asked.append((pid, events))
        self.running = True
        return "recording to /x.semrec"

    def stop(self) -> str:
        self.running = False
        return "3 snapshots in /x.semrec"

    def news(self) -> str:
        said, self.ended = self.ended, ""
        return said


def test_a_key_starts_and_stops_a_recording() -> None:
    from support.scenes import Script, picture

    async def go() -> None:
        recorder = FakeRecorder()
        async with live_view(Script(picture()), (150, 36), recorder=recorder) as seen:
            await seen.sees("Locks")
            await seen.press("C")
            await seen.sees("recording to /x.semrec", "● REC")
            assert recorder.asked == [(picture().server.pid, False)]
            await seen.press("C")
            await seen.sees("3 snapshots in /x.semrec")
            await seen.misses("● REC")
            recorder.ended = "/x.semrec has reached --max-size"
            await seen.sees("/x.semrec has reached --max-size")

    asyncio.run(go())


def test_without_a_recorder_its_key_says_so() -> None:
    from support.scenes import Script, picture

    async def go() -> None:
        async with live_view(Script(picture()), (150, 36)) as seen:
            await seen.sees("Locks")
            await seen.press("C")
            await seen.sees("nothing is recorded from this view")

    asyncio.run(go())
