"""The findings in the live view."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from support.scenes import Script, finding, lock, picture, pid, sem, thread_locks
from support.screens import SIZES, LiveView, live_view

from semtrace.model import Advice, Problem, Remedy, Snapshot, VerdictReason
from semtrace.present.findings import title
from semtrace.tui.screens.findings import target
from semtrace.tui.widgets.table import Table

Scenario = Callable[[LiveView, Script], Awaitable[None]]

ORPHAN = finding("orphaned-lock", lock=sem(104), name="myapp.db.write_lock")
WARNING = finding("long-hold", "warning", lock=sem(103), name="myapp.pool.slots")
PRIVATE = finding("private-lock", "warning", lock=None, name="myapp.guard")


def play(scenario: Scenario, snapshot: Snapshot, size: tuple[int, int] = (120, 40)) -> None:
    async def run() -> None:
        source = Script(snapshot)
        async with live_view(source, size) as seen:
            await seen.sees("Locks")
            await scenario(seen, source)

    asyncio.run(run())


def cursor(seen: LiveView, table: str) -> object:
    return seen.app.screen.query_one(f"#{table}", Table).selected


@pytest.mark.parametrize("size", SIZES)
def test_the_header_counts_them_and_f_shows_them_worst_first(size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("1 error (f)" if size[0] > 40 else "ORPHANED: ")
        await seen.press("f")
        await seen.sees("Findings", "error", "a fact")
        assert seen.order("myapp.db.write_lo", "PID 4711 has") == ["myapp.db.write_lo", "PID 4711 has"]
        await seen.press("escape")
        await seen.sees("Locks")

    play(scenario, picture(findings=(ORPHAN, WARNING)), size)


def test_copied_text_cannot_command_a_terminal() -> None:
    remedy = Remedy((Advice.RESTART_TO_CLEAR,), ("semtrace", "dump"))
    evil = replace(ORPHAN, facts=(VerdictReason("from \x1b[201~\rreboot"),), remedy=remedy)

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("1 error (f)")
        await seen.press("f")
        await seen.sees("Restart the server")
        await seen.press("y")
        await seen.until(lambda: seen.app.clipboard, "the text")
        assert (
            seen.app.clipboard
            == f"{title(ORPHAN)}\nfrom ?[201~?reboot\nRestart the server to clear this.\nsemtrace dump"
        )

    play(scenario, picture(findings=(evil,)))


def test_without_findings_the_header_is_silent_and_the_sheet_explains() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        assert "(f)" not in seen.text
        await seen.press("f")
        await seen.sees("Nothing wrong is seen.")
        source.show(picture(findings=(ORPHAN,)))
        await seen.sees("myapp.db.write_lock is orphaned", "a fact")

    play(scenario, picture())


def test_unread_private_locks_are_not_called_healthy() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("f")
        await seen.sees("Not checked: the private locks (threading, asyncio)")

    play(scenario, picture(problems=(Problem("look", "no layout", "none", unread="private-locks"),)))


def test_the_cursor_chooses_and_enter_goes_to_the_lock() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("f")
        await seen.sees("has held myapp.pool.slots")
        await seen.press("down", "enter")
        await seen.sees("Workers")
        await seen.until(lambda: cursor(seen, "locks") == sem(103), "the lock")

    play(scenario, picture(findings=(ORPHAN, WARNING)))


def test_enter_goes_to_a_private_lock_or_a_worker() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("f", "enter")
        await seen.until(lambda: "Workers" in seen.text and seen.app.screen.focused is not None, "the panes")
        assert cursor(seen, "private") == "myapp.guard"
        source.show(picture(findings=(finding("stuck", name="", pids=(4713,)),), thread_locks=thread_locks()))
        await seen.press("f")
        await seen.sees("is stuck")
        await seen.press("enter")
        await seen.until(lambda: "Workers" in seen.text and cursor(seen, "workers") == pid(4713), "the worker")

    play(scenario, picture(findings=(PRIVATE,), thread_locks=thread_locks()))


def test_a_filter_that_hides_the_row_goes() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("slash", *"cache", "enter")
        await seen.until(lambda: cursor(seen, "locks") == sem(102), "the other locks to be hidden")
        await seen.press("f", "enter")
        await seen.until(lambda: "Workers" in seen.text and cursor(seen, "locks") == sem(104), "the lock")

    play(scenario, picture(findings=(ORPHAN,)))


def test_a_finding_about_something_gone_leads_nowhere() -> None:
    gone = finding(lock=sem(999), name="gone", pids=(1,))
    assert target(gone, picture()) is None

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("f", "enter")
        await seen.sees("Findings", "not in the snapshot any more")

    play(scenario, picture(findings=(gone,)))


def test_finding_on_a_separate_lock_leads_to_its_groups_row() -> None:
    each = tuple(lock(i, name="myapp.lock", separate=2, mapped_by=(pid(4710 + i),)) for i in (1, 2))
    assert target(finding(lock=sem(2)), picture(each)) == sem(1)
