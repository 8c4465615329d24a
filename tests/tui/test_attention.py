"""What draws the eye: the verdict on every screen, signs and pins of findings, colours of age, threads by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from support import scenes
from support.scenes import FakeChild, Script, finding, holder, lock, picture, pid, sem, waiter, worker
from support.screens import LiveView, live_view

from semtrace.model import Frame, Snapshot
from semtrace.reports.stacks import stack_lines
from semtrace.rules.headline import headline
from semtrace.timelines.timeline import Timeline
from semtrace.tui.child import Child
from semtrace.tui.remembered import Order, Remembered
from semtrace.tui.state import ViewState
from semtrace.tui.text import rows
from semtrace.tui.text.attention import Flags, age_style, lock_attention, worker_attention
from semtrace.tui.text.brief import brief_lines, wanted_height
from semtrace.tui.text.grid import Arrangement, Cell, Column, Row, arrange, content_widths, fit
from semtrace.tui.text.header import failed_child, verdict_line
from semtrace.tui.text.help import COLUMN_MEANINGS
from semtrace.tui.text.line import clip_words, text_of
from semtrace.tui.text.lock_entries import lock_entries
from semtrace.tui.text.marks import Marks
from semtrace.tui.text.minute import Minutes
from semtrace.tui.text.threads import threaded, two_threads, with_threads, with_two_threads

Scenario = Callable[[LiveView, Script], Awaitable[None]]


def play(
    scenario: Scenario, shown: Snapshot, size: tuple[int, int] = (80, 24), child: Child | None = None, **given: object
) -> None:
    async def go() -> None:
        source = Script(shown)
        async with live_view(source, size, child=child, **given) as seen:  # type: ignore[arg-type]
            await seen.sees("Locks")
            await scenario(seen, source)

    asyncio.run(go())


def held(state: str = "held", since_s: float = 360.0) -> Snapshot:
    one = lock(101, name="myapp.lock", state=state, holders=(holder(4711, since_s),))
    return picture([one, lock(102, name="a.first")])


@pytest.mark.parametrize("keys", [("w",), ("t",), ("e",), ("f",), ("question_mark",), ("g", "enter")])
def test_every_screen_begins_with_the_verdict(keys: tuple[str, ...]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press(*keys)
        await seen.misses("Workers  4")
        await seen.until(lambda: seen.lines[0].startswith(" DEADLOCK: 2 of 4 workers"), "the verdict")
        assert "pid 4710" in seen.lines[0]

    play(scenario, picture(findings=(finding(),)))


def test_rows_of_findings_come_before_the_sort_order() -> None:
    made = [Row("a", (Cell("a"),), (0,)), Row("z", (Cell("z"),), (1,), pin=0), Row("m", (Cell("m"),), (2,), pin=1)]
    for view in (Arrangement(), Arrangement(column=0), Arrangement(column=0, reverse=True)):
        assert [row.id for row in arrange(made, view)][:2] == ["z", "m"]


def test_lock_with_a_warning_has_its_sign_and_is_pinned() -> None:
    snapshot = replace(held(since_s=3.0), findings=(finding("long-hold", "warning"),))
    made = rows.lock_rows(snapshot, snapshot.locks, Marks(snapshot))
    first, other = lock_attention(made, snapshot.locks, Flags(snapshot))
    assert (first.cells[0].text, first.cells[0].style) == ("⚠ held", "warning")
    assert first.pin < other.pin


def test_a_finding_that_is_over_flags_nothing() -> None:
    snapshot = replace(held(), findings=(replace(finding("long-hold", "warning"), over_s=3.0),))
    assert Flags(snapshot).style(sem(101)) == ""


def test_a_lock_held_for_minutes_is_not_green() -> None:
    snapshot = held()
    made = rows.lock_rows(snapshot, snapshot.locks, Marks(snapshot))
    row = lock_attention(made, snapshot.locks, Flags(snapshot))[0]
    assert [cell.style for cell in row.cells if cell.style == "held"] == []
    assert row.cells[0].style == age_style(360.0) == "old"
    holds = replace(snapshot, processes=(worker(4711, holds=(sem(101),)),))
    (process,) = worker_attention(rows.worker_rows(holds), holds.locks, Flags(holds))
    assert "old" in {cell.style for cell in process.cells}


def test_a_column_without_a_measured_value_goes() -> None:
    columns = (Column("NAME", 5, 9, 0), Column("BEAT", 6, 6, 8))
    unmeasured = [Row(1, (Cell("a"), Cell("-")), ()), Row(2, (Cell("b"), Cell("")), ())]
    assert content_widths(columns, unmeasured)[1] == 0
    assert content_widths(columns, [*unmeasured, Row(3, (Cell("c"), Cell("4s")), ())])[1] == 6


def test_a_name_is_whole_before_spare_columns_are_shown() -> None:
    columns = (Column("NAME", 10, 48, 0, cut="start"), Column("VALUE", 6, 9, 8))
    assert fit(columns, [30, 6], 32) == [30, 0]
    assert fit(columns, [20, 6], 32) == [20, 6]


def test_the_worst_finding_has_a_line_without_room() -> None:
    found = [finding(), finding("long-hold", "warning")]
    assert wanted_height(found, 0) == 1
    (line,) = brief_lines(found, 1, 80, "f")
    assert line[0].text.strip() == "error"


def test_room_below_the_tables_shows_remedy_and_evidence() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("remedy", "evidence", "- a fact")

    play(scenario, picture(findings=(finding(),)), (120, 40))


def test_last_minute_of_a_lock_is_drawn_once_a_second() -> None:
    timeline = Timeline()
    minutes, made = Minutes(timeline, "lock"), [Row(sem(101), (), ())]

    def cell(at_s: float) -> str:
        timeline.add(picture([lock(101, name="myapp.lock", state="held", holders=(holder(4711, 3.0),))], at_s=at_s))
        return minutes.of(made, at_s)[0].cells[-1].text

    first = cell(300.0)
    assert "━" in first
    assert len(first) == 20
    assert cell(300.2) is first
    assert cell(303.2) != first


def test_last_minute_of_an_old_hold_is_not_green() -> None:
    taken = lock(101, name="myapp.lock", state="held", holders=(holder(4711, 400.0),))
    process = worker(4711, holds=(sem(101),))
    snapshot = picture([taken], [process])
    minute = Cell("━" * 20, "held")
    of_locks = [row._replace(cells=(*row.cells, minute)) for row in rows.lock_rows(snapshot, [taken], Marks(snapshot))]
    of_workers = [row._replace(cells=(*row.cells, minute)) for row in rows.worker_rows(snapshot)]
    assert lock_attention(of_locks, [taken], Flags(snapshot))[0].cells[-1].style == "old"
    assert worker_attention(of_workers, [taken], Flags(snapshot))[0].cells[-1].style == "old"


def test_threads_are_named_where_a_process_has_several() -> None:
    one = replace(holder(4711), tid=4720)
    snapshot = picture([lock(101, name="myapp.lock", state="held", holders=(one,))], [worker(4711, threads=3)])
    made = rows.lock_rows(snapshot, snapshot.locks, Marks(snapshot))
    assert "4711/4720" in [cell.text for cell in with_threads(made, snapshot.locks, threaded(snapshot))[0].cells]
    assert threaded(picture([], [worker(4711, threads=1)])) == frozenset()


def test_a_row_that_holds_and_waits_says_two_threads() -> None:
    mine = lock(101, name="myapp.a", state="held", holders=(replace(holder(4711), tid=4720),))
    wanted = lock(102, name="myapp.b", state="contended", holders=(holder(4712),), waiters=(waiter(4711),))
    process = worker(4711, holds=(sem(101),), waits_on=(sem(102),), threads=3)
    snapshot = picture([mine, wanted], [process, worker(4712, holds=(sem(102),))])
    assert two_threads(process, snapshot) == "thread 4720 holds, thread 4711 waits"
    row = next(row for row in with_two_threads(rows.worker_rows(snapshot), snapshot) if row.id == pid(4711))
    assert {"· 2 threads", "myapp.b"} <= {cell.text for cell in row.cells}


def test_a_thread_that_has_no_room_leaves_its_process() -> None:
    assert [clip_words("4711/4720", width) for width in (9, 8, 6, 5)] == ["4711/4720", "4711/…", "4711/…", "…4720"]


def test_zero_takes_the_natural_order_again() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("s", "s", "r")
        await seen.sees("▼")
        await seen.press("0")
        await seen.misses("▼", "▲")

    play(scenario, held())


def test_an_order_is_remembered_for_its_kind_of_server() -> None:
    memory = Remembered()
    memory._orders["python locks"] = Order("NAME", True)

    async def plain(seen: LiveView, source: Script) -> None:
        await seen.sees("NAME▼")

    async def other(seen: LiveView, source: Script) -> None:
        await seen.sees("NAME ")

    play(plain, held(), remembered=memory, servers=[scenes.server(kind="python")])
    play(other, held(), remembered=memory)


def test_an_unknown_key_says_so() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("x")
        await seen.sees("x does nothing here; ? shows the keys")

    play(scenario, held())


def test_the_help_explains_every_column() -> None:
    explained = " ".join(COLUMN_MEANINGS).split()
    titles = {word for column in (*rows.WORKERS, *rows.LOCKS) for word in column.title.split()}
    assert titles - set(explained) <= {"PID", "ROLE", "NAME", "KIND"}


def test_a_server_of_ours_that_failed_says_why() -> None:
    child = FakeChild()
    child.lines = ["Connection in use: ('127.0.0.1', 80)", ""]
    child.running = False

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("ended with exit code 1", "Connection in use", "Output")
        await seen.press("f")
        await seen.misses("Nothing wrong")

    play(scenario, replace(held(), alive=False), child=child)


def test_frames_of_libraries_open() -> None:
    stack = (Frame("wait", "/usr/lib/python3.11/threading.py", 5), Frame("view", "/srv/app.py", 9))
    assert not any("threading.py" in line for line in stack_lines(stack))
    assert any("threading.py" in line for line in stack_lines(stack, libraries=True))


def test_a_click_on_a_hint_in_a_title_does_it() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        y, line = next((y, line) for y, line in enumerate(seen.lines) if "hidden (a)" in line)
        await seen.pilot.click(offset=(line.index("hidden"), y))
        await seen.misses("hidden (a)")

    play(scenario, picture())


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("[2026-11-28 10:58:06 +0000] [13909] [ERROR] Can't connect to x", "line: Can't connect to x"),
        ("[only]", "line: [only]"),
    ],
)
def test_last_line_of_a_failed_server_has_no_time(output: str, said: str) -> None:
    child = FakeChild()
    child.running = False
    state = ViewState(picture().server, child=child, last_output=output)
    assert failed_child(state).endswith(said)


def test_verdict_of_a_narrow_screen_keeps_the_pid() -> None:
    taken = lock(101, name="myapp.a_lock_with_a_long_name", state="orphaned", waiters=(waiter(4711),))
    snapshot = picture([taken], findings=(finding("orphaned-lock", lock=sem(101), name="myapp." + "x" * 60),))
    line = text_of(verdict_line(headline(snapshot), snapshot.server, snapshot, 60))
    assert f"pid {snapshot.server.pid}" in line


def test_sheet_of_a_lock_held_long_is_not_green() -> None:
    def styles(since_s: float) -> set[str]:
        taken = lock(101, name="myapp.lock", state="held", holders=(holder(4711, since_s),))
        return {entry.style for entry in lock_entries(taken, picture([taken]))} & {"held", "old"}

    assert (styles(1.0), styles(400.0)) == ({"held"}, {"old"})
