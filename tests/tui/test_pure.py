"""Rows, columns, lines and sentences, without a terminal."""

from __future__ import annotations

from dataclasses import replace
from queue import Queue

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from support import scenes

from semtrace.model import DeadHolder, Frame, Snapshot
from semtrace.tui import meter, poller
from semtrace.tui.terminal import capabilities
from semtrace.tui.text import grid, header, line, panes, private, rows, sentences, subjects, timeline_rows
from semtrace.tui.text.grid import Arrangement, Cell, Column, Row
from semtrace.tui.text.line import Item, Span
from semtrace.tui.text.marks import Marks
from semtrace.tui.text.signs import LOCK_SIGNS, PROCESS_SIGNS
from semtrace.tui.text.wrapping import wrapped

TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Mn", "Me", "Cf", "Mc")), max_size=40)


def cells(columns: tuple[Column, ...], row: Row) -> dict[str, str]:
    return {column.title: cell.text for column, cell in zip(columns, row.cells, strict=True)}


def lock_cells(lock: scenes.Lock) -> dict[str, str]:
    return cells(rows.LOCKS, lock_rows(scenes.picture([lock]))[0])


def lock_rows(snapshot: Snapshot) -> list[Row]:
    return rows.lock_rows(snapshot, snapshot.locks, Marks(snapshot))


def test_a_held_lock_in_cells() -> None:
    lock = scenes.lock(1, "held", name="myapp.lock", kind="RLock", holders=(scenes.holder(4711, 3.2, 2),))
    seen = lock_cells(lock)
    assert seen["STATE"] == "● held"
    assert seen["HELD BY"] == "4711×2"
    assert seen["FOR"] == "≥3.2s"
    assert seen["MAPPED"] == "all 5"
    assert seen["VALUE"] == "0/1"


def test_an_exact_time_has_no_sign_of_a_lower_bound() -> None:
    holder = replace(scenes.holder(4711, 3.2), evidence="events")
    assert lock_cells(scenes.lock(1, "held", holders=(holder,)))["FOR"] == "3.20s"


def test_what_was_not_measured_is_a_dash_and_never_zero() -> None:
    assert lock_cells(scenes.lock(1, "held", holders=(scenes.holder(4711, None),)))["FOR"] == "-"
    assert lock_cells(scenes.lock(1, "unknown", value=None))["VALUE"] == "-"
    process = scenes.worker(4711, cpu_percent=None, last_heartbeat_s=None)
    seen = cells(rows.WORKERS, rows.worker_rows(scenes.picture([], [process]))[0])
    assert seen["CPU%"] == "-"
    assert seen["BEAT"] == "-"


def test_of_several_holders_the_longest_counts() -> None:
    holders = (scenes.holder(4711, 2.0), scenes.holder(4712, 8.0))
    assert lock_cells(scenes.lock(1, "held", holders=holders))["FOR"] == "≥8.0s"


def test_a_lock_that_only_some_processes_map_names_them() -> None:
    assert lock_cells(scenes.lock(1, mapped_by=(scenes.pid(4712),)))["MAPPED"] == "4712"


def test_a_semaphore_shows_its_units_and_not_int_max() -> None:
    assert lock_cells(scenes.lock(1, kind="Semaphore", value=4, maximum=scenes.INT_MAX))["VALUE"] == "4"


def test_a_name_with_control_characters_cannot_command_the_terminal() -> None:
    assert lock_cells(scenes.lock(1, name="evil\x1b[2J"))["NAME"] == "evil?[2J"


def test_the_orphaned_come_first_and_the_rest_by_name() -> None:
    shown = grid.arrange(lock_rows(scenes.picture()), Arrangement())
    assert [row.cells[1].text for row in shown[:2]] == ["myapp.db.write_lock", "myapp.cache_lock"]


def test_the_master_comes_first() -> None:
    processes = list(reversed(scenes.workers()))
    shown = grid.arrange(rows.worker_rows(scenes.picture([], processes)), Arrangement())
    assert [row.cells[0].text for row in shown] == ["4710", "4711", "4712", "4713", "4714"]


def test_numbers_sort_as_numbers() -> None:
    processes = [
        scenes.worker(4711, cpu_percent=9.0),
        scenes.worker(4712, cpu_percent=80.0),
        scenes.worker(4713, cpu_percent=None),
    ]
    shown = grid.arrange(rows.worker_rows(scenes.picture([], processes)), Arrangement(column=3, reverse=True))
    assert [row.cells[0].text for row in shown] == ["4712", "4711", "4713"]


@pytest.mark.parametrize(
    ("pattern", "found"), [("", True), ("DB", True), ("!db", False), ("zz", False), ("!zz", True), ("!", True)]
)
def test_filters(pattern: str, found: bool) -> None:
    assert grid.matches(Row(1, (Cell("myapp.db"), Cell("held")), ()), pattern) is found


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("4712", ["db", "4712 cache"]), ("!4712", ["db", "4711", "4712 cache", "4713", "log"]), ("log", ["log"])],
)
def test_filtered_tree_keeps_the_path_to_each_row(pattern: str, found: list[str]) -> None:
    tree = [("db", 0), ("4711", 1), ("4712 cache", 1), ("4713", 2), ("log", 0)]
    made = [Row(i, (Cell(text),), (i,), depth) for i, (text, depth) in enumerate(tree)]
    assert [row.cells[0].text for row in grid.arrange(made, Arrangement(filter=pattern))] == found


@given(st.lists(TEXT, min_size=len(rows.LOCKS), max_size=len(rows.LOCKS)), st.integers(1, 200))
def test_a_line_is_never_wider_than_its_room(texts: list[str], width: int) -> None:
    row = Row(1, tuple(Cell(text) for text in texts), ())
    widths = grid.fit(rows.LOCKS, grid.content_widths(rows.LOCKS, [row]), width)
    spans = grid.row_line(rows.LOCKS, widths, row, frozenset(), "")
    assert line.width_of(line.fill(spans, width)) == width


@given(TEXT, st.integers(0, 50))
def test_clipped_text_fits(text: str, width: int) -> None:
    for clip in (line.clip, line.clip_words):
        assert cell_len(clip(text, width)) <= width


@given(st.integers(20, 200))
def test_the_header_always_has_its_width(width: int) -> None:
    gauge = header.Gauge(0.2, 2.0, 3.0, True)
    snapshot = scenes.picture(problems=(scenes.refused(),))
    assert line.width_of(header.header_line(snapshot.server, snapshot, gauge, width)) == width


@pytest.mark.parametrize(
    ("text", "width", "clipped"),
    [
        ("4712 4713 4714", 14, "4712 4713 4714"),
        ("4712 4713 4714", 12, "4712 4713 +1"),
        ("4712 4713 4714", 11, "4712 +2"),
        ("4712 4713 4714", 5, "(3)"),
        ("myapp.pool.slots", 12, "…pool.slots"),
    ],
)
def test_lists_are_cut_between_words(text: str, width: int, clipped: str) -> None:
    assert line.clip_words(text, width) == clipped


def test_columns_go_in_their_order_and_the_room_is_used() -> None:
    columns = (Column("A", 5, 20, 0), Column("B", 5, 5, 2), Column("C", 5, 9, 1))
    assert grid.fit(columns, [20, 5, 9], 40) == [20, 5, 9]
    assert grid.fit(columns, [20, 5, 9], 19) == [5, 5, 5]
    assert grid.fit(columns, [20, 5, 9], 18) == [11, 0, 5]
    assert grid.fit(columns, [20, 5, 9], 8) == [8, 0, 0]


def test_column_fits_its_title_and_texts_or_all_possible_figures() -> None:
    columns = (Column("A", 5, 20, 0), Column("FOR", 7, 7, 1))
    assert grid.content_widths(columns, [Row(1, (Cell("a" * 12), Cell("")), ())]) == [12, 7]
    assert grid.content_widths(columns, [Row(1, (Cell("a"), Cell("")), ())]) == [2, 7]


def test_empty_column_gives_its_room_to_a_cut_one() -> None:
    columns = (Column("HOLDS", 8, 40, 1, marked=True), Column("WAITS", 12, 40, 2, marked=True))
    assert grid.fit(columns, [20, 6], 28) == [20, 6]
    assert grid.fit(columns, [6, 6], 40) == [8, 12], "what nobody needs is for the empty ones"


def test_column_without_room_makes_room_for_a_smaller_one() -> None:
    columns = (Column("NAME", 5, 9, 0), Column("BIG", 20, 20, 1), Column("B", 4, 4, 2))
    assert grid.fit(columns, [9, 20, 4], 20) == [9, 0, 4]
    assert grid.fit(columns, [9, 20, 4], 12) == [9, 0, 0], "but not at the cost of a text"


def test_choice_of_columns_does_not_depend_on_current_waiters() -> None:
    def there(wanted: int) -> list[bool]:
        widths = grid.content_widths(rows.LOCKS, [])
        widths[5] = wanted
        return [width > 0 for width in grid.fit(rows.LOCKS, widths, 78)]

    assert there(8) == there(30)


@pytest.mark.parametrize("width", [30, 40, 80, 160, 200])
def test_the_columns_fit_into_the_width(width: int) -> None:
    for columns in (rows.LOCKS, rows.WORKERS, private.COLUMNS, rows.SERVERS):
        widths = grid.fit(columns, [column.most for column in columns], width)
        optional = [w for w, column in zip(widths, columns, strict=True) if column.order]
        assert sum(widths) + 2 * (sum(w > 0 for w in widths) - 1) <= width or not any(optional)


@pytest.mark.parametrize(
    ("width", "said"), [(16, "BoundedSemaphore"), (13, "…Semaphore"), (10, "…Semaphore"), (9, "…emaphore")]
)
def test_a_class_is_cut_at_a_capital_letter(width: int, said: str) -> None:
    row = Row(1, (Cell("BoundedSemaphore"),), ())
    drawn = grid.row_line((Column("KIND", 5, 16, 0, cut="class"),), [width], row, frozenset(), "")
    assert line.text_of(drawn).rstrip() == said


def test_names_with_numbers_are_sorted_by_the_numbers() -> None:
    named = [scenes.lock(i, name=f"many[{i}]") for i in (10, 9, 100, 0)]
    shown = grid.arrange(lock_rows(scenes.picture(named)), Arrangement())
    assert [row.cells[1].text for row in shown] == ["many[0]", "many[9]", "many[10]", "many[100]"]
    shown = grid.arrange(lock_rows(scenes.picture(named)), Arrangement(column=1))
    assert [row.cells[1].text for row in shown] == ["many[0]", "many[9]", "many[10]", "many[100]"]
    holds = scenes.worker(4711, holds=tuple(lock.id for lock in named))
    row = rows.worker_rows(scenes.picture(named, [holds]))[0]
    assert cells(rows.WORKERS, row)["HOLDS"] == "many[0], many[9], many[10], many[100]"


def test_threads_of_one_process_are_counted() -> None:
    one, other = scenes.waiter(21214), scenes.waiter(21220)
    lock = scenes.lock(1, "contended", name="a", holders=(scenes.holder(4711),), waiters=(one, one, one, other))
    assert lock_cells(lock)["WAITERS"] == "21214×3 21220"
    assert sentences.lock_sentence(lock).endswith("4 wait: 21214×3 21220.")


def test_sentence_that_is_too_long_counts_the_pids_it_omits() -> None:
    lock = scenes.lock(1, "contended", name="app.lock", holders=(scenes.holder(4711),),
                      waiters=tuple(scenes.waiter(9000 + i) for i in range(12)))  # fmt: skip
    said = sentences.shortened(sentences.lock_sentence(lock), 78)
    assert said.endswith("12 wait: 9000 9001 9002 9003 9004 9005 +6.")
    assert cell_len(said) <= 78


def test_wide_characters_get_the_cells_that_they_need() -> None:
    columns = (Column("NAME", 18, 48, 0),)
    assert grid.content_widths(columns, [Row(1, (Cell("\u9501" * 4),), ())]) == [8]
    assert timeline_rows.label_width(160, [timeline_rows.TimelineRow(1, "\u9501" * 15)]) == 31


@given(st.text("ab \u9501\u00e9\U0001f50e\u0301./\u2026", max_size=120), st.integers(10, 60))
def test_prose_is_wrapped_within_the_width_and_nothing_is_lost(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert all(cell_len(each) <= width for each in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_items_give_way_in_their_order() -> None:
    items = [Item(0, (Span("must"),)), Item(2, (Span("may"),)), Item(1, (Span("should"),))]
    assert line.text_of(line.spread(items, (), 30)).split() == ["must", "may", "should"]
    assert line.text_of(line.spread(items, (), 18)).split() == ["must", "should"]
    assert line.width_of(line.spread(items[1:], (), 3)) == 3


@pytest.mark.parametrize(
    ("height", "wanted", "heights"),
    [
        (20, [7, 8, 0], [7, 13, 0]),
        (20, [60, 60, 0], [10, 10, 0]),
        (20, [7, 60, 0], [7, 13, 0]),
        (20, [60, 5, 4], [11, 5, 4]),
        (5, [60, 60, 0], [3, 2, 0]),
    ],
)  # fmt: skip
def test_panes_share_the_height(height: int, wanted: list[int], heights: list[int]) -> None:
    assert panes.share(height, wanted) == heights
    assert sum(heights) == height


def test_intervals_go_up_and_down_from_anywhere() -> None:
    assert poller.slower(0.2) == 0.5
    assert poller.faster(0.2) == 0.1
    assert poller.slower(0.3) == 0.5
    assert poller.faster(0.3) == 0.2
    assert poller.slower(60) == 10
    assert poller.faster(0.01) == 0.1


def test_the_effective_rate_is_said_where_it_is_less() -> None:
    snapshot = scenes.picture()

    def said(rate: float | None) -> str:
        return line.text_of(header.header_line(snapshot.server, snapshot, header.Gauge(0.2, rate), 120))

    assert "shown" not in said(None)
    assert "shown" not in said(4.9)
    assert "every 0.2s, shown 2.0/s" in said(2.0)


def test_an_unknown_state_is_explained() -> None:
    lock = scenes.lock(1, "unknown", name="myapp.lock", reason="two processes claim it")
    assert sentences.lock_sentence(lock) == "myapp.lock: two processes claim it."
    told = [entry.value for entry in subjects.entries(lock.id, scenes.picture([lock]))]
    assert "two processes claim it" in told


@pytest.mark.parametrize(
    ("state", "maximum", "said"),
    [("free", 1, "nobody"), ("orphaned", 1, "nobody"), ("unknown", 1, "nobody that is known"),
     ("free", 3, "nobody that is known")],
)  # fmt: skip
def test_only_a_lock_without_holder_is_held_by_nobody(state: scenes.LockState, maximum: int, said: str) -> None:
    lock = scenes.lock(1, state, maximum=maximum)
    told = {entry.label: entry.value for entry in subjects.entries(lock.id, scenes.picture([lock]))}
    assert told["held by"] == said


def test_stacks_are_told_where_they_are_known() -> None:
    stack = (Frame("pay", "/srv/bank.py", 12),)
    lock = scenes.lock(1, "held", holders=(replace(scenes.holder(4711), stack=stack),))
    told = "\n".join(entry.value for entry in subjects.entries(lock.id, scenes.picture([lock])))
    assert "/srv/bank.py:12 in pay" in told


def test_problems_of_the_same_cause_are_said_once() -> None:
    problems = tuple(replace(scenes.refused(), process=scenes.pid(number)) for number in (4712, 4711))
    snapshot = scenes.picture([], problems=problems)
    told = sentences.no_locks(snapshot, rows.shown_locks(snapshot, False))
    assert told == ["reading memory: operation not permitted (pid 4711 4712).", "sudo semtrace 4710"]


def test_signs_tell_the_states_apart_without_colour() -> None:
    assert len({sign.sign for sign in LOCK_SIGNS.values()}) == len(LOCK_SIGNS)
    assert all(cell_len(sign.sign) == 1 for sign in (*LOCK_SIGNS.values(), *PROCESS_SIGNS.values()))


class Stream:
    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("stdin", "stdout", "term", "reason"),
    [
        (True, True, "xterm", None),
        (True, False, "xterm", "the output is not a terminal"),
        (False, True, "xterm", "the input is not a terminal"),
        (True, True, "", "TERM is not set"),
        (True, True, "dumb", "the terminal cannot move its cursor (TERM=dumb)"),
    ],
)
def test_unusable_terminals(
    monkeypatch: pytest.MonkeyPatch, stdin: bool, stdout: bool, term: str, reason: str | None
) -> None:
    monkeypatch.setenv("TERM", term)
    assert capabilities.unusable_terminal(Stream(stdin), Stream(stdout)) == reason  # type: ignore[arg-type]


def test_driver_with_waiting_output_is_behind_an_unknown_is_not() -> None:
    class Writer:
        _queue: Queue[str] = Queue()

    class Driver:
        _writer_thread = Writer()

    assert not capabilities.is_behind(Driver())
    Writer._queue.put("a frame")
    assert capabilities.is_behind(Driver())
    assert not capabilities.is_behind(None)


def test_figures_stand_still_within_their_window() -> None:
    now = [0.0]
    used = [0.0]
    gauge = meter.Meter(lambda: now[0], lambda: used[0])
    for _ in range(8):
        now[0] += 0.2
        used[0] += 0.01
        gauge.frame()
    assert gauge.rate == pytest.approx(5.0)
    assert gauge.cpu_percent == pytest.approx(5.0)
    now[0] += 0.7
    gauge.frame()
    assert gauge.rate == pytest.approx(5.0)
    gauge.restart()
    assert gauge.rate is None


def test_sparse_column_has_no_width_until_it_has_text() -> None:
    columns = (Column("A", 5, 9, 0), Column("REMARK", 8, 20, 1, sparse=True))
    assert grid.content_widths(columns, [Row(1, (Cell("a"), Cell("")), ())]) == [2, 0]
    assert grid.content_widths(columns, [Row(1, (Cell("a"), Cell("b")), ())]) == [2, 7]


def test_an_orphan_tells_since_when_and_who_died_with_it() -> None:
    dead = DeadHolder(scenes.pid(4720), acquired_s=30.0)
    stuck = scenes.lock(
        1, "orphaned", name="myapp.lock", orphaned_s=12.0, dead_holder=dead, waiters=(scenes.waiter(4712, 9.0),)
    )
    seen = lock_cells(stuck)
    assert seen["FOR"] == "≥12s"
    assert seen["REMARK"].startswith("4720 died holding it")
    assert sentences.lock_sentence(stuck) == "myapp.lock is locked: 4720 died holding it. 1 waits: 4712."


def test_list_of_pids_without_room_is_omitted_entirely() -> None:
    told = "a lock is locked. 4 wait: 24250 24251 24252 24253."
    assert sentences.shortened(told, 30) == "a lock is locked. 4 wait."
    assert sentences.shortened(told, 38) == "a lock is locked. 4 wait: 24250 +3."
