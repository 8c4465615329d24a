"""Every screen as text, a few as pictures. SEMTRACE_UPDATE_GOLDENS=1 rewrites the files: look at them before you
commit."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import time
from pathlib import Path

import pytest
from support import scenes
from support.screens import live_view

from semtrace.tui.terminal.saving import without_fonts

DRAWN_WITH = "8.2.8"
GOLDEN = Path(__file__).parent / "golden"

SCREENS = {
    "states-80x24": (scenes.picture(), (80, 24)),
    "states-160x45": (scenes.picture(), (160, 45)),
    "states-120x40": (scenes.picture(), (120, 40)),
    "states-40x12": (scenes.picture(), (40, 12)),
    "threads-80x24": (scenes.picture(thread_locks=scenes.thread_locks(), problems=(scenes.refused(),)), (80, 24)),
    "findings-80x24": (scenes.picture(findings=(scenes.finding(), scenes.finding("long-hold", "warning"))), (80, 24)),
    "findings-160x45": (scenes.picture(findings=(scenes.finding(), scenes.finding("long-hold", "warning"))), (160, 45)),
    "crowd-80x24": (scenes.crowd(64), (80, 24)),
    "crowd-160x45": (scenes.crowd(64), (160, 45)),
    "empty-80x24": (scenes.picture((), [scenes.master(), scenes.worker(4711)]), (80, 24)),
}


VIEWS: dict[str, tuple[str, ...]] = {
    "timeline": ("t",),
    "locks-timeline": ("t", "l"),
    "blocking": ("w",),
    "findings": ("f",),
    "events": ("e",),
    "lock": ("g", "enter"),
    "worker": ("shift+tab", "g", "down", "enter"),
    "release": ("g", "R"),
    "problems": ("p",),
    "help": ("question_mark",),
    "settings": (",",),
    "leaving": ("q",),
}
SIZES = {"80x24": (80, 24), "160x45": (160, 45)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_as_it_was(name: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere")
    compare(f"view-{name}-{size}", asyncio.run(_view(VIEWS[name], SIZES[size])))


@pytest.mark.skipif(
    importlib.metadata.version("textual") != DRAWN_WITH, reason=f"the pictures were drawn by Textual {DRAWN_WITH}"
)
@pytest.mark.parametrize("name", ["timeline", "findings"])
def test_a_picture_is_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its colours, which the text does not have."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.delenv("NO_COLOR", raising=False)
    seen = asyncio.run(_view(VIEWS[name], (80, 24), svg=True))
    compare(f"picture-{name}", re.sub(r"terminal-\d+", "terminal", seen), "svg")


async def _view(keys: tuple[str, ...], size: tuple[int, int], svg: bool = False) -> str:
    """After half a minute in which the server went from well to what `scenes.eventful` ends with."""
    pictures = list(scenes.eventful())
    source = scenes.Script(pictures[0])
    child = scenes.FakeChild() if keys == VIEWS["leaving"] else None
    async with live_view(source, size, release=lambda server, lock: (), child=child) as seen:
        for picture in pictures:
            source.show(picture)
            await seen.until(lambda: seen.app.main.view_state.snapshot is picture, "the picture")  # type: ignore[union-attr]  # noqa: B023
        await seen.press(*keys)
        await seen.pilot.pause()
        await seen.until(lambda: seen.text.strip(), "the view")
        await seen.pilot.pause()
        return without_fonts(seen.app.export_screenshot(title="semtrace")) if svg else seen.text + "\n"


def test_the_list_of_servers_is_as_it_was() -> None:
    servers = [scenes.server(), scenes.server(5120, "shop:app"), scenes.server(6001, "shop.admin:app")]

    async def story() -> str:
        async with live_view(scenes.Script(scenes.picture()), (80, 24), servers=servers) as seen:
            await seen.sees("shop.admin")
            return seen.text + "\n"

    compare("chooser-80x24", asyncio.run(story()))


@pytest.mark.parametrize("name", SCREENS)
def test_the_screen_is_as_it_was(name: str) -> None:
    snapshot, size = SCREENS[name]
    compare(name, asyncio.run(_screen(snapshot, size)))


def compare(name: str, seen: str, suffix: str = "txt") -> None:
    golden = GOLDEN / f"{name}.{suffix}"
    if os.environ.get("SEMTRACE_UPDATE_GOLDENS"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(seen)
    assert seen == golden.read_text(), f"see {golden}"


async def _screen(snapshot: scenes.Snapshot, size: tuple[int, int]) -> str:
    async with live_view(scenes.Script(snapshot), size) as seen:
        await seen.until(lambda: "Looking at" not in seen.text and seen.app.screen.snapshot is not None)  # type: ignore[attr-defined]
        await seen.pilot.pause()
        return seen.text + "\n"
