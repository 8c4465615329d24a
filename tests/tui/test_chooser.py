"""Several servers: a list to choose from, and the way back to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from support import scenes
from support.screens import live_view

from semtrace.errors import NoServer
from semtrace.present.headline import headline_text
from semtrace.rules.headline import Headline, headline
from semtrace.tui.screens.chooser import ChooserScreen

THREE = [
    scenes.server(),
    scenes.server(5000, "other.wsgi:app"),
    scenes.server(6000, "third:app", bind=("unix:/run/x.sock",)),
]


def test_list_distinguishes_servers_and_opens_one_and_returns() -> None:
    async def go() -> None:
        source = scenes.Script(scenes.picture())
        async with live_view(source, servers=THREE) as seen:
            await seen.sees("3 run on this machine", "other.wsgi:app", "127.0.0.1:8000", "5000", "1m00s")
            assert source.opened == 0
            await seen.press("j", "enter")
            await seen.sees("◐ contended")
            assert "other.wsgi:app" in seen.lines[1]
            await seen.press("b")
            await seen.sees("3 run on this machine")
            await seen.until(lambda: source.closed == 1, "the source closed")
            await seen.press("enter")
            await seen.sees("◐ contended")
            await seen.press("escape")
            await seen.sees("3 run on this machine")
            await seen.press("q")
        assert seen.app.return_value == 0

    asyncio.run(go())


def test_no_word_of_a_server_commands_the_terminal() -> None:
    evil = "\x1b]0;mine\x07\u202e\ud800"

    async def go() -> None:
        hostile = scenes.server(7000, evil, worker_class=evil, user=evil, version=evil, bind=(evil,))
        async with live_view(scenes.Script(scenes.picture(server=hostile)), (160, 24), [hostile, *THREE]) as seen:
            await seen.sees("4 run on this machine", "?]0;mine???")
            assert all(line.isprintable() for line in seen.lines)
            await seen.press("end", "enter")
            await seen.sees("◐ contended", "pid 7000")
            assert all(line.isprintable() for line in seen.lines)

    asyncio.run(go())


def test_list_can_be_filtered_and_its_footer_names_its_keys() -> None:
    async def go() -> None:
        async with live_view(scenes.Script(scenes.picture()), servers=THREE) as seen:
            await seen.sees("Enter open", "/ filter", "Esc q quit")
            assert "? help" not in seen.text
            await seen.press("slash", *"third", "enter")
            await seen.misses("other.wsgi:app")
            await seen.press("question_mark", "f", "S", "R", "space", "1")
            await seen.sees("third:app", "Enter open")
            await seen.press("escape")
            await seen.sees("other.wsgi:app")
            await seen.press("slash", *"third", "enter", "enter")
            await seen.sees("◐ contended")
            assert "third:app" in seen.lines[1]
            await seen.press("escape", "escape")
            await seen.sees("3 run on this machine")
            await seen.press("escape")
            await seen.until(lambda: seen.app.return_value == 0, "the end")

    asyncio.run(go())


def test_single_server_needs_no_list_and_has_no_way_back() -> None:
    async def go() -> None:
        async with live_view(scenes.Script(scenes.picture())) as seen:
            await seen.sees("◐ contended")
            await seen.press("b", "escape")
            await seen.pilot.pause()
            assert "◐ contended" in seen.text

    asyncio.run(go())


def test_list_of_servers_says_which_of_them_is_stuck() -> None:
    sick = headline(scenes.picture())

    def examine(server: scenes.Server) -> Headline:
        if server.pid == 6000:
            raise NoServer("it has ended", "")
        return sick if server.pid == 5000 else replace(sick, verdict="ok")

    async def go() -> None:
        async with live_view(scenes.Script(scenes.picture()), (160, 45), servers=THREE, examine=examine) as seen:
            await seen.sees("cannot be read")
            lines = {line.split()[0]: line for line in seen.text.splitlines() if line.strip()}
            assert headline_text(sick) in lines["5000"]
            assert "OK: " in lines[str(THREE[0].pid)]

    asyncio.run(go())


def test_servers_come_and_go_while_one_looks_at_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semtrace.tui.screens.chooser.REFRESH_S", 0.01)
    found = [THREE]

    def find() -> list[scenes.Server]:
        if not found[0]:
            raise NoServer("no gunicorn runs here", "start one")
        return found[0]

    async def go() -> None:
        async with live_view(scenes.Script(scenes.picture()), servers=THREE, find=find) as seen:
            await seen.sees("third:app")
            assert isinstance(seen.app.screen, ChooserScreen)
            found[0] = THREE[:2]
            await seen.misses("third:app")
            found[0] = []
            await seen.sees("no gunicorn runs here. start one")

    asyncio.run(go())
