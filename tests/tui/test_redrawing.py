"""What is the same as before is not made or drawn again; what has changed is."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from dataclasses import replace

import pytest
from support import scenes
from support.scenes import Script, picture
from support.screens import live_view
from textual.geometry import Region
from textual.widget import Widget

from semtrace.timelines.raster import IDLE, Cell, Raster
from semtrace.timelines.timeline import Timeline
from semtrace.tui.app import SemtraceApp
from semtrace.tui.garbage import THRESHOLD, rarely_collected
from semtrace.tui.messages import Pictured
from semtrace.tui.terminal.palette import _TABLES, THEMES, Colours, style
from semtrace.tui.text import rows
from semtrace.tui.text.kept import Kept
from semtrace.tui.text.line import Item, Span, cells, spread, text_of
from semtrace.tui.text.marks import Marks
from semtrace.tui.widgets.line_widget import LineWidget


@pytest.mark.parametrize("colours", ["many", "some", "few", "none"])
def test_lines_are_drawn_as_textual_would(colours: Colours) -> None:
    async def scenario() -> None:
        app = SemtraceApp([scenes.server()], list, Script(picture()), colours=colours)
        async with app.run_test(size=(80, 24)) as pilot:
            app.on_pictured(Pictured(picture()))
            await pilot.pause()
            shown = [each for each in app.screen.query(LineWidget) if each.size]
            assert len(shown) > 5
            for widget in shown:
                crop = Region(0, 0, *widget.size)
                expected = Widget.render_lines(widget, crop)
                assert [list(strip) for strip in widget.render_lines(crop)] == [list(strip) for strip in expected]
                part = Region(3, 0, 20, 1)
                drawn, expected = widget.render_lines(part), Widget.render_lines(widget, part)
                assert [strip.text for strip in drawn] == [strip.text for strip in expected]
                assert colours not in THEMES or not widget._needed_filters(), "each costs at every line"
                assert widget.size == Widget.size.fget(widget)  # type: ignore[attr-defined]

    asyncio.run(scenario())


@pytest.mark.parametrize("colours", sorted(THEMES))
def test_themed_styles_have_no_colour_of_the_terminal(colours: Colours) -> None:
    for name in ("", *_TABLES[colours]):
        look = style(name, colours)
        assert look.color is not None
        assert look.bgcolor is not None
        assert look.color.triplet is not None
        assert look.bgcolor.triplet is not None
        assert not look.dim


def test_equal_pictures_draw_no_line_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        source = Script(picture())
        async with live_view(source) as seen:
            await seen.sees("myapp.lock")
            before, drawn = picture(), list[str]()
            monkeypatch.setattr(
                LineWidget, "_repaint", lambda widget, regions: drawn.extend([widget.id or ""] * len(regions))
            )
            seen.app.on_pictured(Pictured(replace(before, monotonic_s=192.05)))
            assert not {"workers", "locks", "keys", "sentence"} & set(drawn)
            changed = [replace(each, waiters=()) if each.name == "myapp.lock" else each for each in before.locks]
            seen.app.on_pictured(Pictured(picture(changed, at_s=192.1)))
            assert "locks" in drawn

    asyncio.run(scenario())


def test_rows_of_locks_are_made_again_only_for_changes() -> None:
    before, kept = picture(), rows.LockRows()
    first = kept.of(before, before.locks, Marks(before))
    changed = [replace(each, value=7) if each.name == "myapp.lock" else replace(each) for each in before.locks]
    after = picture(changed)
    second = kept.of(after, after.locks, Marks(after))
    assert second == rows.lock_rows(after, after.locks, Marks(after))
    assert [one is other for one, other in zip(first, second, strict=True)].count(False) == 1
    fewer = replace(after, processes=after.processes[:2])
    assert kept.of(fewer, fewer.locks, Marks(fewer)) == rows.lock_rows(fewer, fewer.locks, Marks(fewer))


def test_kept_value_is_made_again_for_another_key() -> None:
    kept: Kept[list[int]] = Kept()
    first = kept.of((1, "a"), lambda: [1])
    assert kept.of((1, "a"), lambda: [2]) is first
    assert kept.of((2, "a"), lambda: [3]) == [3]


def test_width_of_a_text_counts_cells() -> None:
    assert [cells(each) for each in ("", "plain", "größe", "日本", "a\tb")] == [0, 5, 5, 4, 2]


def test_spread_leaves_out_the_highest_order_first() -> None:
    items = [Item(order, (Span(text),)) for order, text in ((0, "one"), (2, "two"), (1, "three"))]
    right = [Item(3, (Span("right"),))]
    shown = [text_of(spread(items, right, width)).split() for width in (40, 22, 15, 8)]
    assert shown == [["one", "two", "three", "right"], ["one", "two", "three"], ["one", "three"], ["one"]]


def test_collector_is_as_before_after_the_view() -> None:
    gc.unfreeze()  # the end of `semtrace check` has frozen all, where that was called in this process before
    before = gc.get_threshold(), gc.get_freeze_count()
    with rarely_collected():
        assert gc.get_threshold()[0] == THRESHOLD
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_window_of_cells_moves_on_and_back() -> None:
    snapshots = list(scenes.eventful())
    timeline = Timeline()
    moving = Raster(timeline, "worker", 0.5)
    for snapshot in snapshots:
        timeline.add(snapshot)
        newest = int(snapshot.monotonic_s // 0.5)
        for first in (newest - 39, newest - 60, newest - 20):
            fresh = Raster(timeline, "worker", 0.5)
            for process in timeline.lives:
                expected = fresh.cells(process, first, 40, fresh.update(first))
                assert moving.cells(process, first, 40, moving.update(first)) == expected
    assert any(cell is not IDLE and isinstance(cell, Cell) for cell in expected)


def test_timer_ticks_though_the_thread_stood_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual takes in a new size by such a timer."""

    async def go() -> None:
        app = SemtraceApp([scenes.server()], list, Script(picture()))
        async with app.run_test() as pilot:
            ticked = asyncio.Event()
            later = itertools.count()

            def now() -> float:
                task = asyncio.current_task()
                return time.monotonic() + (next(later) if task is not None and task.get_name() == "late" else 0)

            monkeypatch.setattr("textual.timer._time.get_time", now)
            app.set_timer(1 / 120, ticked.set, name="late")
            await asyncio.wait_for(ticked.wait(), 10)
            monkeypatch.undo()
            await pilot.pause()

    asyncio.run(go())
