"""The timeline's rows, what its cursor reads out, and its keys."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.scenes import Script, holder, lock, master, picture, pid, sem, waiter, worker
from support.screens import SIZES, LiveView, live_view
from support.timelines import column, held, minute, play

from semtrace.model import Snapshot, TracedEvent, Tracing, Waiter
from semtrace.settings import Settings
from semtrace.timelines.raster import IDLE, UNKNOWN, Cell
from semtrace.timelines.spans import Span
from semtrace.timelines.timeline import Timeline
from semtrace.tui.text.line import spread, text_of
from semtrace.tui.text.timeline_readout import readout, tell
from semtrace.tui.text.timeline_rows import (
    Now,
    TimelineRow,
    arranged,
    axis_line,
    chart_height,
    label_width,
    legend_line,
    row_line,
    title_items,
    with_unseen,
)

NAME = "demo_app.mistakes.savings_lock"


async def shown(seen: LiveView, source: Script, *pictures: Snapshot) -> None:
    """Each of them was taken in."""
    for each in pictures:
        source.show(each)
        timeline = seen.app.main.view_state.timeline  # type: ignore[union-attr]
        await seen.until(lambda: timeline.last == each.monotonic_s, "the picture")  # noqa: B023


def threaded(at_s: float) -> Snapshot:
    """4711 holds it in one thread, three others of it wait, and two of 4712."""
    waits = [Waiter(pid(4711), 9000 + i, 10.0 * i) for i in range(1, 4)] + [waiter(4712, 40.0), waiter(4713, 1.0)]
    one = lock(1, name=NAME, state="contended", holders=(holder(4711),), waiters=tuple(waits))
    return picture([one], [master(), *map(worker, (4711, 4712, 4713))], at_s=at_s)


def rows_of(seen: LiveView) -> list[str]:
    return re.findall(r"^[ ⚠](\d+ \w+|\S*lock\S*) +[·━╪┄╬├╌]", "\n".join(seen.lines), re.MULTILINE)


@pytest.mark.parametrize("size", SIZES[:2])
def test_readout_has_the_holder_first_then_the_longest_waits(size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await shown(seen, source, *(threaded(100 + i) for i in range(10)))
        await seen.press("t")
        await seen.sees("╬", f"4711 holds {NAME}")
        at = next(i for i, line in enumerate(seen.lines) if "4711 worker" in line)
        await seen.pilot.click("Chart", offset=(2, at - 2))
        order = ("4711 holds", "4711/9003 waits", "4711/9002 waits", "4711/9001 waits", "4712 waits", "4713 waits")
        assert seen.order(*order) == list(order)
        assert seen.text.count("held by 4711") == 5
        assert "more" not in seen.text

    play(scenario, threaded(100), size)


def test_readout_with_few_lines_counts_what_it_omits() -> None:
    timeline = Timeline()
    for i in range(10):
        timeline.add(threaded(100 + i))
    told = [text_of(line) for line in tell(timeline, threaded(109), "lock", sem(1), (108, 109), (80, 6), NAME)]
    assert told[1].startswith(f" 4711 holds {NAME} ≥12s, waited for by 4711/9001")
    assert (len(told), told[-1]) == (6, " and 4 more")


def test_many_short_holds_share_a_line_and_long_spans_remain() -> None:
    timeline = Timeline()
    timeline.add(held(100))
    for i in range(50):
        start = 100 + i / 50
        timeline._close(Span(sem(2), pid(4711), 4711, "held", start, start + 0.004 + i / 1e5, True, "app.py:7"))
    timeline._close(Span(sem(1), pid(4711), 4711, "waiting", 99.5, 101.0, True))
    said = [text_of(line) for line in tell(timeline, held(101), "worker", pid(4711), (100, 101), (120, 20))]
    assert any("50 times, 212ms in all, the longest 4.49ms" in line and "app.py:7" in line for line in said)
    assert any("4711 waits for myapp.lock 1.50s, held by" not in line and "4711 waits for" in line for line in said)


@pytest.mark.parametrize(("count", "one_in", "words"), [(1, 1, "once"), (1, 3, "at least once"), (7, 1, "7 times")])
def test_what_was_counted_together_has_a_time_and_grammar(count: int, one_in: int, words: str) -> None:
    timeline = Timeline()
    timeline.add(held(100))
    bucket = Span(sem(1), pid(4711), 4711, "held", 99.25, 99.5, True, "app.py:7", 0.4, count, 0.02, one_in)
    said = readout(bucket, held(100), timeline, who=False)
    assert said.startswith(f"myapp.lock {words}, about 40 % of ")
    assert re.search(r":59\.250–\d\d:\d\d:59\.500, longest 20\.0ms, app\.py:7$", said)


def dying(at_s: float, dead: int, living: int = 3) -> Snapshot:
    """`dead` of the workers from 5000 on have gone, one after the other."""
    there = [worker(5000 + i) for i in range(dead, 20)] + [worker(6000 + i) for i in range(living)]
    return picture([lock(1, name="myapp.lock")], [master(), *there], at_s=at_s)


def test_living_rows_come_first_then_the_counted_dead_newest_first() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("t")
        await shown(seen, source, *(dying(100 + i, i) for i in range(1, 21)))
        await seen.sees("4710 master", "6000 worker", "5019 worker", "1–13 of 24")
        assert rows_of(seen)[:7] == [
            "4710 master",
            *(f"{each} worker" for each in (6000, 6001, 6002, 5019, 5018, 5017)),
        ]
        await seen.press(*["down"] * 30)
        await seen.sees("12–24 of 24", "5000 worker: ended ")

    play(scenario, dying(100, 0))


def test_rows_stay_in_place_until_a_key_sorts_them() -> None:
    def pair(at_s: float, busy: int) -> Snapshot:
        waits = (waiter(4712),)
        two = [
            lock(i, name=f"app.lock_{i}", holders=(holder(4711),) if i == busy else (), waiters=waits * (i == busy))
            for i in (1, 2)
        ]
        return picture(two, [master(), worker(4711), worker(4712)], at_s=at_s)

    async def scenario(seen: LiveView, source: Script) -> None:
        await shown(seen, source, *(pair(100 + i, 2) for i in range(5)))
        await seen.press("t", "l")
        await seen.sees("Timeline of the locks")
        assert rows_of(seen) == ["app.lock_2", "app.lock_1"]
        await seen.press("down")
        await seen.sees("app.lock_1: nothing")
        await shown(seen, source, *(pair(105 + 30 * i, 1) for i in range(6)))
        await seen.sees("holds app.lock_1")
        assert rows_of(seen) == ["app.lock_2", "app.lock_1"]
        await seen.press("s")
        await seen.until(lambda: rows_of(seen) == ["app.lock_1", "app.lock_2"], "another order")
        await seen.sees("holds app.lock_1")

    play(scenario, pair(99, 2))


def test_ended_rows_sink_below_living_ones_and_others_stay() -> None:
    rows = [
        TimelineRow(3, "c"),
        TimelineRow(1, "a"),
        TimelineRow(9, "new"),
        TimelineRow(2, "b", 5.0),
        TimelineRow(4, "d", 4.0),
    ]
    assert [row.id for row in arranged(rows, [1, 2, 3, 4])] == [1, 3, 9, 2, 4]


def test_cursor_leaves_dead_rows_unless_placed_and_old_ones_vanish() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("t")
        await seen.sees("5000 worker: ", "1–14 of 24")
        await shown(seen, source, *(dying(100 + i, i) for i in range(1, 21)))
        await seen.sees("6000 worker: ")
        await seen.press(*["down"] * 3)
        await seen.sees("5019 worker: ended ")
        await shown(seen, source, *(dying(120 + i, 20) for i in range(1, 100)))
        await seen.sees("5019 worker: ended ")
        await seen.until(lambda: len(rows_of(seen)) == 5, "only those of the window, and the one that is read")

    play(scenario, dying(100, 0))


@pytest.mark.parametrize(
    ("cells", "expected"), [("w..h", "w  h"), ("w...h", "w...h"), (".w.", ".w."), ("e.w", "e.w"), ("w.ww", "w ww")]
)
def test_between_two_looks_that_saw_something_nobody_is_called_idle(cells: str, expected: str) -> None:
    kinds = {"w": Cell("waiting"), "h": Cell("held"), "e": Cell("held", exact=True), ".": IDLE, " ": UNKNOWN}
    assert with_unseen([kinds[each] for each in cells], 2) == [kinds[each] for each in expected]


async def click(seen: LiveView, word: str) -> None:
    await seen.pilot.click("#keys", offset=(seen.lines[-1].index(word) + 1, 0))


def test_the_words_of_the_footer_do_what_their_keys_do() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("t")
        await seen.sees("Timeline of the workers", "< > zoom")
        await click(seen, "workers/locks")
        await seen.sees("Timeline of the locks")
        await click(seen, "zoom")
        await seen.sees("30s wide")
        await seen.pilot.click("#keys", offset=(seen.lines[-1].index(">"), 0))
        await seen.sees("1m00s wide")
        await click(seen, "cursor")
        await seen.sees("it stands still")
        await click(seen, "now")
        await seen.misses("it stands still")

    play(scenario, held(109))


def test_timeline_keys_can_be_mapped_in_help_and_palette_too() -> None:
    keys = {"rows": "x", "closer": "v", "earlier": "comma", "now": "n"}

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("t")
        await seen.sees("x workers/locks", "v > zoom", "n now")
        await seen.press("x")
        await seen.sees("Timeline of the locks")
        await seen.press("v", "comma")
        await seen.sees("30s wide", "it stands still: n goes back to now")
        await seen.press("n")
        await seen.misses("it stands still")
        await seen.press("colon", *"locks")
        await seen.sees("workers/locks  x")
        await seen.press("escape", "escape", "colon", *"locks")
        await seen.sees("blocking  w")
        assert "workers/locks" not in seen.text

    async def go() -> None:
        source = Script(held(109))
        async with live_view(source, settings=Settings(interval=0.01, keys=keys)) as seen:
            await seen.sees("Locks")
            await scenario(seen, source)

    import asyncio

    asyncio.run(go())


def test_the_help_explains_every_sign_of_the_timeline() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("question_mark")
        await seen.sees("help")
        text = seen.app.screen.copied()  # type: ignore[attr-defined]
        for part in ("▞⢕╬", "▁▃▅█", "⡀⡄⡆⡇", "━╪┄╬", "├", "l Tab  a row for each worker"):
            assert part in text

    play(scenario, held(109))


def test_a_server_that_has_ended_has_no_now() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await minute(seen, source, 20)
        await seen.press("t")
        await seen.sees("now")
        source.show(replace(held(119), alive=False))
        at_the_end = re.compile(r"■ ended \d\d:\d\d:\d\d$")
        await seen.sees("■ Server ended")
        await seen.until(lambda: at_the_end.search(seen.lines[2]) and at_the_end.search(seen.lines[2]), "the end")
        assert not re.search(r"-\d+s", seen.lines[2])

    play(scenario, held(109))


def test_paused_timeline_shows_its_time_instead_of_now() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("t", "space")
        await seen.sees("⏸ ")
        assert not seen.lines[2].endswith("now")
        await seen.press("space")
        await seen.until(lambda: seen.lines[2].endswith("now"))

    play(scenario, held(109))


def test_where_a_worker_began_is_shown() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        young = replace(worker(4799), started_at=held(125).taken_at)
        before = held(120)
        await shown(seen, source, *(held(110 + i) for i in range(11)))
        for i in range(121, 140):
            now = held(i)
            there = (*before.processes, young) if i >= 125 else before.processes
            await shown(seen, source, replace(now, processes=there))
        await seen.press("t")
        await seen.sees("4799 worker")
        assert re.search(r"4799 worker +├·+$", seen.line("4799 worker"))
        at = next(i for i, line in enumerate(seen.lines) if "4799 worker" in line)
        await seen.pilot.click("Chart", offset=(seen.line("4799 worker").index("├"), at - 2))
        await seen.sees("4799 worker: began ")

    play(scenario, held(109))


def test_timeline_of_another_moment_of_a_recording_is_drawn() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await minute(seen, source, 20)
        await seen.press("t")
        await seen.sees("╪╪╪")
        assert seen.app.main is not None
        seen.app.main.jump([held(300 + second) for second in range(20)])
        await shown(seen, source, held(320))
        await seen.until(lambda: "╪" * 20 in seen.line("4711 worker"), "the holds of that moment")

    play(scenario, held(109))


def test_a_click_moves_the_cursor_to_its_cell() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await minute(seen, source, 40)
        await seen.press("t")
        await seen.sees("4711 worker")
        await seen.pilot.click("Chart", offset=(70, 3))
        await seen.sees("it stands still")
        assert column(seen) == 70 - seen.app.screen._label - 1  # type: ignore[attr-defined]

    play(scenario, held(109))


# ---- lines


@pytest.mark.parametrize("cell_s", [0.0005, 0.004, 0.008, 0.03, 0.04, 0.08, 0.3, 1.0, 9.0])
@pytest.mark.parametrize("follows", [False, True])
@pytest.mark.parametrize("begin_s", [5000.0, 1234567.8912])
def test_no_two_ticks_of_the_axis_say_the_same(cell_s: float, follows: bool, begin_s: float) -> None:
    first = int(begin_s / cell_s)
    now = Now((first + 66) * cell_s, 1.7e9 + 0.123)
    line = text_of(axis_line(first, 66, cell_s, now, follows, 12))
    ticks = re.findall(r"╵\S+", line)
    assert len(ticks) >= 2
    assert len(set(ticks)) == len(ticks)
    assert len(line) <= 80


def test_ticks_of_parts_of_a_second_are_where_they_say() -> None:
    line = text_of(axis_line(int(5000 / 0.03), 66, 0.03, Now(5000 + 66 * 0.03, 1.7e9 + 66 * 0.03), False, 0))
    assert [tick[-4:] for tick in re.findall(r"╵\S+", line)] == ["20.0", "20.5", "21.0", "21.5"]
    assert line.index("20.5") - line.index("20.0") == pytest.approx(0.5 / 0.03, abs=1)


def test_a_label_takes_the_room_that_it_needs() -> None:
    rows = [TimelineRow(1, "demo_app.app.lock")]
    width = label_width(80, rows)
    assert "demo_app.app.lock" in text_of(row_line("demo_app.app.lock", [], width, None, False))
    narrow = text_of(row_line(NAME, [], 16, None, False))
    assert narrow == " …s.savings_lock "


def test_rows_leave_lines_for_the_readout_and_it_takes_them() -> None:
    assert [chart_height(living, 0, 21) for living in (2, 5, 30)] == [3, 6, 16]
    assert [chart_height(living, 30, 21) for living in (2, 5, 30)] == [14, 14, 16]
    assert chart_height(30, 0, 9) == 6


@pytest.mark.parametrize("width", [40, 80, 160])
def test_title_is_never_cut_where_it_explains_how_to_continue(width: int) -> None:
    items = title_items("worker", 60.0, 0.923, Now(100.0, 1.7e9), (100, 115, 225), "End")
    line = text_of(spread(items, (), width))
    assert "it stands still: End goes back to now" in line
    assert ("100–115 of 225" in line) == (width == 160)
    assert ("Timeline of the workers" in line) == (width > 40)


def test_the_legend_explains_what_is_in_view() -> None:
    plain = Cell("contended", 1.0, 0.0, True)
    partly = Cell("held", 0.3, 0.0, True)
    counted = Cell("held", 0.3, 0.0, True, False, True)
    assert "part of it" in text_of(legend_line([plain, partly], "worker", 80))
    assert "counted together" in text_of(legend_line([counted], "worker", 80))
    assert "counted together" not in text_of(legend_line([plain], "worker", 80))
    assert "both" not in text_of(legend_line([plain], "lock", 160))


def test_holds_of_a_traced_server_are_shown_to_the_millisecond() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        now = held(112).monotonic_s
        told = tuple(
            TracedEvent(now - 2 + i / 10, pid(4711), 4711, "released", sem(1), "x", None, 0.04, "app.py:7", i)
            for i in range(15)
        )
        free = picture([lock(1, name="myapp.lock")], [master(), worker(4711)], at_s=112, tracing=Tracing(True, told))
        await shown(seen, source, free)
        await seen.press("t", "z", "z", "z", "z")
        await seen.sees("2.0s wide", "█")
        line = seen.line("4711 worker")
        at = next(i for i, each in enumerate(seen.lines) if "4711 worker" in each)
        await seen.pilot.click("Chart", offset=(line.index("█"), at - 2))
        await seen.sees("4711 holds myapp.lock 40.0ms")
        assert re.search(r"40\.0ms  \d\d:\d\d:\d\d\.\d{3}–\d\d:\d\d:\d\d\.\d{3}, app\.py:7", seen.line("40.0ms"))

    play(scenario, picture([lock(1, name="myapp.lock")], [master(), worker(4711)], at_s=111.8))


def test_footer_keeps_the_way_back_at_80_columns() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("t")
        await seen.sees("Timeline", "Esc back")

    play(scenario, held(100.0))
