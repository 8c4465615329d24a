"""The live view of a recording: it plays, stands, steps and jumps."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import frames, moving, write
from sick import lock
from tui.looking import looking

from semtrace.model import Snapshot
from semtrace.record.moments import parse_moment
from semtrace.record.player import SPEEDS, Player
from semtrace.record.reader import time_of
from semtrace.rules import Limits


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
    assert player.event(1)
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
        async with looking(lambda server: player, (150, 36), player=player) as seen:  # type: ignore[arg-type]
            await seen.sees("Locks", "stands")
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
    from tui.fakes import Script, picture

    async def go() -> None:
        async with looking(Script(picture()), (150, 36)) as seen:
            await seen.sees("Locks")
            await seen.press("n", "right_square_bracket", "right_curly_bracket")
            await seen.sees("Locks")

    asyncio.run(go())
