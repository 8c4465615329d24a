"""What every screen says of its picture: that the server has ended, that it stands still, what can be done about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from support.pythons import thinned
from support.scenes import FakeChild, Script, finding, holder, lock, picture, pid, sem, waiter
from support.screens import SIZES, LiveView, live_view

from semtrace.errors import NotPermitted
from semtrace.model import Advice, LastHolder, Remedy, Snapshot, VerdictReason
from semtrace.tui.screens.sheets import Page
from semtrace.tui.widgets.table import Table

Scenario = Callable[[LiveView, Script], Awaitable[None]]
VIEWS = ("question_mark", "comma", "f", "w", "t", "e", "p", "enter")
DEAD = LastHolder(pid(4711), 4711, 12.0, 3.0, 11.0)
ORPHAN = lock(1, "orphaned", name="myapp.lock", waiters=(waiter(4712),), last_holder=DEAD)
JUDGED = finding("orphaned-lock", lock=sem(1), facts=(VerdictReason("last seen held by PID 4711 at /srv/app.py:7"),))


def play(scenario: Scenario, first: Snapshot, size: tuple[int, int] = (80, 24), **given: object) -> None:
    async def go() -> None:
        source = Script(first)
        async with live_view(source, size, **given) as seen:  # type: ignore[arg-type]
            await seen.sees("Locks")
            await seen.until(lambda: seen.app.main.view_state.snapshot is not None, "a picture")  # type: ignore[union-attr]
            await scenario(seen, source)

    asyncio.run(go())


@pytest.mark.parametrize(("key", "size"), thinned(VIEWS, SIZES))
def test_every_screen_says_that_the_server_has_ended(key: str, size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press(key)
        await seen.misses("Workers")
        source.show(picture(alive=False))
        await seen.sees("■ Server ended at")
        await seen.press("escape")
        await seen.sees("Workers", "■ Server ended at")

    play(scenario, picture(), size)


@pytest.mark.parametrize(("key", "size"), thinned(VIEWS, SIZES))
def test_every_paused_screen_shows_it_and_how_to_continue(key: str, size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press(key)
        await seen.misses("Workers")
        await seen.press("space")
        await seen.sees("⏸ PAUSED")
        await seen.until(lambda: "Space go on" in seen.lines[-1], "the way back in the footer")
        await seen.press("escape")
        await seen.sees("Workers", "⏸ PAUSED")
        assert "Space go on" in seen.lines[-1]
        await seen.press(key)
        await seen.sees("⏸ PAUSED")
        await seen.press("space")
        await seen.misses("⏸ PAUSED", "go on")

    play(scenario, picture(), size)


def test_paused_view_shows_a_read_failure_and_the_servers_end() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("f", "space")
        source.show(NotPermitted("it changed its user", "run as root"))
        await seen.sees("PAUSED", "it changed its user")
        source.show(picture(alive=False))
        await seen.sees("the server has ended meanwhile")
        await seen.press("space")
        await seen.sees("■ Server ended at")

    play(scenario, picture(), (160, 45))


def test_nothing_is_shown_as_current_after_the_end() -> None:
    held = lock(1, "held", name="myapp.lock", holders=(holder(4711),))

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("Then: myapp.lock is held by 4711")
        await seen.press("enter")
        await seen.sees("held then by", "waited then")
        assert "held by" not in seen.text
        assert "reading" not in seen.text
        await seen.press("w")
        await seen.sees("Nobody waited for anybody when it ended.")
        await seen.press("f")
        await seen.sees("Nothing wrong was seen before it ended.")

    play(scenario, picture([held], alive=False), stacks=lambda processes: ({}, ()))


@pytest.mark.parametrize("path", [(), ("enter",), ("f",), ("w",), ("w", "down"), ("t", "l")])
@pytest.mark.parametrize("key", ["R", "f9"])
def test_a_release_is_asked_for_wherever_the_orphan_is(path: tuple[str, ...], key: str) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press(*path)
        if path:
            await seen.misses("Workers")
            source.show(picture([ORPHAN], at_s=193.0, findings=(JUDGED,)))
        await seen.sees("R release")
        await seen.press(key)
        await seen.sees("Release myapp.lock?", "4711, seen so at", "12s ago", "/srv/app.py:7", "1 thread waits")
        assert not done
        await seen.press("y")
        await seen.sees("Released myapp.lock")
        assert "Release myapp.lock?" not in seen.text
        assert done == [sem(1)]

    done: list[object] = []

    def release(server: object, lock: object) -> list[str]:
        done.append(lock)
        return ["done"]

    play(scenario, picture([ORPHAN], findings=(JUDGED,)), (160, 45), release=release)


@pytest.mark.parametrize("key", ["w", "f", "t", "e", "question_mark"])
def test_without_an_orphan_the_release_key_explains_why_not(key: str) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press(key, "R")
        await seen.sees("only an orphaned lock" if key == "w" else "R releases an orphaned lock")

    busy = lock(2, "contended", name="app.b", holders=(holder(4711),), waiters=(waiter(4712),))
    play(scenario, picture([busy]), release=lambda server, lock: ["done"])


def test_of_an_ended_server_nothing_is_released() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        assert "R release" not in seen.text
        await seen.press("R")
        await seen.sees("the server has ended: there is nothing to release")

    play(scenario, picture([ORPHAN], alive=False), release=lambda server, lock: ["done"])


def test_release_follows_the_newest_snapshot_even_while_paused() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("space", "R")
        await seen.sees("Release myapp.lock?")
        source.show(picture([replace(ORPHAN, state="free")]))
        await seen.sees("It is not orphaned any more")
        await seen.press("y", "escape")
        await seen.sees("✖ orphaned")
        await seen.press("R")
        await seen.sees("only an orphaned lock")

    def never(server: object, lock: object) -> list[str]:
        raise AssertionError("nothing is orphaned")

    play(scenario, picture([ORPHAN]), release=never)


def test_a_refused_release_is_called_so_in_the_title() -> None:
    def refuse(server: object, lock: object) -> list[str]:
        raise NotPermitted("not proved", "look again")

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("R", "y")
        await seen.sees("Not released: myapp.lock", "look again")

    play(scenario, picture([ORPHAN]), release=refuse)


def test_last_holder_of_orphan_is_in_row_sentence_and_details() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("4711 held it last, 12s ago", "no living process holds it; 4711 did last.")
        await seen.press("enter")
        await seen.sees("held last by", "4711, seen so at", "12s ago, then for ≥3.0s; it was gone 11s ago")

    play(scenario, picture([ORPHAN]), (160, 45))


@pytest.mark.parametrize("key", ["f10", "q"])
def test_no_key_but_s_stops_a_server_of_ours(key: str) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("q")
        await seen.sees("Stop it or leave it running?")
        await seen.press(key)
        await seen.sees("Workers")
        assert seen.app.return_value is None
        await seen.press("f10")
        await seen.sees("Stop it or leave it running?")

    play(scenario, picture(), child=FakeChild())


def test_title_shows_the_name_as_soon_as_it_is_known() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("Lock 0:27:1")
        source.show(picture([lock(1, name="myapp.lock")]))
        await seen.sees("Lock myapp.lock")
        source.show(picture([]))
        await seen.sees("Lock myapp.lock", "It is gone.")

    play(scenario, picture([lock(1)]))


def test_a_sheet_that_is_opened_again_begins_at_its_top() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("question_mark", "end")
        await seen.until(lambda: seen.app.screen.query_one(Page)._top > 0, "the end")
        await seen.press("escape", "question_mark")
        await seen.sees("Keys and signs")
        await seen.until(lambda: seen.app.screen.query_one(Page)._top == 0, "the top")

    play(scenario, picture())


def test_findings_open_on_the_worst_and_reopen_as_they_were() -> None:
    worse = finding("orphaned-lock", lock=sem(9), name="worse.lock")
    first = finding("long-hold", "warning")
    second = finding("long-wait", "note")

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("f", "down")
        source.show(picture(findings=(worse, first, second)))
        await seen.sees("worse.lock")
        assert chosen(seen)[0] == "long-wait", "not while one looks"
        await seen.press("enter")
        await seen.sees("Workers")
        await seen.press("escape")
        await seen.sees("Findings")
        assert chosen(seen)[0] == "long-wait", "back where one was"
        await seen.press("escape", "f")
        await seen.until(lambda: chosen(seen)[0] == "orphaned-lock", "the worst")

    def chosen(seen: LiveView) -> tuple[str, ...]:
        return seen.app.screen.query_one(Table).selected  # type: ignore[return-value]

    play(scenario, picture(findings=(first, second)))


def test_cut_title_is_complete_below_and_codes_are_uncut() -> None:
    long = finding("inherited-hold", name=f"myapp.{'very_' * 10}long")

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("f")
        await seen.sees("inherited-hold", "what  myapp.very_", "forked")
        source.show(picture(findings=(finding("inherited-hold"),)))
        await seen.misses("very_")
        assert "what  " not in seen.text

    play(scenario, picture(findings=(long,)))


def test_command_in_a_remedy_has_its_own_line() -> None:
    command = "semtrace release 4710 myapp.db.write_lock_of_the_shop --audit /var/log/acts"
    remedy = Remedy((Advice.RESTART_TO_CLEAR,), tuple(command.split()))

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("f")
        await seen.sees("Restart the server", f" {command}\n")
        await seen.press("escape", "enter")
        await seen.sees("Restart the server", f" {command}\n")

    judged = finding("orphaned-lock", lock=sem(1), remedy=remedy)
    play(scenario, picture([ORPHAN], findings=(judged,)))


def test_escape_clears_every_filter_of_the_screen() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("slash", *"cache", "enter", "tab")
        await seen.misses("myapp.db.write_lock  ")
        await seen.press("escape")
        await seen.sees("myapp.db.write_lock  ")

    play(scenario, picture())


def test_the_overview_tells_the_worst_findings_where_there_is_room() -> None:
    many = tuple(finding("long-hold", "warning", lock=sem(200 + i), name=f"trouble{i}") for i in range(40))
    worst = finding(name="worst.of.all")

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees(
            "Findings  41 (f)",
            "error     PID 4711 waits for worst.of.all",
            "warning   PID 4711 has held trouble0",
            "more",
        )
        assert "trouble39" not in seen.text
        assert " 60s " in seen.text
        await seen.pilot.resize_terminal(80, 24)
        await seen.sees("40 more", "error     PID 4711 waits for worst.of.all")
        await seen.pilot.resize_terminal(80, 18)
        await seen.misses("worst.of.all")
        await seen.pilot.resize_terminal(160, 45)
        await seen.sees("worst.of.all")
        await seen.pilot.click("#brief", offset=(5, 3))
        await seen.sees("SEVERITY")
        await seen.press("escape")
        source.show(picture())
        await seen.misses("Findings")

    play(scenario, picture(findings=(worst, *many)), (160, 45))
