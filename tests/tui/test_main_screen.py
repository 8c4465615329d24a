"""What a user sees and does on the main screen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from support import scenes
from support.scenes import Script, every_state, holder, lock, master, picture, refused, worker
from support.screens import SIZES, LiveView, live_view

from semtrace.errors import NotPermitted
from semtrace.tui.widgets.table import Table

Scenario = Callable[[LiveView, Script], Awaitable[None]]


def play(
    scenario: Scenario, first: scenes.Snapshot | Exception | None = None, size: tuple[int, int] = (80, 24)
) -> None:
    async def go() -> None:
        source = Script(first or picture())
        async with live_view(source, size) as seen:
            await scenario(seen, source)

    asyncio.run(go())


def named(*names: str, **changes: object) -> scenes.Snapshot:
    return picture([lock(i, name=name) for i, name in enumerate(names)], **changes)


def cursor(seen: LiveView, table: str = "locks") -> object:
    return seen.app.screen.query_one(f"#{table}", Table).selected


@pytest.mark.parametrize("size", SIZES)
def test_every_state_is_told_by_a_sign_and_a_word(size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        for state in every_state():
            source.show(picture([replace(state, signal=False)]))
            await seen.sees(
                {"free": "○", "held": "●", "contended": "◐", "exhausted": "◌", "orphaned": "✖", "unknown": "?"}[
                    state.state
                ]
                + f" {state.state}"
            )

    play(scenario, size=size)


def test_a_lock_shows_holder_depth_time_and_waiters() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("◐ contended")
        assert "myapp.lock" in seen.line("◐ contended  ")
        assert "4711" in seen.line("◐ contended  ")
        assert "≥3.2s" in seen.line("◐ contended  ")
        assert "4712 4713" in seen.line("◐ contended  ")
        assert "4714×2" in seen.line("● held  ")

    play(scenario)


def test_a_worker_shows_what_it_holds_and_waits_for() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("▸ running")
        assert "93.4" in seen.line("▸ running")
        assert "myapp.lock, myapp.pool.slots" in seen.line("▸ running")
        assert "1.3G" in seen.line(" 4713  worker")
        assert "myapp.lock" in seen.line(" 4713  worker").split()

    play(scenario, size=(160, 45))


def test_signals_are_hidden_and_counted_until_asked_for() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("2 signals hidden")
        assert "myapp.queue:107" not in seen.text
        await seen.press("a")
        await seen.sees("myapp.queue:107", "myapp.queue:108")
        assert "hidden" not in seen.text
        await seen.press("a")
        await seen.misses("myapp.queue:107")

    play(scenario, size=(160, 45))


def test_the_server_ends_and_its_last_picture_stays() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("◐ contended")
        source.show(picture(alive=False))
        await seen.sees("Server ended at", "It ran 3m12s, 3 locks held then", "◐ contended", "4711")
        await seen.until(lambda: source.closed == 1, "the source closed: there is nothing more to read")

    play(scenario)


def test_pause_freezes_the_picture_but_not_the_reading() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("○ free")
        await seen.press("space")
        await seen.sees("PAUSED")
        source.show(named("after"))
        taken = source.taken
        await seen.until(lambda: source.taken > taken + 2, "more readings")
        assert "before" in seen.text
        assert "after" not in seen.text
        await seen.press("space")
        await seen.sees("after")
        assert "PAUSED" not in seen.text

    play(scenario, named("before"))


def test_plus_and_minus_change_the_interval() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("every 0.01s")
        await seen.press("plus")
        await seen.sees("every 0.1s")
        await seen.press("+", "+")
        await seen.sees("every 0.5s")
        await seen.press("-")
        await seen.sees("every 0.2s")

    play(scenario)


def test_the_cursor_follows_the_lock_and_not_the_row() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("ccc")
        await seen.press("down", "j")
        assert cursor(seen) == scenes.sem(2)
        source.show(picture([lock(9, name="aaaa"), lock(0, name="aaa"), lock(2, name="ccc")]))
        await seen.sees("aaaa")
        assert cursor(seen) == scenes.sem(2)
        source.show(picture([lock(9, name="aaaa"), lock(0, name="aaa")]))
        await seen.misses("ccc")
        assert cursor(seen) == scenes.sem(9), "it is gone: the cursor stays where it was, on the last row"

    play(scenario, named("aaa", "bbb", "ccc"))


def test_the_cursor_moves_by_every_key() -> None:
    snapshot = scenes.crowd(64)

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("myapp.lock_00")
        for keys, where in (
            (["G"], 63), (["k", "up"], 61), (["g"], 0), (["end"], 63), (["home"], 0), (["j", "down"], 2),
        ):  # fmt: skip
            await seen.press(*keys)
            assert cursor(seen) == scenes.sem(where), keys
        await seen.press("pagedown", "pageup")
        assert cursor(seen) == scenes.sem(2)
        await seen.press("pagedown")
        assert f"of {len(snapshot.locks)}" in seen.text

    play(scenario, snapshot)


def test_tab_goes_from_pane_to_pane() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("myapp.guard")
        for pane in ("private", "workers", "locks"):
            await seen.press("tab")
            assert seen.app.focused is not None
            assert seen.app.focused.id == pane

    play(scenario, picture(thread_locks=scenes.thread_locks()), size=(160, 45))


def test_sort_goes_through_the_columns_and_r_reverses() -> None:
    locks = [lock(1, name="bbb", kind="RLock"), lock(2, name="aaa", kind="Semaphore"), lock(3, name="ccc", kind="Lock")]

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("ccc")
        await seen.press("s", "s")
        await seen.sees("NAME▲")
        assert seen.order("aaa", "bbb", "ccc") == ["aaa", "bbb", "ccc"]
        await seen.press("r")
        await seen.sees("NAME▼")
        assert seen.order("aaa", "bbb", "ccc") == ["ccc", "bbb", "aaa"]
        await seen.press("r", "s")
        await seen.sees("KIND▲")
        assert seen.order("aaa", "bbb", "ccc") == ["ccc", "bbb", "aaa"]

    play(scenario, picture(locks))


def test_a_filter_matches_while_it_is_typed() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("cache.b")
        await seen.press("slash", *"cac")
        await seen.misses("db.lock")
        await seen.sees("/cac", "2 of 3", "cache.a", "cache.b", "q quit")
        await seen.press("enter")
        await seen.press("j")
        assert cursor(seen) == scenes.sem(2), "letters are keys again"
        await seen.press("escape")
        await seen.sees("db.lock")

    play(scenario, named("db.lock", "cache.a", "cache.b"))


def test_a_filter_with_an_exclamation_mark_shows_the_others() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("cache.a")
        await seen.press("/", *"!cache")
        await seen.misses("cache.a")
        await seen.sees("db.lock", "1 of 2")
        await seen.press("escape")
        await seen.sees("cache.a")

    play(scenario, named("db.lock", "cache.a"))


def test_a_filter_that_matches_nothing_says_so() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("db.lock")
        await seen.press("/", *"zzz")
        await seen.sees("Nothing matches zzz; Esc clears the filter.")

    play(scenario, named("db.lock"))


def test_help_lists_keys_and_signs() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("?")
        await seen.sees("Keys and signs", "sort by the next column", "◐ contended")
        await seen.press("pagedown")
        await seen.sees("✖ orphaned")
        await seen.press("end")
        await seen.sees("at least: sampling")
        await seen.press("escape")
        await seen.misses("Keys and signs")

    play(scenario, size=(160, 45))


def test_enter_shows_everything_about_a_lock_and_stays_fresh() -> None:
    known = lock(
        7, "held", name="myapp.lock", names=("myapp.lock", "myapp.alias"), shm_name="/mp-abc", linked=True,
        holders=(holder(4711, 3.2, 2),), kind="RLock",
    )  # fmt: skip

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("● held")
        await seen.press("enter")
        await seen.sees(
            "Lock myapp.lock",
            "myapp.alias",
            "0:27:7",
            "/mp-abc, linked",
            "worker 4711, thread 4711, 2 times for ≥3.2s",
        )
        source.show(picture([replace(known, holders=(holder(4712, 0.1),))]))
        await seen.sees("worker 4712, thread 4712 for ≥0.1s")
        source.show(picture([]))
        await seen.sees("It is gone.")

    play(scenario, picture([known]))


def test_enter_shows_everything_about_a_worker() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("4712")
        await seen.press("tab", "down", "down", "enter")
        await seen.sees(
            "Worker 4712", "child of 4710", "41M resident", "0.4s ago", "myapp.lock for ≥1.5s (held by 4711)"
        )

    play(scenario)


def test_line_under_the_panes_describes_the_selected_row() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("myapp.db.write_lock is locked, and no living process holds it. 1 waits: 4714.")
        await seen.press("j", "j")
        await seen.sees("myapp.lock is held by 4711 for ≥3.2s. 2 wait: 4712 4713.")
        await seen.press("tab", "j")
        await seen.sees("worker 4711 holds myapp.lock, myapp.pool.slots.")

    play(scenario)


def test_problems_are_counted_and_listed_with_their_remedy() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("1 problem (p)", "◐ contended")
        await seen.press("p")
        await seen.sees("pid 4712", "operation not permitted", "sudo semtrace 4710")

    play(scenario, picture(problems=(refused(),)))


def test_a_pane_without_locks_says_why() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("No semaphores mapped yet", "A threading.Lock does not show here")
        source.show(picture([], problems=(refused(),)))
        await seen.sees("operation not permitted (pid 4712).", "sudo semtrace 4710")
        source.show(picture(every_state()[-2:]))
        await seen.sees("Only 2 signals")

    play(scenario, picture([], [master(), worker(4711)]))


def test_unopenable_source_shows_a_remedy_and_is_retried() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("not allowed to look.", "sudo semtrace 4710")
        source.show(picture())
        await seen.sees("◐ contended")

    play(scenario, NotPermitted("not allowed to look", "sudo semtrace 4710"))


def test_failing_snapshot_leaves_the_last_one_shown_and_is_retried() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("before")
        source.show(NotPermitted("it changed its user", "run as root"))
        await seen.sees("it changed its user. run as root", "before")
        source.show(named("after"))
        await seen.sees("after")
        await seen.misses("it changed its user")

    play(scenario, named("before"))


def test_a_bug_in_the_reading_is_not_swallowed() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.until(lambda: seen.app.return_code == 1, "the end")

    with pytest.raises(ZeroDivisionError):
        play(scenario, ZeroDivisionError("a bug"))


def test_what_changed_is_marked_for_a_second() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("○ free")
        assert not any("#3a3420" in style for style in seen.style_of("free"))
        source.show(picture([replace(free, state="held", holders=(holder(4711),))], at_s=10.2))
        await seen.sees("● held")
        assert any("#3a3420" in style for style in seen.style_of("● held"))
        source.show(picture([replace(free, state="held", holders=(holder(4711, 4.4),))], at_s=11.4))
        await seen.sees("≥4.4s")
        assert not any("#3a3420" in style for style in seen.style_of("● held"))

    free = lock(1, name="myapp.lock")
    play(scenario, picture([free], at_s=10.0))


def test_column_shrinks_after_not_needing_its_width_for_a_while() -> None:
    def holding(at_s: float, *locks: int) -> scenes.Snapshot:
        return picture(every_state(), [master(), worker(4711, holds=tuple(map(scenes.sem, locks)))], at_s=at_s)

    def width(seen: LiveView) -> int:
        return seen.line("HOLDS").index("WAITS FOR") - seen.line("HOLDS").index("HOLDS")

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("myapp.lock, myapp.pool.slots")
        wide = width(seen)
        source.show(holding(195.0))
        await seen.until(lambda: "myapp.pool.slots" not in seen.line(" 4711 "))
        assert width(seen) == wide, "not at once: columns would tremble"
        source.show(holding(198.0, 101))
        source.show(holding(201.0))
        await seen.until(lambda: width(seen) < wide, "a smaller one")

    play(scenario, holding(192.0, 101, 103), size=(160, 45))


def test_locks_of_threads_have_a_place_of_their_own() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("Private to each worker", "myapp.guard", "4711 4713", "2 inside at once")
        source.show(picture())
        await seen.misses("Private to each worker")

    play(scenario, picture(thread_locks=scenes.thread_locks()))


@pytest.mark.parametrize("size", SIZES)
def test_64_workers_and_64_locks_fit_by_scrolling(size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("myapp.lock_00", "of 65", "of 64")
        await seen.press("G")
        await seen.sees("lock_63")
        await seen.press("tab", "tab", "G") if seen.app.focused is None else await seen.press("tab", "G")
        await seen.sees("5063")

    play(scenario, scenes.crowd(64), size=size)


def test_too_small_a_terminal_is_said_and_comes_back() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("◐ contended")
        await seen.pilot.resize_terminal(20, 5)
        await seen.sees("terminal too small")
        assert "contended" not in seen.text
        await seen.pilot.resize_terminal(100, 30)
        await seen.sees("◐ contended")

    play(scenario)


def test_where_no_line_has_room_the_palette_does_not_open() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("colon", "pagedown")
        await seen.pilot.resize_terminal(100, 30)
        await seen.sees("◐ contended")

    play(scenario, size=(10, 2))


def test_the_timeline_survives_a_terminal_of_no_width() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("◐ contended")
        await seen.press("t")
        await seen.pilot.resize_terminal(3, 10)
        await seen.press("left", "z")
        await seen.pilot.resize_terminal(80, 24)
        await seen.sees("Timeline of the workers")

    play(scenario)


def test_q_ends_it_and_closes_the_source() -> None:
    async def go() -> None:
        source = Script(picture())
        async with live_view(source) as seen:
            await seen.sees("◐ contended")
            await seen.press("q")
        assert seen.app.return_value == 0
        assert source.closed == 1

    asyncio.run(go())


def test_a_terminal_that_is_behind_gets_the_newest_picture_later(monkeypatch: pytest.MonkeyPatch) -> None:
    behind = True
    monkeypatch.setattr("semtrace.tui.terminal.capabilities.is_behind", lambda driver: behind)

    async def scenario(seen: LiveView, source: Script) -> None:
        nonlocal behind
        await seen.until(lambda: source.taken > 2, "readings")
        assert "first" not in seen.text
        source.show(named("newest"))
        behind = False
        await seen.sees("newest")

    play(scenario, named("first"))
