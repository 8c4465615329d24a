"""`R` on an orphaned lock: the evidence, the question, the act, the outcome."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

from support import PATIENCE_S, scenes
from support.scenes import Script, lock, picture, sem, waiter
from support.screens import LiveView, live_view

from semtrace.errors import Refused
from semtrace.model import SemId, Server, Snapshot

ORPHAN = lock(104, name="myapp.db.write_lock", state="orphaned", waiters=(waiter(4714, 75.0),), reason="40 readings")
Scenario = Callable[[LiveView, Script, "Releaser"], Awaitable[None]]


class Releaser:
    """Stands for the release: it lasts until it is let go, and gives or raises what it was told."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, SemId]] = []
        self.may_end = threading.Event()
        self.outcome: Sequence[str] | Exception = ["Released it: value 0 -> 1", "  PID 4714 continued"]

    def __call__(self, server: Server, semaphore: SemId) -> Sequence[str]:
        self.asked.append((server.pid, semaphore))
        assert self.may_end.wait(PATIENCE_S)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def play(scenario: Scenario, first: Snapshot | None = None, size: tuple[int, int] = (80, 24)) -> None:
    async def go() -> None:
        source, releaser = Script(first or picture([ORPHAN])), Releaser()
        async with live_view(source, size, release=releaser) as seen:
            try:
                await seen.sees("Locks")
                await seen.until(lambda: seen.app.screen.snapshot is not None)  # type: ignore[attr-defined]
                await scenario(seen, source, releaser)
            finally:
                releaser.may_end.set()

    asyncio.run(go())


def test_evidence_is_shown_and_nothing_is_done_until_confirmation() -> None:
    async def scenario(seen: LiveView, source: Script, releaser: Releaser) -> None:
        await seen.press("R")
        await seen.sees("Release myapp.db.write_lock?", "40 readings", "1 thread waits", "4714", "release it")
        await seen.press("R", "r", "down", "space", "k")
        assert not releaser.asked
        await seen.press("escape")
        await seen.sees("Locks")
        assert not releaser.asked

    play(scenario)


def test_confirmed_release_runs_once_in_background_and_shows_its_outcome() -> None:
    async def scenario(seen: LiveView, source: Script, releaser: Releaser) -> None:
        await seen.press("R", "Y", "Y")
        await seen.sees("Proving it once more")
        source.show(picture([lock(104, name="myapp.db.write_lock")]))
        await seen.press("Y")
        releaser.may_end.set()
        await seen.sees("value 0 -> 1", "4714 continued")
        await seen.press("Y")
        assert releaser.asked == [(4710, sem(104))]
        await seen.press("escape")
        await seen.sees("○ free")

    play(scenario)


def test_a_refusal_is_shown_with_its_remedy() -> None:
    async def scenario(seen: LiveView, source: Script, releaser: Releaser) -> None:
        releaser.outcome = Refused("it is not proved orphaned: PID 9 maps it too", "look again")
        releaser.may_end.set()
        await seen.press("R", "Y")
        await seen.sees("PID 9 maps it too", "look again")

    play(scenario)


def test_leaving_while_it_is_done_harms_nothing() -> None:
    async def scenario(seen: LiveView, source: Script, releaser: Releaser) -> None:
        await seen.press("R", "Y", "escape")
        await seen.sees("Locks")
        releaser.may_end.set()
        await seen.press("R")
        await seen.sees("Release myapp.db.write_lock?")

    play(scenario)


def test_what_is_not_orphaned_is_not_asked_about() -> None:
    async def scenario(seen: LiveView, source: Script, releaser: Releaser) -> None:
        await seen.press("R", "Y")
        await seen.sees("Locks")
        assert not releaser.asked

    play(scenario, picture([lock(104, name="myapp.db.write_lock", state="unknown")]))


def test_a_lock_that_somebody_released_meanwhile_is_not_released_again() -> None:
    async def scenario(seen: LiveView, source: Script, releaser: Releaser) -> None:
        await seen.press("R")
        await seen.sees("release it")
        source.show(picture([lock(104, name="myapp.db.write_lock")]))
        await seen.sees("not orphaned any more")
        await seen.press("Y")
        assert not releaser.asked

    play(scenario)


def test_orphaned_one_of_several_locks_of_a_name_is_released() -> None:
    async def scenario(seen: LiveView, source: Script, releaser: Releaser) -> None:
        releaser.may_end.set()
        await seen.press("R", "Y")
        await seen.sees("value 0 -> 1")
        assert releaser.asked == [(4710, sem(102))]

    alike = [
        lock(number, state, name="myapp.lock", separate=2, mapped_by=(scenes.pid(4700 + number),))
        for number, state in ((101, "free"), (102, "orphaned"))
    ]
    play(scenario, picture(alike))


def test_release_key_is_shown_in_help_and_under_the_lock() -> None:
    async def scenario(seen: LiveView, source: Script, releaser: Releaser) -> None:
        await seen.sees("R release")
        await seen.press("down")
        await seen.misses("R release")
        await seen.press("question_mark")
        await seen.sees("on an orphaned lock")

    play(scenario, picture([ORPHAN, lock(105, name="myapp.other")]), size=(160, 45))
