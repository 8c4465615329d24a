"""Base of all screens that show a server: filter, copy, short notices, the keys at the bottom."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input

from semtrace.rules.headline import headline
from semtrace.tui import commands
from semtrace.tui.state import ViewState
from semtrace.tui.terminal.ascii import spelled
from semtrace.tui.text import header
from semtrace.tui.text.introductions import INTRODUCTIONS, introduction_line
from semtrace.tui.text.kept import Kept
from semtrace.tui.text.line import Item, Span, fill
from semtrace.tui.text.orphan_lines import orphan
from semtrace.tui.widgets.bar import Bar
from semtrace.tui.widgets.filter_input import FilterInput
from semtrace.tui.widgets.line_widget import drawing_of
from semtrace.tui.widgets.replay_bar import ReplayBar, SeekInput
from semtrace.tui.widgets.table import Table

NOTICE_S = 2.5
LEAST_FOR_INTRODUCTION = 20  # lines: below it each is needed for rows


class Open(Message):
    """A request to open the details of this row."""

    def __init__(self, row: Hashable) -> None:
        super().__init__()
        self.row = row


class Reveal(Message):
    """A request to show this row in the overview."""

    def __init__(self, row: Hashable) -> None:
        super().__init__()
        self.row = row


class Return(Message):
    """A request to return to the view of that key as it was left."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


class AskRelease(Message):
    """A request to release the lock of this row, if it is orphaned."""

    def __init__(self, row: Hashable) -> None:
        super().__init__()
        self.row = row


class View(Screen[None]):
    """`renew` draws the picture that is shown now. `asks` is True of a screen that wants an answer first: the keys that
    lead elsewhere do nothing there.
    """

    BINDINGS: ClassVar[list[BindingType]] = commands.bindings("filter", "back", "release", "dismiss")
    asks: ClassVar[bool] = False
    has_verdict: ClassVar[bool] = True  # False where the screen has a line of its own for it
    shows_pause: ClassVar[bool] = True  # False where the screen itself says that the picture stands still
    key = ""  # the command that leads here
    topic = ""  # what is explained here to who sees it for the first time, if it is not the key
    _row: Hashable = None  # the subject of a screen without a table

    def __init__(self) -> None:
        super().__init__()
        self._filtered: Table | None = None
        self._notice_timer: Timer | None = None
        self._banner = ("", "")
        self._bars: dict[str, Bar] = {}
        self._footer: Kept[tuple[Item, ...]] = Kept()
        self._focused_before: Widget | None = None

    @property
    def shared_state(self) -> ViewState | None:
        """The state that all screens share; None before there is a server."""
        main = getattr(self.app, "main", None)
        view_state = getattr(main, "view_state", None)
        return view_state if isinstance(view_state, ViewState) else None

    @property
    def is_current(self) -> bool:
        """True only if nothing covers it: else Textual (8.2.8) repaints all at each message of a covered screen."""
        return super().is_current and self.app.screen is self

    def on_screen_resume(self) -> None:
        """Its picture is as old as its last time on top."""
        self.freshen()

    def freshen(self) -> None:
        """Another picture is shown, or the view was paused or goes on."""
        self.show_banner()
        self.show_verdict()
        self.show_introduction()
        self.renew()
        self.show_keys()

    # ---- for subclasses to override

    def renew(self) -> None:
        """Draw what is shown now."""

    def opened(self) -> None:
        """Begin at the beginning: the key of the view was pressed, the user did not come back to it."""

    def collected(self) -> None:
        """The server was read; what is shown may stand still."""

    def keys(self) -> Sequence[str]:
        """The commands for the footer."""
        return ("back", "help")

    def hints(self) -> Sequence[Item]:
        """The items of the footer before the commands."""
        return ()

    def settle(self) -> None:
        """The filter's line has come or gone."""

    def copied(self) -> str:
        """The text that `y` copies."""
        table = self.table
        return table.selected_text if table is not None else ""

    # ---- for subclasses to use

    def head(self) -> ComposeResult:
        """The first line of the screen."""
        yield Bar(id="verdict")

    def show_verdict(self) -> None:
        """Show the verdict on the server, and its name; nothing once it has ended, because the banner shows that."""
        state = self.shared_state
        snapshot = state.snapshot if state is not None else None
        shown = self.has_verdict and state is not None and snapshot is not None and snapshot.alive
        self.set_class(shown, "-verdict")
        if shown and state is not None and snapshot is not None:
            self.bar("verdict").say(partial(header.verdict_line, headline(snapshot), state.server, snapshot))

    def foot(self) -> ComposeResult:
        """The last lines of the screen."""
        yield Bar(id="banner")
        yield ReplayBar()
        yield SeekInput()
        yield FilterInput()
        yield Bar(id="introduction", base="")
        yield Bar(id="keys")

    def show_keys(self) -> None:
        if self._notice_timer is not None:
            return
        keys, more, keymap = self.keys(), [*self._own_hints(), *self.hints()], dict(self.app._keymap)
        items = self._footer.of((keys, more, keymap), lambda: self._spelled(commands.footer(keys, keymap, more)))
        self.bar("keys").say(partial(commands.footer_line, items))

    def _spelled(self, items: Sequence[Item]) -> tuple[Item, ...]:
        if not drawing_of(self.app).ascii:
            return tuple(items)
        return tuple(Item(order, tuple(Span(spelled(text), style) for text, style in line)) for order, line in items)

    def _own_hints(self) -> list[Item]:
        """Return the hints that every screen has: how to go on when paused, and that this lock can be released."""
        view_state = self.shared_state
        if view_state is None or self.asks:
            return []
        keymap = self.app._keymap
        hints = [commands.hint_of("pause", keymap, word="go on", order=0)] if view_state.paused else []
        if view_state.tools.player is not None:
            word = "stop" if view_state.tools.player.playing else "play"
            hints = [
                commands.hint_of("play", keymap, word=word, order=0),
                commands.pair("step_back", "step_on", keymap),
                commands.pair("event_back", "event_on", keymap),
                commands.hint_of("seek", keymap),
            ]
        if view_state.tools.release is not None and orphan(self.row, view_state.snapshot) is not None:
            hints.append(commands.hint_of("release", keymap))
        return hints

    def show_introduction(self) -> None:
        """Show a line that explains the screen, until it is dismissed."""
        state, topic = self.shared_state, self.topic or self.key
        introduction = INTRODUCTIONS.get(topic)
        roomy = self.size.height >= LEAST_FOR_INTRODUCTION
        known = introduction is not None and not self.asks
        shown = state is not None and known and roomy and state.remembered.explains(topic)
        if shown is not self.has_class("-introduction"):
            self.set_class(shown, "-introduction")
            self.settle()
        if shown and introduction is not None:
            keys = [commands.hint_of(name, self.app._keymap) for name in ("about", "dismiss")]
            self.bar("introduction").say(partial(introduction_line, introduction.line, keys))

    def action_hide_introduction(self) -> None:
        if not self.has_class("-introduction"):
            self.say("there is nothing to dismiss here")
        elif (state := self.shared_state) is not None:
            state.remembered.dismiss(self.topic or self.key)
            self.show_introduction()
            self.renew()

    def show_banner(self) -> None:
        """Show on every screen that the server has ended or cannot be read, or that the picture stands still."""
        view_state = self.shared_state
        self._say_replay(view_state)
        state = header.state_banner(view_state, self.shows_pause) if view_state is not None else ("", "")
        if state == self._banner:
            return
        self._banner = text, style = state
        self.set_class(bool(text), "-banner")
        self.bar("banner").say(lambda width: fill((Span(f" {text}", style),), width, style))
        self.settle()
        self.call_after_refresh(self.renew)  # in the height that is left

    def _say_replay(self, view_state: ViewState | None) -> None:
        player = view_state.tools.player if view_state is not None and not self.asks else None
        if (player is not None) is not self.has_class("-replay"):
            self.set_class(player is not None, "-replay")
            self.settle()
        if player is not None:
            self.query_one(ReplayBar).tell(player)

    def seek(self) -> None:
        """Let the user type a time."""
        self._focused_before = self.focused
        self.query_one(SeekInput).ask()
        self.settle()

    def seek_done(self) -> None:
        self.settle()
        self.set_focus(self._focused_before)

    def say(self, text: str, style: str = "strong") -> None:
        """Show a short notice in the place of the keys."""
        if self._notice_timer is not None:
            self._notice_timer.stop()
        self.bar("keys").say_text(text, style)
        self._notice_timer = self.set_timer(NOTICE_S, self._end_notice)

    def _end_notice(self) -> None:
        self._notice_timer = None
        self.show_keys()

    def bar(self, name: str) -> Bar:
        bar = self._bars.get(name)
        if bar is None:
            bar = self._bars[name] = self.query_one(f"#{name}", Bar)
        return bar

    @property
    def table(self) -> Table | None:
        """The one with the focus, or the first."""
        if isinstance(self.focused, Table):
            return self.focused
        return self._filtered or next(iter(self.query(Table)), None)

    @property
    def row(self) -> Hashable:
        """The row under the cursor, or the subject of the screen."""
        table = self.table
        return table.selected if table is not None else self._row

    # ---- keys

    def on_key(self, event: events.Key) -> None:
        """Say that a key does nothing: no widget used it on its way here. A screen that asks handles its own keys."""
        if event.is_printable and not self.asks and not self.filter_box.display and not self._is_bound(event.key):
            help_key = commands.shown(commands.keys_of("help", self.app._keymap)[0])
            self.say(f"{event.character} does nothing here; {help_key} shows the keys")

    def _is_bound(self, key: str) -> bool:
        return any(key in bindings.key_to_bindings for _, bindings in self._modal_binding_chain)

    def action_back(self) -> None:
        """Leave the innermost thing: the filters, then the screen."""
        filtered = [table for table in self.query(Table) if table.view.filter]
        for table in filtered:
            table.set_filter("")
        if not filtered:
            self.leave()

    def leave(self) -> None:
        self.dismiss(None)

    def action_filter(self) -> None:
        self._filtered = self.table
        if self._filtered is None:
            return
        self.filter_box.open(self._filtered.view.filter)
        self.settle()
        self.set_focus(self.filter_box)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a filter is typed, `/` is a letter."""
        if action in ("release", "hide_introduction"):
            return not self.asks
        return action != "filter" or not (self.filter_box.display or self.table is None)

    def on_table_moved(self, event: Table.Moved) -> None:
        self.show_keys()

    def action_release(self) -> None:
        self.post_message(AskRelease(self.row))

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._filtered is not None:
            self._filtered.set_filter(event.value)

    def on_filter_input_closed(self, event: FilterInput.Closed) -> None:
        table, self._filtered = self.table, None
        self.filter_box.display = False
        self.settle()
        if table is not None:
            if not event.keep:
                table.set_filter("")
            self.set_focus(table)

    @property
    def filter_box(self) -> FilterInput:
        return self.query_one(FilterInput)
