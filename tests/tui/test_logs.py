"""The event log, the output of a server of our own, and what becomes of that server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from support.scenes import FakeChild, Script, holder, lock, picture, pid, sem
from support.screens import LiveView, live_view

from semtrace.model import Durations, Snapshot, Statistics, TracedEvent, Tracing
from semtrace.tui.app import SemtraceApp
from semtrace.tui.widgets.log import Log

Scenario = Callable[[LiveView, Script], Awaitable[None]]
WIDE = (160, 45)


def play(scenario: Scenario, first: Snapshot, size: tuple[int, int] = WIDE, child: FakeChild | None = None) -> None:
    async def go() -> None:
        source = Script(first)
        async with live_view(source, size, child=child) as seen:
            await scenario(seen, source)

    asyncio.run(go())


def event(number: int, name: str = "acquired", **changes: object) -> TracedEvent:
    plain = TracedEvent(
        100 + number / 1000, pid(4711), 4711, "acquired", sem(101), "myapp.lock", 0.0012, None, "/srv/app.py:34", number
    )
    return replace(plain, event=name, **changes)  # type: ignore[arg-type]


def traced(count: int, first: int = 1, **changes: object) -> Snapshot:
    recent = tuple(
        event(number, "released", held_s=number / 1e6, wait_s=None) for number in range(first, first + count)
    )
    return picture(tracing=replace(Tracing(True, recent, 1, 42.0, count, 0), **changes))  # type: ignore[arg-type]


def log(seen: LiveView, name: str = "events") -> Log:
    return seen.app.screen.query_one(f"#{name}", Log)


def test_e_shows_and_hides_the_events() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("e events")
        assert "Events" not in seen.text
        await seen.press("e")
        await seen.sees("Events", "42/s", "released", "9.00µs", "/srv/app.py:34")
        await seen.press("e")
        await seen.misses("42/s")

    play(scenario, traced(9))


def test_event_shows_who_did_what_where_and_how_long() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("e")
        await seen.sees("acquired")
        assert seen.line("acquired").split()[1:] == ["4711/9", "acquired", "myapp.lock", "1.20ms", "/srv/app.py:34"]

    one = event(1, tid=9)
    play(scenario, picture(tracing=Tracing(True, (one,))))


def test_log_follows_until_the_cursor_moves_and_resumes_at_end() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("e")
        await seen.until(lambda: log(seen).selected == (pid(4711), 100))
        source.show(traced(100, 51))
        await seen.until(lambda: log(seen).selected == (pid(4711), 150))
        await seen.press("up", "up")
        source.show(traced(100, 101))
        await seen.sees("End follows")
        await seen.until(lambda: log(seen).selected == (pid(4711), 148))
        await seen.press("end")
        source.show(traced(100, 151))
        await seen.until(lambda: log(seen).selected == (pid(4711), 250))

    play(scenario, traced(100))


def test_the_log_can_be_filtered() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("e", "slash", *"77.0", "enter")
        await seen.sees("1 of 100", "77.0µs")
        await seen.misses("78.0µs")

    play(scenario, traced(100))


def test_too_many_events_are_a_sample_and_it_says_so() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("e")
        await seen.sees("100,000/s", "a sample, one in 100", "7 of 1,007 lost")

    play(scenario, traced(9, rate=1e5, one_in=100, received=1000, lost=7))


def test_without_traced_locks_the_log_says_how_to_trace() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("e")
        await seen.sees("semtrace run -- gunicorn")

    play(scenario, picture())


def test_enter_on_an_event_opens_its_lock() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("e")
        await seen.sees("released")
        await seen.press("enter")
        await seen.sees("identity", "0:27:101")
        await seen.press("escape")
        await seen.sees("42/s")

    play(scenario, traced(9))


def test_a_traced_lock_shows_exact_times_and_its_statistics() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("TAKEN", "CONT%", "WAIT95", "HELD95")
        row = seen.line("● held").split()
        assert "12.3ms" in row
        assert row[row.index("1232") :][:5] == ["1232", "25.0", "3.00ms", "20.0ms", "45.0ms"]
        await seen.press("enter")
        await seen.sees("acquired  1232 times, 25.0 % had to wait", "p95 20.0ms", "/srv/app.py:34")

    times = Durations(300, 1.0, 0.002, 0.045, 0.001, 0.02, 0.03)
    waits = replace(times, p95_s=0.003)
    per_site = Statistics(1232, 308, 0, waits, times)
    counted = replace(per_site, sites=(("/srv/app.py:34", per_site),))
    held = replace(holder(4711, 0.0123), evidence="events", site="/srv/app.py:34")
    play(scenario, picture([lock(101, "held", name="myapp.lock", holders=(held,), statistics=counted)]))


# ---- a server of our own


def test_o_shows_the_output_made_harmless() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("o")
        await seen.sees("Output", "Booting worker", "a       b ?[31mred")
        child.lines = ["more"]
        await seen.press("o")
        source.show(picture(at_s=500))
        await seen.until(lambda: not child.lines)
        await seen.press("o")
        await seen.sees("more")

    child = FakeChild()
    play(scenario, picture(), child=child)


@pytest.mark.parametrize(("key", "leave"), [("s", False), ("l", True)])
def test_leaving_asks_what_becomes_of_the_server(key: str, leave: bool) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("q")
        await seen.sees("stop the server", "leave it running")
        await seen.press("escape")
        await seen.sees("Workers")
        await seen.press("q", key)
        await seen.until(lambda: isinstance(seen.app, SemtraceApp) and seen.app.return_value == 0)
        assert child.leave is leave

    child = FakeChild()
    play(scenario, picture(), child=child)


def test_a_server_that_has_ended_is_not_asked_about() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        child.running = False
        await seen.press("q")
        await seen.until(lambda: seen.app.return_value == 0)

    child = FakeChild()
    play(scenario, picture(), child=child)


def test_ctrl_c_twice_stops_it() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("ctrl+c")
        await seen.sees("stop the server")
        await seen.press("ctrl+c")
        await seen.until(lambda: seen.app.return_value == 0)
        assert not child.leave

    child = FakeChild()
    play(scenario, picture(), child=child)
