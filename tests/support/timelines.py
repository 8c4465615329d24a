"""A minute of a server as the timeline shows it, played to the live view."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from semtrace.model import Snapshot
from semtrace.tui.screens.timeline import TimelineScreen

from .scenes import Script, holder, lock, master, picture, waiter, worker
from .screens import LiveView, live_view

Scenario = Callable[[LiveView, Script], Awaitable[None]]


def play(scenario: Scenario, first: Snapshot, size: tuple[int, int] = (80, 24)) -> None:
    async def go() -> None:
        source = Script(first)
        async with live_view(source, size) as seen:
            await seen.sees("Locks")
            await scenario(seen, source)

    asyncio.run(go())


def held(at_s: float, who: int = 4711, **more: object) -> Snapshot:
    """One lock, held by `who`, and 4712 waits for it, `at_s` seconds after the server's start."""
    one = lock(1, name="myapp.lock", state="contended", holders=(holder(who),), waiters=(waiter(4712),))
    there = [master(), worker(4711), worker(4712), worker(4713)]
    return picture([one], there, at_s=at_s, **more)


async def minute(seen: LiveView, source: Script, until: int = 60) -> None:
    """Pictures of a minute: 4711 has it for half of the time, then 4713."""
    for second in range(10, until):
        source.show(held(100 + second, 4711 if second < 35 else 4713))
        await seen.until(lambda: seen.app.main.view_state.timeline.last == 100 + second, "the picture")  # noqa: B023


def column(seen: LiveView) -> int:
    screen = seen.app.screen
    assert isinstance(screen, TimelineScreen)
    return screen._cursor() - screen._first()
