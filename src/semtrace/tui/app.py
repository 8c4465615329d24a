"""The application: which screen is on top, the keys that all have, and a terminal restored whatever ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from semtrace.errors import EXIT_OK, NoServer, SemtraceError
from semtrace.model import Server
from semtrace.settings import Settings
from semtrace.tui import commands
from semtrace.tui.child import Child, Leaving
from semtrace.tui.chooser import ChooserScreen
from semtrace.tui.drawn import Drawn
from semtrace.tui.looking import Looking, Tools
from semtrace.tui.main import MainScreen
from semtrace.tui.meter import Meter
from semtrace.tui.palette import PLAIN_THEME, THEME
from semtrace.tui.remembered import Remembered
from semtrace.tui.saving import save
from semtrace.tui.source import Source
from semtrace.tui.table import Table
from semtrace.tui.terminal import drawing_on_the_terminal, wants_no_color
from semtrace.tui.view import Open, Reveal, View
from semtrace.tui.views import VIEWS, detail

FindServers = Callable[[], Sequence[Server]]
OpenSource = Callable[[Server], Source]

# How long leaving may take before the process ends without it.
LEAVE_S = 2.0
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
    app = SemtraceApp(servers, find, open_source, settings=settings, child=child, tools=tools, remembered=remembered)
    try:
        with drawing_on_the_terminal():
            code = app.run()
    finally:
        app.left.set()
    return code if code is not None else app.return_code or EXIT_OK


class SemtraceApp(App[int]):
    """`clock` and `meter` are given by tests, whose pictures must not depend on the moment."""

    CSS_PATH = "semtrace.tcss"
    TITLE = "semtrace"
    ALLOW_SELECT = False
    COMMAND_PALETTE_BINDING = "ctrl+backslash"  # ours is among the commands, where a key map finds it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", show=False, priority=True),
        *commands.bindings(
            *("help", "settings", "findings", "blocking", "timeline", "events", "problems"),
            *("pause", "slower", "faster", "copy", "save", "palette", "quit"),
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
    ) -> None:
        # With ansi_color, NO_COLOR takes the last greys away as well, which the theme alone would come too late for.
        plain = wants_no_color()
        super().__init__(ansi_color=True if plain else None)
        self.register_theme(THEME)
        self.theme = PLAIN_THEME if plain else THEME.name
        self.settings = settings or Settings()
        Drawn.ascii = self.settings.ascii
        self.left = threading.Event()
        self._servers = servers
        self._find = find
        self._open_source = open_source
        self._child = child
        self._tools = tools or Tools()
        self._remembered = remembered or Remembered()
        self._meter = meter or Meter()
        self._clock = clock
        self._views: dict[str, View] = {}

    def on_mount(self) -> None:
        self._restore_terminal_on_signals()
        self.set_keymap(dict(self.settings.keys))
        if len(self._servers) > 1:
            self.push_screen(ChooserScreen(self._servers, self._find, self._clock))
        else:
            self._look_at(self._servers[0])

    # ---- which screen

    def on_chooser_screen_picked(self, event: ChooserScreen.Picked) -> None:
        self._look_at(event.server)

    def on_open(self, message: Open) -> None:
        if self.main is not None:
            self.push_screen(detail(self.main.looking, message.row))

    def on_reveal(self, message: Reveal) -> None:
        main = self.main
        if main is not None:
            self._uncover(main)
            main.reveal(message.row)

    def action_view(self, name: str) -> None:
        """Shows that view instead of the one that is there; its own key again leads back."""
        main = self.main
        if main is not None:
            shown = getattr(self.screen, "key", "")
            self._uncover(main)
            if shown != name:
                self.push_screen(self._view(name, main))

    def _view(self, name: str, main: MainScreen) -> View:
        """Made once for each server: to make a screen takes Textual longer than all that is then drawn on it, and its
        filter and its zoom are as they were left.
        """
        view = self._views.get(name)
        if view is None:
            view = self._views[name] = VIEWS[name](main.looking)
            view.key = name
            self.install_screen(view, f"view-{name}")
        return view

    @property
    def main(self) -> MainScreen | None:
        return next((screen for screen in self.screen_stack if isinstance(screen, MainScreen)), None)

    def _uncover(self, main: MainScreen) -> None:
        while self.screen is not main:
            self.pop_screen()

    def _look_at(self, server: Server) -> None:
        self._meter.restart()
        for view in self._views.values():
            self.uninstall_screen(view)
            view.remove()
        self._views.clear()
        several = len(self._servers) > 1
        looking = Looking(server, self._tools, self.settings, self._meter, self._child, several)
        self.push_screen(MainScreen(looking, partial(self._open_source, server)))

    # ---- what the keys do everywhere

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where a question waits for its answer, and where there is no server yet, the keys lead nowhere else."""
        if action in ("view", "pause", "slower", "faster", "copy", "save", "command_palette"):
            return isinstance(self.screen, View) and not self.screen.asks
        return True

    def action_pause(self) -> None:
        if self.main is not None:
            self.main.pause()
            if self.screen is not self.main and isinstance(self.screen, View):
                paused = self.main.looking.paused
                self.screen.say("paused: the picture stands still, collecting goes on" if paused else "goes on")
                self.screen.renew()

    def action_slower(self) -> None:
        if self.main is not None:
            self.main.slower()

    def action_faster(self) -> None:
        if self.main is not None:
            self.main.faster()

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
        looking, folder = self.main.looking, self._tools.folder
        if folder is None:
            self.screen.say("nothing is saved from this view")
            return
        try:
            svg = self.export_screenshot(title=f"semtrace {looking.server.pid}")
            written = save(folder, svg, looking.snapshot, datetime.now())
        except SemtraceError as error:
            self.screen.say(f"{error}: {error.remedy}", "warning")
        else:
            self.screen.say(f"saved {' and '.join(map(str, written))}")

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for name, command in commands.COMMANDS.items():
            if name != "palette" and command.where in ("", getattr(screen, "key", "")):
                keys = " ".join(map(commands.shown, commands.keys_of(name, self.settings.keys)))
                yield SystemCommand(f"{command.word}  {keys}", command.help, partial(self._perform, name))

    async def _perform(self, name: str) -> None:
        """The palette has gone by then: the screen below it is meant."""
        await commands.perform(self.screen, name)

    async def action_quit(self) -> None:
        """With a server of ours it asks first; Ctrl-C there is the answer that it always is."""
        if self._child is None or not self._child.running or isinstance(self.screen, Leaving):
            self.exit(EXIT_OK)
        else:
            self.push_screen(Leaving(self._child), self._answered)

    def _answered(self, answer: str | None) -> None:
        if answer and self._child is not None:
            self._child.leave = answer == "leave"
            self.exit(EXIT_OK)

    # ---- what is remembered

    def on_table_ready(self, event: Table.Ready) -> None:
        order = self._remembered.order(event.table.id or "")
        if order is not None:
            event.table.set_order(order)

    def on_table_sorted(self, event: Table.Sorted) -> None:
        self._remembered.keep(event.table.id or "", event.table.order)

    # ---- the end

    def _restore_terminal_on_signals(self) -> None:
        """By default these end Python at once, in the alternate screen with the mouse on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # not in the main thread: whoever runs us there has its own
            with suppress(RuntimeError, ValueError):
                loop.add_signal_handler(number, self._leave, 128 + number)

    def _leave(self, code: int) -> None:
        self.exit(code)
        threading.Thread(target=self._make_sure, args=(code,), name="semtrace-leave", daemon=True).start()

    def _make_sure(self, code: int) -> None:
        """A closed terminal ends Textual's writing thread (8.2.8, _writer_thread.py) with its queue full, and whoever
        writes then waits for ever: the program would stay behind after every ssh that drops."""
        if not self.left.wait(LEAVE_S):
            os._exit(code)
