"""The timeline and the blocking tree, as a user meets them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.scenes import Script, finding, holder, lock, master, picture, pid, sem, waiter, worker
from support.screens import SIZES, LiveView
from support.timelines import column, held, minute, play

from semtrace.model import Snapshot, TracedEvent, Tracing
from semtrace.tui.terminal.ascii import ascii_only
from semtrace.tui.text.timeline_rows import BOTH, COUNTED, SHARES, SIGNS
from semtrace.tui.widgets.table import Table


@pytest.mark.parametrize("size", SIZES)
def test_the_timeline_shows_who_held_and_who_waited(size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await minute(seen, source)
        await seen.press("t")
        await seen.sees("Timeline of the workers", "4711 worker", "now")
        assert "╪" in seen.line("4711 worker")
        assert "┄" in seen.line("4712 worker")
        assert "╪" not in seen.line("4712 worker")
        assert seen.line("4713 worker").rstrip().endswith("╪")
        await seen.press("l")
        await seen.sees("Timeline of the locks")
        assert "╪" in next(line for line in seen.lines[1:] if "lock" in line and "╪" in line)

    play(scenario, held(109), size)


def test_the_cursor_reads_out_who_when_and_for_how_long() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await minute(seen, source)
        await seen.press("t")
        await seen.sees("4711 worker")
        at = next(i for i, line in enumerate(seen.lines) if "4711 worker" in line)
        await seen.pilot.click("Chart", offset=(40, at - 2))
        await seen.sees("4711 holds myapp.lock ≥", "it stands still")
        await seen.press("end")
        await seen.misses("it stands still")

    play(scenario, held(109))


def test_looking_back_the_window_stands_still_while_collecting_goes_on() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await minute(seen, source, 40)
        await seen.press("t")
        await seen.sees("4711 worker")
        await seen.press("left", "left")
        await seen.sees("it stands still")
        before = seen.line("4711 worker")
        source.show(held(170, 4713))
        timeline = seen.app.main.view_state.timeline  # type: ignore[union-attr]
        await seen.until(lambda: timeline.last == 170, "the collecting")
        await seen.pilot.pause()
        assert seen.line("4711 worker") == before

    play(scenario, held(109))


def test_zoom_changes_how_long_the_window_is() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("t")
        await seen.sees("1m00s wide")
        await seen.press("less_than_sign")
        await seen.sees("30s wide")
        await seen.press("Z", "Z", "Z")
        await seen.sees("5m00s wide")
        for _ in range(12):
            await seen.press("z")
        await seen.sees("0.5s wide")

    play(scenario, held(109))


async def look_back(seen: LiveView, source: Script) -> str:
    """Puts the cursor on the change from 4711 to 4713; returns what it reads out."""
    await minute(seen, source)
    await seen.press("t")
    await seen.sees("4713 worker")
    line = seen.line("4713 worker")
    at = next(i for i, each in enumerate(seen.lines) if "4713 worker" in each)
    await seen.pilot.click("Chart", offset=(line.index("╪") + 1, at - 2))
    await seen.sees("4713 holds myapp.lock ≥", "it stands still")
    return seen.line("4713 holds")


@pytest.mark.parametrize("keys", [("z", "z", "z"), ("Z",), ("z", "Z", "Z", "z")])
def test_zoom_keeps_what_the_cursor_is_on(keys: tuple[str, ...]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        said, before = await look_back(seen, source), column(seen)
        await seen.press(*keys)
        await seen.misses("1m00s wide") if len(keys) != 4 else await seen.sees("1m00s wide")
        assert seen.line("4713 holds") == said
        assert "Z" in keys or abs(column(seen) - before) <= 1  # a longer window would go beyond now

    play(scenario, held(109))


def test_another_size_keeps_what_the_cursor_is_on() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        said = await look_back(seen, source)
        await seen.pilot.resize_terminal(120, 30)
        await seen.sees("a cell is 566ms", "it stands still")
        assert seen.line("4713 holds") == said

    play(scenario, held(109))


def test_cursor_moves_by_cells_by_tenths_and_to_both_ends() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await minute(seen, source, 40)
        await seen.press("t")
        await seen.sees("4711 worker")
        width = seen.app.screen._count()  # type: ignore[attr-defined]
        await seen.press("left")
        await seen.until(lambda: column(seen) == width - 2)
        await seen.press("pageup")
        await seen.until(lambda: column(seen) == width - 2 - width // 10)
        await seen.press("shift+right", "left", "right", "right")
        await seen.misses("it stands still")
        await seen.press("home")
        await seen.sees("it stands still")
        timeline = seen.app.main.view_state.timeline  # type: ignore[union-attr]
        screen = seen.app.screen
        assert screen._cursor() == int(timeline.first // screen._cell_s())  # type: ignore[attr-defined]
        await seen.press("end")
        await seen.misses("it stands still")

    play(scenario, held(109))


def test_whoever_waits_is_told_for_whom_at_that_time() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await minute(seen, source)
        await seen.press("t")
        await seen.sees("4712 waits for myapp.lock ≥", "held by 4713")
        await seen.press("down")
        at = next(i for i, line in enumerate(seen.lines) if "4712 worker" in line)
        await seen.pilot.click("Chart", offset=(seen.line("4712 worker").index("┄") + 8, at - 2))
        await seen.sees("held by 4711", "it stands still")
        await seen.misses("held by 4713")

    play(scenario, held(109))


def test_estimates_are_called_so() -> None:
    event = TracedEvent(0.0, pid(4711), 4711, "released", sem(1), "myapp.lock", None, 0.05, "app.py:7", 1)

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("t")
        await seen.sees("Timeline of the workers")
        assert "estimates" not in seen.text
        traced = replace(event, t_s=110.0 - 0.5)
        free = lock(1, name="myapp.lock")
        source.show(picture([free], [master(), worker(4711)], at_s=110, tracing=Tracing(True, (traced,), one_in=3)))
        await seen.sees("shares are estimates")
        assert "counted together" in seen.text
        await seen.press("left")
        await seen.sees(
            "4711 holds myapp.lock at least once, about 60 % of", "22:15:09.500–22:15:09.750", "longest 50.0ms"
        )

    play(scenario, picture([lock(1, name="myapp.lock")], [master(), worker(4711)], at_s=109))


@pytest.mark.parametrize("plain", [False, True])
def test_no_two_signs_of_the_timeline_are_the_same(plain: bool) -> None:
    """Also without colour, and in ASCII; cells from events, counted cells and sampled cells differ as well."""
    every = [*SIGNS.values(), BOTH]
    signs = [sign for each in every for sign in {each.exact, each.counted, each.seen}] + [*SHARES[:-1], *COUNTED[:-1]]
    drawn = [ascii_only(sign) if plain else sign for sign in signs]
    assert len(set(drawn)) == len(drawn)
    assert not plain or all(sign.isascii() for sign in drawn)
    assert (SHARES[-1], COUNTED[-1]) == SIGNS["held"][:2]


def test_enter_on_a_row_of_the_timeline_opens_it() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await minute(seen, source, 15)
        await seen.press("t", "l", "enter")
        await seen.sees("identity")
        await seen.press("escape")
        await seen.sees("Timeline of the locks")

    play(scenario, held(109))


def test_what_events_told_is_solid_and_exact() -> None:
    event = TracedEvent(0.0, pid(4711), 4711, "released", sem(1), "myapp.lock", None, 12.5, "app.py:7", 1)

    async def scenario(seen: LiveView, source: Script) -> None:
        traced = replace(event, t_s=110.0 - 5)
        free = lock(1, name="myapp.lock")
        source.show(picture([free], [master(), worker(4711)], at_s=110, tracing=Tracing(True, (traced,))))
        await seen.until(lambda: seen.app.main.view_state.timeline.closed, "the span")  # type: ignore[union-attr]
        await seen.press("t")
        await seen.sees("█")
        await seen.press(*["left"] * 8)
        await seen.sees("4711 holds myapp.lock 12.5s", "app.py:7")

    play(scenario, picture([lock(1, name="myapp.lock")], [master(), worker(4711)], at_s=80))


def test_a_worker_that_died_stays_in_grey() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await minute(seen, source, 20)
        source.show(picture([], [master(), worker(4712)], at_s=150))
        await seen.until(lambda: seen.app.main.view_state.timeline.last == 150, "the death")  # type: ignore[union-attr]
        await seen.press("t")
        await seen.sees("╌")
        assert "╌" in seen.line("4711 worker")
        assert "╌" not in seen.line("4712 worker")

    play(scenario, held(109))


def test_the_overview_has_a_strip_of_the_last_minute() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await minute(seen, source)
        await seen.press("B", "B")  # nothing below the tables
        await seen.until(lambda: "╪╪╪╪" in seen.line(" 60s "), "the strip")

    play(scenario, held(109))


# ---- the blocking tree


def chain() -> Snapshot:
    """4711 holds a, 4712 waits for it and holds b, for which 4713 and 4714 wait; c is orphaned."""
    locks = [
        lock(1, name="app.a", state="contended", holders=(holder(4711),), waiters=(waiter(4712),)),
        lock(2, name="app.b", state="contended", holders=(holder(4712),), waiters=(waiter(4713), waiter(4714))),
        lock(3, name="app.c", state="orphaned", waiters=(waiter(4715),)),
    ]
    return picture(locks, [master(), *(worker(each, threads=1) for each in range(4711, 4716))])


@pytest.mark.parametrize("size", SIZES)
def test_tree_has_the_worst_first_with_how_many_they_block(size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("w")
        await seen.sees("Blocking tree", "└ 4715")
        assert seen.order("app.a", "└ 4712", "  └ app.b", "├ 4713", "└ 4714", "app.c", "└ 4715") == [
            *("app.a", "└ 4712", "  └ app.b", "├ 4713", "└ 4714", "app.c", "└ 4715")
        ]
        assert "3" in seen.line("app.a").split()

    play(scenario, chain(), size)


def test_nobody_waits_is_said() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("w")
        await seen.sees("Nobody waits for anybody.")

    play(scenario, picture([lock(1)]))


def test_cycle_is_marked_and_called_deadlock_only_with_a_finding() -> None:
    locks = [
        lock(1, name="app.a", state="contended", holders=(holder(4711),), waiters=(waiter(4712),)),
        lock(2, name="app.b", state="contended", holders=(holder(4712),), waiters=(waiter(4711),)),
    ]
    there = [master(), worker(4711, threads=1), worker(4712, threads=1)]

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("w")
        await seen.sees("↻ cycle", "↻ above")
        judged = finding("deadlock", lock=sem(1), name="app.a", pids=(4711, 4712))
        source.show(picture(locks, there, findings=(judged,)))
        await seen.sees("↻ deadlock")

    play(scenario, picture(locks, there))


def test_a_holder_that_is_not_known_is_not_called_nobody() -> None:
    locks = [
        lock(1, name="app.a", state="unknown", waiters=(waiter(4712),)),
        lock(2, name="app.b", state="orphaned", waiters=(waiter(4713),)),
    ]

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("w")
        await seen.sees("Blocking tree", "app.a")
        first, second = (next(each for each in seen.lines if each.startswith(f" app.{name}")) for name in "ab")
        assert first.split()[-1] == "?"
        assert second.split()[-1] == "nobody"

    play(scenario, picture(locks, [master(), worker(4712), worker(4713)]))


def test_enter_opens_the_worker_or_lock_and_the_cursor_stays() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("w", "down", "enter")
        await seen.sees("Worker 4712")
        await seen.press("escape", "up", "enter")
        await seen.sees("Lock app.a")
        await seen.press("escape", "end")
        source.show(chain())
        await seen.pilot.pause()
        assert seen.app.screen.query_one(Table).selected == ("waits", sem(3), pid(4715), 4715)

    play(scenario, chain())
