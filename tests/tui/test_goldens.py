"""The whole main screen as text. SEMTRACE_UPDATE_GOLDENS=1 rewrites the files: look at them before you commit."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tui import fakes
from tui.looking import looking

GOLDEN = Path(__file__).parent / "golden"

SCREENS = {
    "states-80x24": (fakes.picture(), (80, 24)),
    "states-160x45": (fakes.picture(), (160, 45)),
    "states-40x12": (fakes.picture(), (40, 12)),
    "threads-80x24": (fakes.picture(thread_locks=fakes.thread_locks(), problems=(fakes.refused(),)), (80, 24)),
    "findings-80x24": (fakes.picture(findings=(fakes.finding(), fakes.finding("long-hold", "warning"))), (80, 24)),
    "crowd-80x24": (fakes.crowd(64), (80, 24)),
    "crowd-160x45": (fakes.crowd(64), (160, 45)),
    "empty-80x24": (fakes.picture((), [fakes.master(), fakes.worker(4711)]), (80, 24)),
}


@pytest.mark.parametrize("name", SCREENS)
def test_the_screen_is_as_it_was(name: str) -> None:
    snapshot, size = SCREENS[name]
    seen = asyncio.run(_screen(snapshot, size))
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("SEMTRACE_UPDATE_GOLDENS"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(seen)
    assert seen == golden.read_text(), f"see {golden}"


async def _screen(snapshot: fakes.Snapshot, size: tuple[int, int]) -> str:
    async with looking(fakes.Script(snapshot), size) as seen:
        await seen.until(lambda: "Looking at" not in seen.text and seen.app.screen.snapshot is not None)  # type: ignore[attr-defined]
        await seen.pilot.pause()
        return seen.text + "\n"
