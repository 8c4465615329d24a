"""The application under a Pilot, and what its screen says. Tests wait for what they expect, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

from textual.pilot import Pilot

from semtrace.model import Server
from semtrace.settings import Settings
from semtrace.tui.app import SemtraceApp
from semtrace.tui.child import Child
from semtrace.tui.health import Examine
from semtrace.tui.meter import Meter
from semtrace.tui.remembered import Remembered
from semtrace.tui.state import AcquiredAt, LookUp, Player, Recorder, Release, TakeStacks, Tools

from . import scenes
from .processes import PATIENCE_S

# A message of one widget to the next takes a turn of the loop; what is drawn waits for a tick of 1/60 s.
_TURNS, _TICK_S = 25, 0.02

SIZES = ((80, 24), (160, 45), (40, 12))


class LiveView:
    """What a user can do: press keys and read the screen."""

    def __init__(self, app: SemtraceApp, pilot: Pilot[int]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def lines(self) -> list[str]:
        update = self.app.screen._compositor.render_full_update()
        return ["".join(segment.text for strip in line for segment in strip).rstrip() for line in update.strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def line(self, part: str) -> str:
        """The first line with `part` in it, or nothing."""
        return next((line for line in self.lines if part in line), "")

    def order(self, *parts: str) -> list[str]:
        """The parts as they follow each other down the screen; what is not there is left out."""
        text = self.text
        return sorted((part for part in parts if part in text), key=text.index)

    def style_of(self, part: str) -> set[str]:
        """The styles in which `part` is drawn, as Rich writes them."""
        update = self.app.screen._compositor.render_full_update()
        return {
            str(segment.style) for line in update.strips for strip in line for segment in strip if part in segment.text
        }

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what or condition}; the screen:\n{self.text}"
            await self.pilot.pause(0.005)

    async def sees(self, *parts: str) -> None:
        await self.until(lambda: all(part in self.text for part in parts), f"{parts}")

    async def misses(self, *parts: str) -> None:
        await self.until(lambda: not any(part in self.text for part in parts), f"no {parts}")


async def _handled(min_sleep: float = 0.0, max_sleep: float = 0.0) -> None:
    """Let the messages be handled that a key leads to.

    Textual's own wait ends when the process has nothing to do, or after a second. Here the poller always has something
    to do, and every key would cost two seconds.
    """
    for pause_s in (0.0,) * _TURNS + (_TICK_S,) + (0.0,) * _TURNS:
        await asyncio.sleep(pause_s)


@asynccontextmanager
async def live_view(
    source: scenes.Script,
    size: tuple[int, int] = (80, 24),
    servers: Sequence[Server] | None = None,
    find: Callable[[], Sequence[Server]] | None = None,
    child: Child | None = None,
    release: Release | None = None,
    stacks: TakeStacks | None = None,
    folder: Path | None = None,
    look_up: LookUp | None = None,
    settings: Settings | None = None,
    remembered: Remembered | None = None,
    player: Player | None = None,
    recorder: Recorder | None = None,
    examine: Examine | None = None,
    acquired_at: AcquiredAt | None = None,
    story: str = "",
) -> AsyncIterator[LiveView]:
    """Each picture is shown as soon as it is there; the header's figures stand still."""
    known = servers or [scenes.server()]
    app = SemtraceApp(
        known,
        find or (lambda: known),
        source,
        settings=settings or Settings(interval=0.01),
        child=child,
        tools=Tools(release, stacks, folder, look_up, player, recorder, examine, acquired_at, story),
        remembered=remembered,
        meter=Meter(lambda: 0.0, lambda: 0.0),
        clock=lambda: scenes.BOOT + 60,
        colours="many",
    )
    with patch("textual.app.wait_for_idle", _handled), patch("textual.pilot.wait_for_idle", _handled):
        async with app.run_test(size=size) as pilot:
            yield LiveView(app, pilot)
