"""What is below the tables: the worst finding or the timeline, chosen by a key; and the colour of old holds in it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.scenes import Script, finding, holder, lock, master, picture, pid, sem, waiter, worker
from support.screens import LiveView, live_view
from support.timelines import held

from semtrace.model import Snapshot
from semtrace.timelines.raster import Cell
from semtrace.timelines.timeline import Timeline
from semtrace.tui.remembered import Remembered
from semtrace.tui.terminal.palette import style
from semtrace.tui.text.line import text_of
from semtrace.tui.text.minute_chart import MinuteChart
from semtrace.tui.text.panes import LOWER, lower_called
from semtrace.tui.text.timeline_chart import TimelineChart, Window
from semtrace.tui.text.timeline_rows import row_line, strip_line

Scenario = Callable[[LiveView, Script], Awaitable[None]]


def play(
    scenario: Scenario, shown: Snapshot, size: tuple[int, int] = (120, 40), remembered: Remembered | None = None
) -> None:
    async def go() -> None:
        source = Script(shown)
        async with live_view(source, size, remembered=remembered) as seen:
            await seen.sees("Locks")
            await scenario(seen, source)

    asyncio.run(go())


def charted(seen: LiveView) -> list[str]:
    """The labels of the rows below the title of the timeline."""
    below = seen.lines[next(i for i, line in enumerate(seen.lines) if "Timeline (t)" in line) :]
    return re.findall(r"^ (\S+(?: worker| master)?) +[·━╪┄╬├╌]", "\n".join(below), re.MULTILINE)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 45)])
def test_room_below_the_tables_shows_the_timeline(size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("Timeline (t)")
        assert charted(seen) == ["4711 worker", "4712 worker", "4713 worker", "4710 master", "myapp.lock"]
        assert not [line for line in seen.lines if line.startswith(" 60s ")], "the strip would say it again"

    play(scenario, held(109), size)


def test_a_finding_takes_the_place_of_the_timeline() -> None:
    """Where there is no room for both; where there is, it comes first."""

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("Timeline (t)")
        source.show(held(110, findings=(finding(),)))
        await seen.sees("Findings", "evidence", " 60s ")
        await seen.misses("Timeline (t)")
        source.show(held(111))
        await seen.sees("Timeline (t)")
        await seen.misses("evidence", " 60s ")

    play(scenario, held(109), (120, 24))


@pytest.mark.parametrize("size", [(120, 40), (160, 45)])
def test_large_screens_show_the_finding_and_the_timeline(size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        order = ("Findings  1 (f)", "remedy", "evidence", "one more", "Timeline (t)")
        await seen.sees(*order)
        assert seen.order(*order) == list(order)
        assert charted(seen)[-1] == "myapp.lock"

    play(scenario, held(109, findings=(finding(),)), size)


def test_the_lower_pane_is_chosen_by_a_key_and_remembered(tmp_path: Path) -> None:
    path = tmp_path / "view.json"

    async def choose(seen: LiveView, source: Script) -> None:
        await seen.sees("evidence")
        await seen.press("B")
        await seen.sees("Timeline (t)", "below: the timeline", "B shows the next")
        await seen.misses("evidence")
        assert seen.line("error  "), "the worst finding keeps a line"

    async def look(seen: LiveView, source: Script) -> None:
        await seen.sees("Timeline (t)")
        await seen.press("B")
        await seen.misses("Timeline (t)", "evidence")
        await seen.sees(" 60s ", "error  ")
        await seen.press("B")
        await seen.sees("evidence")

    shown = held(109, findings=(finding(),))
    play(choose, shown, (120, 24), Remembered(path))
    assert Remembered(path).lower("gunicorn") == "timeline"
    play(look, shown, (120, 24), Remembered(path))


def test_an_unknown_lower_pane_is_the_usual_one() -> None:
    assert lower_called("odd") is LOWER[0]


def test_rows_that_a_filter_or_layout_hides_are_not_charted() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.until(lambda: "myapp.lock" in charted(seen), "the lock")
        await seen.press("slash", *"!myapp", "enter")
        await seen.until(lambda: "myapp.lock" not in charted(seen), "no lock")
        await seen.press("escape")
        await seen.until(lambda: "myapp.lock" in charted(seen), "the lock")
        await seen.press(*"LLL")
        await seen.until(lambda: charted(seen) == ["myapp.lock"], "the lock alone")

    play(scenario, held(109))


def test_a_click_on_the_chart_opens_the_timeline() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("Timeline (t)")
        await seen.pilot.click("#minute", offset=(40, 3))
        await seen.sees("Timeline of the workers")

    play(scenario, held(109))


def test_short_room_shows_rows_of_the_focus_and_counts_others() -> None:
    timeline, shown = Timeline(), held(109)
    timeline.add(shown)
    listed = [process.id for process in shown.processes], [each.id for each in shown.locks]
    chart = MinuteChart(timeline)

    def labels(height: int, first: str) -> list[str]:
        drawn = chart.draw(shown, listed, (80, height), first=first)  # type: ignore[arg-type]
        return [text_of(line).strip().split("  ")[0] for line in drawn[2:]]

    assert labels(5, "worker") == ["4711 worker", "4712 worker", "and 3 more"]
    assert labels(5, "lock") == ["4711 worker", "myapp.lock", "and 3 more"]
    assert labels(6, "worker") == ["4711 worker", "4712 worker", "4713 worker", "and 2 more"]
    assert labels(7, "worker")[-1] == "myapp.lock"
    assert labels(8, "worker")[-2:] == ["", "myapp.lock"]


def test_the_chart_is_drawn_once_a_second() -> None:
    timeline, chart = Timeline(), MinuteChart(Timeline())
    chart._timeline = timeline
    drawn = []
    for fifth in range(11):
        shown = held(109 + fifth / 5)
        timeline.add(shown)
        drawn.append(chart.draw(shown, ([pid(4711)], [sem(1)]), (80, 9)))
    assert len({id(each) for each in drawn}) == 3


# ---- the colour of an age


def long_hold(at_s: float, since_s: float, waits: bool = False) -> Snapshot:
    """4711 has held the lock since that time."""
    one = lock(
        1,
        name="myapp.lock",
        state="contended" if waits else "held",
        holders=(holder(4711, at_s - since_s),),
        waiters=(waiter(4712),) if waits else (),
    )
    return picture([one], [master(), worker(4711), worker(4712)], at_s=at_s)


@pytest.mark.parametrize("by", ["worker", "lock", "server"])
def test_each_cell_of_a_hold_has_its_age(by: str) -> None:
    timeline = Timeline()
    for second in range(100, 181):
        timeline.add(long_hold(second, 100))
    row = {"worker": pid(4711), "lock": sem(1), "server": None}[by]
    chart = TimelineChart(timeline, by)  # type: ignore[arg-type]
    ages = chart.ages(Window(100, 81, 1.0))[row]
    assert [ages.count(each) for each in ("", "aged", "old")] == [10, 50, 21]
    timeline.add(picture([lock(1, name="myapp.lock")], [master(), worker(4711)], at_s=181))
    assert list(chart.ages(Window(100, 81, 1.0))[row]) == list(ages), "as it was, after the release"
    assert TimelineChart(timeline, by).ages(Window(100, 81, 1.0)) == {row: ages}  # type: ignore[arg-type]


def test_age_colours_holds_and_nothing_that_is_worse() -> None:
    cells = [Cell("held"), Cell("held"), Cell("contended"), Cell("idle")]
    line = row_line("myapp.lock", cells, 12, None, False, "", ("", "old", "old", ""))
    assert [span.style for span in line[-4:]] == ["held", "old", "contended", "dim"]
    assert strip_line(cells[1:2], ("aged",))[-1].style == "aged"
    assert row_line("x", cells, 4, 1, True, "", ("", "old", "old", ""))[-3].style == "old cursor"


def test_a_hold_of_minutes_is_not_green_in_the_timeline() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("t")
        await seen.sees("Timeline of the workers", "━━━━━━")
        assert seen.style_of("━━━━━━") == {str(style("old", "many"))}

    play(scenario, long_hold(500, 100))
