"""The application: which screen is on top, the keys that all have, and a terminal restored whatever ends it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.command import Provider

from semtrace.errors import EXIT_OK, NoServer, SemtraceError
from semtrace.model import Server
from semtrace.settings import Settings
from semtrace.tui import commands
from semtrace.tui.child import Child
from semtrace.tui.engine import Engine
from semtrace.tui.finder import Finder
from semtrace.tui.garbage import rarely_collected
from semtrace.tui.messages import Broken, Failed, Pictured
from semtrace.tui.meter import Meter
from semtrace.tui.recording import NEWS_S, Notice, Recording
from semtrace.tui.remembered import Remembered
from semtrace.tui.screens.chooser import ChooserScreen
from semtrace.tui.screens.leave import Leaving
from semtrace.tui.screens.main import MainScreen
from semtrace.tui.screens.release import ReleaseSheet
from semtrace.tui.screens.view import AskRelease, Open, Return, Reveal, View
from semtrace.tui.screens.views import VIEWS, detail
from semtrace.tui.searching import Found, Search
from semtrace.tui.source import Source
from semtrace.tui.state import Tools, ViewState
from semtrace.tui.terminal import capabilities
from semtrace.tui.terminal.ascii_filter import AsciiFilter
from semtrace.tui.terminal.capabilities import drawing_on_the_terminal
from semtrace.tui.terminal.ending import Ending
from semtrace.tui.terminal.palette import PLAIN_THEME, THEMES, Colours
from semtrace.tui.terminal.saving import save
from semtrace.tui.text.orphan_lines import orphan, refusal
from semtrace.tui.widgets.line_widget import Drawing, LineApp
from semtrace.tui.widgets.replay_bar import ReplayBar, SeekInput
from semtrace.tui.widgets.table import Table

FindServers = Callable[[], Sequence[Server]]
OpenSource = Callable[[Server], Source]

LOOKUPS = ("help", "about", "settings", "problems")  # what is looked up in the middle of something else
BEHIND_S = 0.05
MOST_COPIED = 50_000  # terminals take some 74 KB of base64 in one OSC 52


def run(
    find: FindServers,
    open_source: OpenSource,
    *,
    settings: Settings | None = None,
    child: Child | None = None,
    tools: Tools | None = None,
    remembered: Remembered | None = None,
) -> int:
    """Shows the only server, or lets the user choose among several; returns the exit code.

    `child` is a server that we started: leaving asks what becomes of it.

    `find` is called here and, for a list of several, again from a thread; `open_source` is called in the thread that
    then reads. What `find` raises at first goes to the caller, with the terminal untouched.
    """
    servers = find()
    if not servers:
        raise NoServer("no server was found", "start one, or give a PID")
    settings = settings or Settings()
    with drawing_on_the_terminal():
        if not capabilities.draws_signs():
            settings = replace(settings, ascii=True)
        app = SemtraceApp(
            servers, find, open_source, settings=settings, child=child, tools=tools, remembered=remembered
        )
        try:
            with rarely_collected():
                code = app.run()
        finally:
            app.ending.left.set()
    return code if code is not None else app.return_code or EXIT_OK


class SemtraceApp(LineApp):
    """`clock` and `meter` are given by tests, whose pictures must not depend on the moment."""

    CSS_PATH = "semtrace.tcss"
    TITLE = "semtrace"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {Finder}
    ALLOW_SELECT = False
    COMMAND_PALETTE_BINDING = "ctrl+backslash"  # ours is among the commands, where a key map finds it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        *commands.bindings(
            *("help", "about", "settings", "findings", "blocking", "timeline", "events", "problems"),
            *("pause", "slower", "faster", "copy", "save", "palette", "quit"),
            *("play_slower", "play_faster", "step_back", "step_on", "skip_back", "skip_on", "event_back", "event_on"),
            *("seek", "record"),
        ),
    ]

    def __init__(
        self,
        servers: Sequence[Server],
        find: FindServers,
        open_source: OpenSource,
        *,
        settings: Settings | None = None,
        child: Child | None = None,
        tools: Tools | None = None,
        remembered: Remembered | None = None,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.time,
        colours: Colours | None = None,
    ) -> None:
        # With ansi_color, NO_COLOR takes the last greys away as well, which the theme alone would come too late for.
        colours = colours or capabilities.colours()
        super().__init__(ansi_color=None if colours in THEMES else True)
        for theme in THEMES.values():
            self.register_theme(theme)
        self.theme = THEMES[colours].name if colours in THEMES else PLAIN_THEME
        self.settings = settings or Settings()
        self.drawing = Drawing(self.settings.ascii, colours)
        if self.settings.ascii:
            self._filters.append(AsciiFilter())
        self.ending = Ending(self.exit)
        self._servers = servers
        self._find = find
        self._open_source = open_source
        self._child = child
        self._tools = tools or Tools()
        self._remembered = remembered or Remembered()
        self._meter = meter or Meter()
        self._clock = clock
        self._views: dict[str, View] = {}
        self._engine: Engine | None = None
        self.search = Search(self.post_message)
        self.recording = Recording(self._tools.recorder, self.post_message)

    def on_mount(self) -> None:
        self.ending.on_signals()
        if sys.__stdin__ is not None and sys.__stdin__.isatty():
            self.ending.on_hangup(sys.__stdin__.fileno())
        self.set_keymap(dict(self.settings.keys))
        if self._tools.recorder is not None:
            self.set_interval(NEWS_S, self.recording.look)
        if len(self._servers) > 1:
            self.push_screen(ChooserScreen(self._servers, self._find, self._clock, self._tools.examine))
        else:
            self._watch(self._servers[0])

    # ---- which screen

    def on_chooser_screen_picked(self, event: ChooserScreen.Picked) -> None:
        self._watch(event.server)

    def on_open(self, message: Open) -> None:
        if self.main is not None:
            self.push_screen(detail(self.main.view_state, message.row))

    def on_reveal(self, message: Reveal) -> None:
        main = self.main
        if main is not None:
            came_from = self._key
            self._uncover(main)
            main.reveal(message.row)
            main.came_from = came_from

    def on_ask_release(self, message: AskRelease) -> None:
        """Ask about the newest picture, also while an older one is shown: the user decides what to do now."""
        main, screen = self.main, self.screen
        if main is None or not isinstance(screen, View):
            return
        view_state = main.view_state
        lock, release = orphan(message.row, view_state.newest), view_state.tools.release
        if lock is None or release is None:
            screen.say(refusal(message.row, view_state.newest, release))
        else:
            self.push_screen(ReleaseSheet(view_state, lock, release))

    def action_view(self, name: str) -> None:
        """Show that view instead of the present one, or above it if it is a short look. Its own key leads back."""
        main = self.main
        if main is None:
            return
        shown = self._key
        if shown in LOOKUPS:
            self.pop_screen()
        if name not in LOOKUPS:
            self._uncover(main)
            main.came_from = ""
        if shown != name:
            view = self._view(name, main)
            view.opened()
            self.push_screen(view)

    def on_return(self, message: Return) -> None:
        if self.main is not None:
            self.push_screen(self._view(message.key, self.main))

    def _view(self, name: str, main: MainScreen) -> View:
        """Return the view of that name, made once for each server.

        Textual takes longer to make a screen than to draw on it. A kept screen also keeps its filter and its zoom.
        """
        view = self._views.get(name)
        if view is None:
            view = self._views[name] = VIEWS[name](main.view_state)
            view.key = name
            self.install_screen(view, f"view-{name}")
        return view

    @property
    def _key(self) -> str:
        """The name of the view on top, empty for a screen that is not a view."""
        return self.screen.key if isinstance(self.screen, View) else ""

    @property
    def main(self) -> MainScreen | None:
        return next((screen for screen in self.screen_stack if isinstance(screen, MainScreen)), None)

    def _uncover(self, main: MainScreen) -> None:
        while self.screen is not main:
            self.pop_screen()

    def _watch(self, server: Server) -> None:
        self._meter.restart()
        for view in self._views.values():
            self.uninstall_screen(view)
            view.remove()
        self._views.clear()
        several = len(self._servers) > 1
        view_state = ViewState(
            server, self._tools, self.settings, self._meter, self._child, several, remembered=self._remembered
        )
        self._engine = Engine(view_state, partial(self._open_source, server), self.post_message)
        self.push_screen(MainScreen(view_state), self._left)
        self._engine.start()

    def _left(self, _: object) -> None:
        """The user went back to the list of servers."""
        self._stop_reading()

    def on_unmount(self) -> None:
        self._stop_reading()

    def _stop_reading(self) -> None:
        if self._engine is not None:
            self._engine.stop()
            self._engine = None

    # ---- what is read

    def on_pictured(self, message: Pictured) -> None:
        engine, main = self._engine, self.main
        if engine is None or main is None:
            return
        if engine.take(message.snapshot):
            main.explain_end()
        self._show_states()
        self._catch_up()
        if (top := self._top) is not None:
            top.collected()

    def on_failed(self, message: Failed) -> None:
        engine, main = self._engine, self.main
        if engine is None or main is None:
            return
        if main.snapshot is None:
            main.explain_failure(message.error)
        else:
            engine.fail(message.error)
            self._show_states()

    def on_broken(self, message: Broken) -> None:
        raise message.error

    def _show_states(self) -> None:
        if (top := self._top) is not None:
            top.show_banner()

    @property
    def _top(self) -> View | None:
        """The screen on top, None if it does not have all its lines.

        A screen that is being made draws the newest picture as soon as it can. One that is being taken down has
        `display` False.
        """
        screen = self.screen
        return screen if isinstance(screen, View) and screen.is_mounted and screen.display else None

    def _catch_up(self) -> None:
        """Show the newest picture; a terminal that is behind gets it later, or a newer one instead."""
        if self._engine is None:
            return
        view_state = self._engine.view_state
        if view_state.newest is not view_state.snapshot and capabilities.is_behind(self._driver):
            self.set_timer(BEHIND_S, self._catch_up)
        elif view_state.catch_up():
            view_state.meter.frame()
            if (top := self._top) is not None:
                top.freshen()

    # ---- what the keys do everywhere

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return False for keys that lead elsewhere while a question is open, or before there is a server.

        Textual's palette (8.2.8, _option_list.py) breaks at a page key if it has no room for a line.
        """
        if action == "command_palette" and capabilities.too_small(*self.size):
            return False
        if action in ("speed", "step", "skip", "event", "seek") and self._tools.player is None:
            return False
        if action in ("view", "pause", "slower", "faster", "copy", "save", "record", "command_palette"):
            return isinstance(self.screen, View) and not self.screen.asks
        return action != "quit" or not isinstance(self.screen, Leaving)

    def action_pause(self) -> None:
        if self._tools.player is not None:
            self._play(self._tools.player.toggle, jumps=False)
        elif self._engine is not None and self.main is not None:
            view_state = self._engine.view_state
            view_state.paused = not view_state.paused
            view_state.meter.restart()
            self._catch_up()
            self.main.report_pace()
            if (top := self._top) is not None:
                top.freshen()
            if isinstance(self.screen, View):
                self.screen.renew()

    def action_slower(self) -> None:
        if self._engine is not None and self.main is not None:
            self._engine.slower()
            self.main.report_pace()

    def action_faster(self) -> None:
        if self._engine is not None and self.main is not None:
            self._engine.faster()
            self.main.report_pace()

    def _read_now(self) -> None:
        if self._engine is not None and self.main is not None:
            self._engine.read_now()
            self.main.report_pace()

    def action_speed(self, steps: int) -> None:
        if (player := self._tools.player) is not None:
            self._play(partial(player.faster, steps), jumps=False)

    def action_step(self, by: int) -> None:
        if (player := self._tools.player) is not None:
            self._play(partial(player.step, by))

    def action_skip(self, seconds: int) -> None:
        if (player := self._tools.player) is not None:
            self._play(partial(player.skip, seconds))

    def action_event(self, by: int) -> None:
        if (player := self._tools.player) is not None and self.search.start(player, by):
            self._play(lambda: None, jumps=False)
            if isinstance(self.screen, View):
                self.screen.say("searching …")

    def on_found(self, message: Found) -> None:
        self._play(lambda: None)
        if isinstance(self.screen, View):
            self.screen.say(message.text, message.style)

    def action_record(self) -> None:
        if self.main is not None:
            self.recording.toggle(self.main.view_state.newest)

    def on_notice(self, message: Notice) -> None:
        if isinstance(self.screen, View):
            self.screen.say(message.text, message.style)
        self._read_now()

    def action_seek(self) -> None:
        if isinstance(self.screen, View) and not self.screen.asks:
            self.screen.seek()

    def on_replay_bar_went(self, message: ReplayBar.Went) -> None:
        if (player := self._tools.player) is not None:
            self._play(partial(player.go_to, message.part))

    def on_seek_input_typed(self, message: SeekInput.Typed) -> None:
        if isinstance(self.screen, View):
            self.screen.seek_done()
        if (player := self._tools.player) is not None and message.text.strip():
            self._play(partial(player.go, message.text))

    def _play(self, act: Callable[[], object], jumps: bool = True) -> None:
        """Obey a key of a recording. An error comes from the file: show it, and stay where the recording is."""
        player, main = self._tools.player, self.main
        if player is None or main is None:
            return
        try:
            act()
            if jumps:
                main.jump(player.history())
        except SemtraceError as error:
            if isinstance(self.screen, View):
                self.screen.say(f"{error}: {error.remedy}" if error.remedy else f"{error}", "warning")
            return
        self._read_now()

    def action_copy(self) -> None:
        if isinstance(self.screen, View):
            text = self.screen.copied()[:MOST_COPIED]
            if text:
                self.copy_to_clipboard(text)
            lines = text.count("\n") + 1
            self.screen.say(f"copied: {text if lines == 1 else f'{lines} lines'}" if text else "nothing to copy here")

    def action_save(self) -> None:
        if not isinstance(self.screen, View) or self.main is None:
            return
        view_state, folder = self.main.view_state, self._tools.folder
        if folder is None:
            self.screen.say("nothing is saved from this view")
            return
        try:
            svg = self.export_screenshot(title=f"semtrace {view_state.server.pid}")
            written = save(folder, svg, view_state.snapshot, datetime.now())
        except SemtraceError as error:
            self.screen.say(f"{error}: {error.remedy}", "warning")
        else:
            self.screen.say(f"saved in {folder.absolute()}: {_names(written)}")

    async def action_quit(self) -> None:
        """Quit, but ask first if semtrace started the server."""
        if self._child is None or not self._child.running:
            self.exit(EXIT_OK)
        else:
            self.push_screen(Leaving(self._child), self._answered)

    async def action_interrupt(self) -> None:
        """Quit; if the user is asked about the server, Ctrl-C is the answer that it always is: stop it."""
        if isinstance(self.screen, Leaving):
            self.screen.dismiss("stop")
        else:
            await self.action_quit()

    def _answered(self, answer: str | None) -> None:
        if answer and self._child is not None:
            self._child.leave = answer == "leave"
            self.exit(EXIT_OK)

    # ---- what is remembered

    def on_table_ready(self, event: Table.Ready) -> None:
        order = self._remembered.order(self._pane_key(event.table))
        if order is not None:
            event.table.set_order(order)

    def on_table_sorted(self, event: Table.Sorted) -> None:
        self._remembered.keep(self._pane_key(event.table), event.table.order)

    def _pane_key(self, table: Table) -> str:
        """An order is remembered for each kind of server; that of the list of servers is for all."""
        kind = self.main.view_state.server.kind if self.main is not None else ""
        return f"{kind} {table.id}" if kind else table.id or ""


def _names(written: Sequence[Path]) -> str:
    """Name files that differ in their end alone: `a.svg and .json`."""
    return " and ".join(path.suffix if place else path.name for place, path in enumerate(written))
