"""The sheets of one lock and of one worker."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from support import PATIENCE_S, scenes
from support.scenes import Script, finding, holder, lock, master, picture, pid, sem, thread_locks, waiter, worker
from support.screens import SIZES, LiveView, live_view

from semtrace.linux.process import read_stat
from semtrace.linux.surroundings import read_surroundings
from semtrace.model import (
    Durations,
    Frame,
    Problem,
    ProcessId,
    Snapshot,
    Statistics,
    Surroundings,
    TracedEvent,
    Tracing,
)
from semtrace.tui.screens.detail import concerned, neighbours
from semtrace.tui.text.entries import Stacks
from semtrace.tui.text.spreads import BAR_WIDTH, spread_entries

Scenario = Callable[[LiveView, Script], Awaitable[None]]
STACK = (
    Frame("acquire", "/usr/lib/python3.11/threading.py", 5),
    Frame("withdraw", "/srv/app.py", 7, "with lock:"),
)
WAITS = Durations(12, 1.2, 0.1, 0.3, 0.1, 0.2, 0.3, ((1e-5, 2), (3e-5, 8), (1e-4, 2)))
HOLDS = Durations(40, 4.0, 0.1, 0.2, 0.1, 0.2, 0.2, ((3e-5, 40),))


def play(scenario: Scenario, first: Snapshot, size: tuple[int, int] = (160, 45), **given: object) -> None:
    async def go() -> None:
        source = Script(first)
        async with live_view(source, size, **given) as seen:  # type: ignore[arg-type]
            await seen.sees("Locks")
            await scenario(seen, source)

    asyncio.run(go())


def contended(at_s: float = 192.0, **more: object) -> Snapshot:
    one = lock(
        1, name="myapp.lock", state="contended", holders=(holder(4711),), waiters=(waiter(4712, 1.0), waiter(4713, 9.0))
    )
    return picture([replace(one, **more)], at_s=at_s)  # type: ignore[arg-type]


def taking(asked: list[Sequence[ProcessId]]) -> Callable[[Sequence[ProcessId]], tuple[Stacks, Sequence[Problem]]]:
    def take(processes: Sequence[ProcessId]) -> tuple[Stacks, Sequence[Problem]]:
        asked.append(processes)
        return {(pid(each), each): STACK for each in (4711, 4712, 4713)}, ()

    return take


@pytest.mark.parametrize("size", SIZES)
def test_a_lock_tells_who_holds_it_at_which_line_first(size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("held by", "[1] worker 4711", "with lock:")
        assert seen.order("held by", "/srv/app.py", "identity")[:2] == ["held by", "/srv/app.py"]

    play(scenario, contended(), size, stacks=taking([]))


def test_those_that_wait_the_longest_come_first_with_their_stacks() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("[2] worker 4713", "[3] worker 4712", "(1 more frame of libraries: l)")
        assert seen.text.count("/srv/app.py:7 in withdraw: with lock:") == 3

    asked: list[Sequence[ProcessId]] = []
    play(scenario, contended(), stacks=taking(asked))
    assert asked[0] == [pid(4711), pid(4713), pid(4712)]


def test_place_of_acquire_comes_before_what_the_holder_does_now() -> None:
    place = Frame("pay", "/srv/app.py", 3, "with bank.lock:")

    async def scenario(seen: LiveView, source: Script) -> None:
        source.show(turned(201.0, 4711, 4712, 185.0))
        await seen.until(lambda: seen.app.main.snapshot.monotonic_s == 201.0, "the picture")  # type: ignore[union-attr]
        await seen.press("enter")
        await seen.sees("acquired at /srv/app.py:3 in pay: with bank.lock:", " or before (seen in")
        parts = ("[1] worker 4711", "acquired at", "now /srv/app.py:7", "[2] worker 4712", "held lately", "identity")
        assert seen.order(*parts) == list(parts)
        source.show(turned(202.0, 4712, 4711, 201.5))
        await seen.sees("[2] worker 4712, thread 4712 for ≥0.5s", "seen once, last 1.0s ago by 4711")
        assert "acquired at /srv" not in seen.text, "another holds it since the reading"

    play(
        scenario,
        turned(200.0, 4714, 4712, 195.0),
        stacks=taking([]),
        acquired_at=lambda lock: {(pid(4711), 4711): place},
    )


def test_stacks_are_read_again_while_shown_until_u_holds_them() -> None:
    asked: list[Sequence[ProcessId]] = []

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.until(lambda: len(asked) == 1, "the first reading")
        source.show(contended(192.5))
        await seen.pilot.pause()
        assert len(asked) == 1, "not at each picture"
        source.show(contended(195.0))
        await seen.until(lambda: len(asked) == 2, "the second")
        await seen.press("u")
        await seen.sees("u refresh the stacks")
        source.show(contended(200.0))
        await seen.until(lambda: seen.app.main.snapshot.monotonic_s == 200.0, "the picture")  # type: ignore[union-attr]
        assert len(asked) == 2
        await seen.press("u")
        await seen.until(lambda: len(asked) == 3, "the third")

    play(scenario, contended(), stacks=taking(asked))


def turned(at_s: float, who: int, waits: int, begun_s: float) -> Snapshot:
    """`who` has held it and `waits` has waited since `begun_s`."""
    since = at_s - begun_s
    return contended(at_s, holders=(holder(who, since),), waiters=(waiter(waits, since),))


def test_stack_is_shown_only_for_holders_and_waiters_still_there() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("read 0.0s ago")
        assert seen.text.count("with lock:") == 2
        source.show(turned(201.4, 4711, 4712, 195.0))
        await seen.sees("read 1.4s ago")
        assert seen.text.count("with lock:") == 2
        source.show(turned(201.6, 4712, 4711, 201.5))
        await seen.sees("[1] worker 4711, thread 4711 for ≥0.1s")
        assert seen.text.count("with lock:") == 0, "they changed places"
        assert seen.text.count("its stack is not read yet") == 2
        source.show(turned(203.0, 4712, 4711, 201.5))
        await seen.until(lambda: len(asked) > 1 and "with lock:" in seen.text, "the next reading")

    asked: list[Sequence[ProcessId]] = []
    play(scenario, turned(200.0, 4711, 4712, 195.0), stacks=taking(asked))


def test_stack_read_while_threads_changed_places_is_shown_for_nobody() -> None:
    may_end = threading.Event()

    def take(processes: Sequence[ProcessId]) -> tuple[Stacks, Sequence[Problem]]:
        assert may_end.wait(PATIENCE_S)
        return {(pid(each), each): STACK for each in (4711, 4712)}, ()

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("its stack is not read yet")
        source.show(turned(201.0, 4712, 4711, 200.5))
        await seen.sees("for ≥0.5s")
        may_end.set()
        await seen.sees("stacks  read 1.0s ago")
        assert "with lock:" not in seen.text

    play(scenario, turned(200.0, 4711, 4712, 195.0), stacks=take)


def test_stack_read_later_than_a_paused_snapshot_says_so() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("space")
        source.show(turned(205.0, 4711, 4713, 195.0))
        await seen.until(lambda: seen.app.main.view_state.newest.monotonic_s == 205.0, "the picture")  # type: ignore[union-attr]
        await seen.press("enter")
        await seen.sees("read 5.0s or more after this snapshot, which stands still")
        assert seen.text.count("with lock:") == 1, "4711 held it all the time; 4712 waits no more"

    play(scenario, turned(200.0, 4711, 4712, 195.0), stacks=taking([]))


def test_digits_keep_their_meaning_while_one_looks() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("[1] worker 4711", "[2] worker 4713", "[3] worker 4712")
        source.show(contended(193.0, holders=(holder(4712),), waiters=(waiter(4711, 2.0), waiter(4714, 3.0))))
        await seen.sees("[1] worker 4711", "[3] worker 4712", "[4] worker 4714")
        await seen.press("3")
        await seen.sees("Worker 4712")

    play(scenario, contended())


def test_missing_py_spy_is_reported_and_asked_for_only_once() -> None:
    asked = []
    missing = Problem("read Python stacks", "py-spy is not installed", "pip install py-spy")

    def take(processes: Sequence[ProcessId]) -> tuple[Stacks, Sequence[Problem]]:
        asked.append(processes)
        return {}, (missing,)

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("py-spy is not installed", "pip install py-spy")
        source.show(contended(220.0))
        await seen.until(lambda: seen.app.main.snapshot.monotonic_s == 220.0, "the picture")  # type: ignore[union-attr]
        assert len(asked) == 1

    play(scenario, contended(), stacks=take)


def test_a_key_that_can_do_nothing_says_so() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("escape")
        await seen.sees("there is nothing to go back to; q quits")
        await seen.press("enter")
        await seen.sees("identity")
        await seen.press("9")
        await seen.sees("nothing here has the digit 9")
        await seen.press("u")
        await seen.sees("there are no stacks to read here")

    play(scenario, contended())


def test_details_without_a_stack_reader_do_not_mention_stacks() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("identity")
        assert "stacks" not in seen.text

    play(scenario, contended())


def test_statistics_have_bars_of_wait_and_hold_durations() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("12 waits watched", "40 holds watched", "< 30.0µs")
        assert "█" * BAR_WIDTH + " 8" in seen.line("< 30.0µs")
        assert "█" * BAR_WIDTH + " 40" in seen.line("< 30.0µs")

    play(scenario, contended(statistics=Statistics(40, 12, 0, WAITS, HOLDS)))


def test_bars_keep_their_width_and_one_among_many_stays_visible() -> None:
    many = Durations(10**6, spread=((1e-6, 10**6), (3e-6, 1)))
    lines = [entry.value for entry in spread_entries(Statistics(1, 1, 0, many, Durations()))]
    assert len(lines) == 3
    assert lines[2].split()[2] == "▏"
    assert not list(spread_entries(Statistics(0, 0, 0, Durations(), Durations())))


def test_last_events_are_the_locks_own_and_samples_are_marked() -> None:
    events = tuple(
        TracedEvent(190 + i, pid(4711), 4711, "released", sem(1 + i % 2), None, None, 0.5, f"/srv/app.py:{i}", i)
        for i in range(4)
    )

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("last events", "one in 7")
        assert seen.order("app.py:2", "app.py:0", "app.py:1") == ["app.py:2", "app.py:0"]

    play(scenario, replace(contended(), tracing=Tracing(True, events, 7)))


def test_details_of_lock_and_worker_include_findings_about_it() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("PID 4711 has held myapp.lock", "Restart the server")
        await seen.press("1")
        await seen.sees("Worker 4711", "PID 4711 has held myapp.lock")

    play(scenario, replace(contended(), findings=(finding("long-hold", lock=sem(1), pids=(4711,)),)))


def test_digits_lead_from_a_lock_to_workers_and_their_locks() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter", "2")
        await seen.sees("Worker 4713")
        await seen.press("9")
        assert "Worker 4713" in seen.text
        await seen.press("escape")
        await seen.sees("Lock myapp.lock")

    play(scenario, contended())
    snapshot = picture()
    assert neighbours(pid(4711), snapshot) == [sem(101), sem(103)]
    assert neighbours("gone", snapshot) == []


def test_r_asks_on_an_orphaned_lock_and_otherwise_explains() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter")
        await seen.sees("identity")
        await seen.press("R")
        await seen.sees("only an orphaned lock")
        source.show(contended(193.0, state="orphaned", holders=()))
        await seen.sees("R release")
        await seen.press("R")
        await seen.sees("Release myapp.lock?")
        await seen.press("f")
        await seen.sees("Release myapp.lock?")

    play(scenario, contended(), release=lambda server, lock: ["done"])


def test_worker_shows_its_origin_and_what_it_held() -> None:
    told = Surroundings(("gunicorn", "-w", "4", "my app:app"), "/srv/bank", "alice", 12)

    async def scenario(seen: LiveView, source: Script) -> None:
        for second in range(200, 205):
            source.show(contended(second))
            await seen.until(lambda: seen.app.main.snapshot.monotonic_s == second, "the picture")  # type: ignore[union-attr]  # noqa: B023
        await seen.press("enter", "1")
        await seen.sees("gunicorn -w 4 'my app:app'", "/srv/bank", "alice", "12, in its own pid namespace")
        await seen.sees("held lately", "myapp.lock ≥", "after 30s without one gunicorn kills it")
        await seen.sees("/srv/app.py:7 in withdraw: with lock:")

    play(scenario, contended(), stacks=taking([]), look_up=lambda process: told)


def test_stacks_wanted_are_a_locks_threads_or_a_whole_process() -> None:
    assert concerned(pid(4711), picture()) == [(pid(4711), None)]
    assert concerned(sem(104), picture()) == [(pid(4714), 4714)]
    assert concerned("myapp.guard", picture(thread_locks=thread_locks())) == []


def test_something_that_is_gone_is_said_to_be_gone() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("enter", "1")
        await seen.sees("Worker 4711")
        source.show(picture([], [master(), worker(4712)], at_s=300))
        await seen.sees("It is gone.")

    play(scenario, contended(), stacks=taking([]))


def test_our_own_surroundings_are_read_from_the_kernel() -> None:
    stat = read_stat(os.getpid())
    assert stat is not None
    mine = read_surroundings(stat.id)
    assert mine is not None
    assert mine.directory == os.getcwd()
    assert mine.command
    assert "py" in mine.command[0]
    assert read_surroundings(scenes.pid(2**22 + 1)) is None
