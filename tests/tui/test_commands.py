"""Keys, key maps, the palette, the footer under the mouse, copying, saving, ASCII, and what is remembered."""

from __future__ import annotations

import asyncio
import json
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.scenes import FakeChild, Script, every_state, finding, holder, lock, picture, sem, thread_locks, waiter
from support.screens import SIZES, LiveView, live_view

from semtrace.errors import UsageError
from semtrace.model import Snapshot
from semtrace.settings import Settings
from semtrace.tui.commands import COMMANDS, shown
from semtrace.tui.finder import choices, score
from semtrace.tui.keymap import check, is_key
from semtrace.tui.remembered import Order, Remembered
from semtrace.tui.screens import view
from semtrace.tui.terminal.ascii import ascii_only
from semtrace.tui.text.grid import Cell, Column, Row
from semtrace.tui.text.introductions import INTRODUCTIONS
from semtrace.tui.text.line import Item, Span
from semtrace.tui.text.panes import LAYOUTS, arrange, layout_called
from semtrace.tui.widgets.table import Table
from semtrace.tui.widgets.widths import Widths

Scenario = Callable[[LiveView, Script], Awaitable[None]]
FAST = Settings(interval=0.01)


def play(scenario: Scenario, first: Snapshot | None = None, size: tuple[int, int] = (160, 45), **given: object) -> None:
    async def go() -> None:
        source = Script(first or picture())
        async with live_view(source, size, **given) as seen:  # type: ignore[arg-type]
            await seen.sees("Locks")
            await scenario(seen, source)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("letter", "function", "there"),
    [
        ("?", "f1", "Keys and signs"),
        (",", "f2", "Settings"),
        ("f", "f3", "Nothing wrong is seen"),
        ("e", "f8", "No lock of this server is traced"),
        ("p", "p", "Everything could be read"),
    ],
)
def test_same_letter_or_function_key_opens_and_closes_a_view(letter: str, function: str, there: str) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        for key in (letter, function):
            await seen.press(key)
            await seen.sees(there)
            await seen.press(key)
            await seen.sees("Workers", "Locks")

    play(scenario)


def test_key_switches_between_views_and_escape_returns_to_the_panes() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("f", "e")
        await seen.sees("Events")
        await seen.press("escape")
        await seen.sees("Workers", "Locks")

    play(scenario)


def test_closing_help_or_settings_returns_to_the_previous_view() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("w")
        await seen.sees("Blocking tree")
        await seen.press("question_mark")
        await seen.sees("Keys and signs")
        await seen.press("comma")
        await seen.sees("Settings")
        await seen.press("escape")
        await seen.sees("Blocking tree")
        await seen.press("question_mark", "question_mark")
        await seen.sees("Blocking tree")
        await seen.press("question_mark", "t")
        await seen.sees("Timeline")
        await seen.press("escape")
        await seen.sees("Workers", "Locks")

    play(scenario)


def test_every_command_is_in_the_help() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("question_mark")
        await seen.sees("Keys and signs")
        for command in COMMANDS.values():
            assert command.help[:40] in seen.text, command

    play(scenario, size=(160, 90))


def test_key_map_replaces_keys_in_help_and_footer_too() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("F12 findings")
        await seen.press("f")
        assert "Nothing wrong" not in seen.text
        await seen.press("f12")
        await seen.sees("Nothing wrong is seen")

    play(scenario, settings=replace(FAST, keys={"findings": "f12"}))


def test_key_map_for_an_unknown_command_lists_the_known() -> None:
    with pytest.raises(UsageError, match="no command 'jump'") as caught:
        check({"jump": "x"})
    assert "findings" in caught.value.remedy


@pytest.mark.parametrize(
    ("keymap", "said"),
    [
        ({"pause": "banana"}, "pause = 'banana': there is no such key"),
        ({"pause": "ctr+x"}, "no such key"),
        ({"pause": "q"}, "'q' is to be pause, but it is quit already"),
        ({"release": "s"}, "'s' is to be release, but it is sort already"),
        ({"pause": "x", "copy": "x"}, "'x' is to be"),
        ({"pause": "?"}, "'question_mark' is to be pause, but it is help already"),
        ({"pause": "q", "quit": "x"}, "sheets have it for quit"),
        ({"pause": "j"}, "it moves the cursor"),
        ({"pause": "space,z"}, "'z' is to be pause, but it is closer already"),
        ({"rows": "t"}, "'t' is to be rows, but it is timeline already"),
        ({"rows": "z"}, "'z' is to be rows, but it is closer already"),
        ({"save": "3"}, "leads on from the details"),
    ],
)
def test_key_map_that_takes_a_commands_key_is_refused(keymap: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(keymap)
    assert said in str(caught.value)
    assert caught.value.remedy
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("keymap", [{}, {"pause": "space,P"}, {"quit": "x"}, {"sort": "r", "reverse": "s"},
                                    {"rows": "v", "beginning": "home"}, {"rows": "r"},
                                    {"findings": "f12"}, {"pause": "ctrl+space", "copy": "!"}])  # fmt: skip
def test_a_key_map_that_can_be_meant_is_taken(keymap: dict[str, str]) -> None:
    check(keymap)


@pytest.mark.parametrize("key", ["?", "question_mark", "F", "f", "f24", "shift+f1", "ctrl+a", "space", "delete", "ä"])
def test_what_textual_calls_a_key_is_one(key: str) -> None:
    assert is_key(key)


@pytest.mark.parametrize(
    "key", ["F1", "Space", "question mark", "f99", "ctrl-x", "hyper+", "<any>", "spcae", "shift+a", "ctrl+X"]
)
def test_what_it_would_never_send_is_none(key: str) -> None:
    assert not is_key(key)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        *[("question_mark", "?"), ("ctrl+p", "Ctrl-P"), ("f10", "F10"), ("space", "Space"), ("f", "f")],
        *[("exclamation_mark", "!"), ("!", "!"), (" f11", "F11"), ("less_than_sign", "<"), ("minus", "-")],
        *[("ctrl+backslash", "Ctrl-\\"), ("backspace", "backspace"), ("delete", "delete"), ("ä", "ä")],
    ],
)
def test_a_key_is_shown_as_it_stands_on_a_keyboard(key: str, name: str) -> None:
    assert shown(key) == name


def test_end_of_one_notice_does_not_cut_the_next_short(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("◐ contended")
        screen = seen.app.screen
        assert isinstance(screen, view.View)
        monkeypatch.setattr(view, "NOTICE_S", 0.1)
        screen.say("the first")
        monkeypatch.setattr(view, "NOTICE_S", 60.0)
        screen.say("the second")
        await seen.sees("the second")
        await seen.pilot.pause(0.3)
        assert "the second" in seen.text

    play(scenario)


def test_the_palette_finds_a_command_by_its_words() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("colon")
        await seen.until(lambda: type(seen.app.screen).__name__ == "CommandPalette", "the palette")
        await seen.press(*"findings")
        await seen.sees("what is wrong, the evidence")
        await seen.press("down", "enter")
        await seen.sees("Nothing wrong is seen")

    play(scenario)


@pytest.mark.parametrize(
    ("words", "first"), [("orphan", "release"), ("stack", "details"), ("wait", "timeline"), ("minute", "timeline"),
                         ("block", "blocking"), ("tree", "blocking"), ("Last MINUTE", "timeline"), ("F3", "findings")]
)  # fmt: skip
def test_palette_finds_a_command_by_the_words_of_its_help(words: str, first: str) -> None:
    found = sorted(choices({}, ""), key=lambda choice: score(words, choice), reverse=True)
    assert score(words, found[0]) > 0
    assert found[0].shown.split()[0] == first
    assert not any(score(f"{words} nowhere", choice) for choice in found)

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("colon")
        await seen.until(lambda: type(seen.app.screen).__name__ == "CommandPalette", "the palette")
        await seen.press(*("space" if letter == " " else letter for letter in words))
        await seen.sees(found[0].help[:30])

    play(scenario)


def test_a_click_on_a_word_of_the_footer_does_it() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        place = seen.lines[-1].index("findings") + 1
        await seen.pilot.click(offset=(place, len(seen.lines) - 1))
        await seen.sees("Nothing wrong is seen")

    play(scenario)


def test_y_copies_the_row_and_in_a_sheet_its_text() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("y")
        await seen.sees("copied: ")
        assert "myapp.db.write_lock" in seen.app.clipboard
        await seen.press("enter")
        await seen.sees("identity")
        await seen.press("y")
        await seen.until(lambda: "0:27:104" in seen.app.clipboard, "the sheet's text")
        assert "\n" in seen.app.clipboard

    play(scenario)


def test_s_saves_a_picture_that_fetches_nothing_and_the_snapshot(tmp_path: Path) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("S")
        await seen.sees("saved ")
        svg, snapshot = sorted(tmp_path.iterdir(), key=lambda path: path.suffix, reverse=True)
        drawn = svg.read_text()
        assert ET.fromstring(drawn).tag.endswith("svg")
        assert "myapp.db.write_lock" in drawn.replace("&#160;", " ")
        assert "font-face" not in drawn
        assert "cdn" not in drawn
        assert {each["name"] for each in json.loads(snapshot.read_text())["locks"]} >= {"myapp.db.write_lock"}
        assert snapshot.stat().st_mode & 0o077 == 0

    play(scenario, folder=tmp_path)


def test_failure_to_save_is_reported_and_leaves_no_files(tmp_path: Path) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("S")
        await seen.sees("cannot save in")

    (tmp_path / "file").write_text("")
    play(scenario, folder=tmp_path / "file")
    play(_says_nothing_is_saved)


async def _says_nothing_is_saved(seen: LiveView, source: Script) -> None:
    await seen.press("S")
    await seen.sees("nothing is saved from this view")


def test_r_on_a_lock_not_orphaned_explains_its_refusal() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("R")
        await seen.sees("only an orphaned lock can be released")

    only = picture([replace(every_state()[0], id=sem(1))])
    play(scenario, only, release=lambda server, lock: ["done"])


@pytest.mark.parametrize("size", SIZES)
def test_ascii_draws_every_screen_with_ascii_alone(size: tuple[int, int]) -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        for key in ("", "f", "question_mark", "comma", "t", "w", "e"):
            await seen.press(*([key] if key else []))
            await seen.pilot.pause()
            assert seen.text.isascii(), key
        await seen.press("escape", "colon")
        await seen.until(lambda: type(seen.app.screen).__name__ == "CommandPalette", "the palette")
        await seen.press("s", "o", "r", "t")
        await seen.sees("sort by the next")
        assert seen.text.isascii()

    odd = picture([*every_state(), lock(7, name="app.naïve_锁")], findings=(finding(),))
    play(scenario, odd, size, settings=replace(FAST, ascii=True))


def test_ascii_says_at_least_and_names_the_arrows() -> None:
    assert ascii_only("≥3.2s, ≥1m15s ≥") == "3.2s+, 1m15s+ +"

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.sees("3.2s+")
        assert ">3.2s" not in seen.text
        await seen.press("t")
        await seen.sees("left right cursor", "< > zoom")
        await seen.press("question_mark", "end")
        await seen.sees("3.2s+", "at least:", "up down", "left h")

    play(scenario, settings=replace(FAST, ascii=True), size=(160, 110))


def test_the_order_of_a_pane_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "state" / "view.json"

    async def sort(seen: LiveView, source: Script) -> None:
        await seen.press("s", "s", "r")
        await seen.until(path.exists, "the file")

    async def look(seen: LiveView, source: Script) -> None:
        await seen.until(lambda: seen.app.screen.query_one("#locks", Table).order == Order("NAME", True), "the order")

    play(sort, remembered=Remembered(path))
    play(look, remembered=Remembered(path))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sort": 1}', '{"sort": {"locks": 3}}', "\xff" * 70000])
def test_a_memory_that_is_spoiled_is_done_without(tmp_path: Path, text: str) -> None:
    path = tmp_path / "view.json"
    path.write_text(text)
    assert Remembered(path).order("locks") is None


def test_a_memory_that_cannot_be_written_bothers_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = Remembered(tmp_path / "file" / "view.json")
    memory.keep("locks", Order("NAME", False))
    assert memory.order("locks") == Order("NAME", False)


def test_tree_and_log_keep_their_order_and_remember_no_other(tmp_path: Path) -> None:
    path = tmp_path / "view.json"
    waits = lock(2, "contended", name="myapp.b", holders=(holder(4711),), waiters=(waiter(4712), waiter(4713)))

    async def scenario(seen: LiveView, source: Script) -> None:
        for key in ("w", "o"):
            await seen.press(key)
            await seen.sees("BLOCKS" if key == "w" else "Booting worker")
            before = seen.text
            await seen.press("s", "s", "r")
            table = seen.app.focused
            assert isinstance(table, Table)
            await seen.pilot.click(table, offset=(3, 1))
            await seen.pilot.pause()
            assert table.order == Order("", False)
            assert seen.text == before
            await seen.press("w" if key == "w" else "o")
        assert not path.exists()

    play(scenario, picture([waits]), child=FakeChild(), remembered=Remembered(path))


def test_remembered_order_of_the_tree_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "view.json"
    path.write_text(json.dumps({"sort": {"blocking": {"column": "FOR", "reverse": True}}}))

    async def scenario(seen: LiveView, source: Script) -> None:
        await seen.press("w")
        await seen.sees("Nobody waits")
        await seen.pilot.pause()
        assert seen.app.screen.query_one(Table).order == Order("", False)

    play(scenario, picture([lock(1)]), remembered=Remembered(path))


def test_only_a_column_with_a_title_can_be_sorted_by() -> None:
    async def scenario(seen: LiveView, source: Script) -> None:
        table = seen.app.screen.query_one("#private", Table)
        table.focus()
        table._columns = (Column("A", 5, 9, 0), Column("", 5, 9, 0))
        table._needs = Widths(table._columns)
        table.show([Row(1, (Cell("a"), Cell("b")), (0,))], [Item(0, (Span("Odd"),))], (), 0.0)
        table.action_sort()
        assert table.order.column == "A"
        await seen.pilot.click(table, offset=(9, 1))
        await seen.pilot.pause()
        assert table.order.column == "A"
        table.action_sort()
        assert table.view.column is None

    play(scenario, picture(thread_locks=thread_locks()))


def test_a_layout_is_chosen_by_a_key_and_remembered(tmp_path: Path) -> None:
    path = tmp_path / "view.json"

    async def choose(seen: LiveView, source: Script) -> None:
        await seen.press(*"LLL")
        await seen.sees("layout: the locks alone; L shows the next")
        await seen.misses(" Workers ")

    async def look(seen: LiveView, source: Script) -> None:
        await seen.misses(" Workers ")
        await seen.press("L")
        await seen.misses(" Locks ")
        await seen.press("enter")
        await seen.sees("Master 4710")
        await seen.press("escape", "L")
        await seen.sees(" Workers ", " Locks ")

    play(choose, remembered=Remembered(path))
    play(look, remembered=Remembered(path))


def test_first_panes_of_a_layout_grow_and_the_others_stay() -> None:
    locks_first = layout_called("locks-first")
    assert arrange(20, [30, 16, 0, 0], locks_first) == [4, 16, 0, 0]
    assert arrange(20, [30, 40, 5, 0], locks_first) == [3, 12, 5, 0]
    assert arrange(20, [2, 4, 0, 0], locks_first)[1] == 4
    assert arrange(9, [30, 16, 0, 0], layout_called("workers-only")) == [9, 0, 0, 0]
    for layout in (layout_called(each.name) for each in LAYOUTS):
        for height in range(1, 40):
            assert sum(arrange(height, [12, 8, 4, 6], layout)) == height


def test_each_screen_is_explained_until_that_is_dismissed(tmp_path: Path) -> None:
    path = tmp_path / "view.json"

    async def first(seen: LiveView, source: Script) -> None:
        await seen.sees("Processes above, their locks below", "X dismiss", "i about")
        await seen.press("X")
        await seen.misses("Processes above")
        await seen.press("t")
        await seen.sees("A row per worker", "X dismiss")
        await seen.press("i")
        await seen.sees("this demo  A bank.", "overview")
        await seen.press("i")
        await seen.sees("A row per worker")

    async def later(seen: LiveView, source: Script) -> None:
        assert "Processes above" not in seen.text
        await seen.press("t")
        await seen.sees("A row per worker")
        await seen.press("t", "X")
        await seen.sees("there is nothing to dismiss here")

    play(first, remembered=Remembered(path), size=(80, 24), story="A bank.\nIt fails.")
    play(later, remembered=Remembered(path), size=(80, 24))


def test_explanation_leaves_room_for_keys_and_appears_with_damaged_memory(tmp_path: Path) -> None:
    assert all(len(each.line) <= 60 for each in INTRODUCTIONS.values())
    path = tmp_path / "view.json"
    path.write_text('{"explained": 3, "layout": {"gunicorn": "odd"}}')
    memory = Remembered(path)
    assert memory.explains("panes")
    assert layout_called(memory.layout("gunicorn")).name == "even"
    assert not Remembered().explains("panes"), "at every start would be too often"
