"""The application: which screen is on top, and that the terminal is itself again whatever ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from semtrace.errors import EXIT_OK, NoServer
from semtrace.model import Server
from semtrace.tui.child import Child, Leaving
from semtrace.tui.chooser import ChooserScreen
from semtrace.tui.detail import TakeStacks
from semtrace.tui.main import MainScreen
from semtrace.tui.meter import Meter
from semtrace.tui.palette import PLAIN_THEME, THEME
from semtrace.tui.releasing import Release
from semtrace.tui.source import Source
from semtrace.tui.terminal import drawing_on_the_terminal, wants_no_color

FindServers = Callable[[], Sequence[Server]]
OpenSource = Callable[[Server], Source]

# How long leaving may take before the process ends without it.
LEAVE_S = 2.0


def run(
    find: FindServers,
    open_source: OpenSource,
    *,
    interval_s: float = 0.2,
    child: Child | None = None,
    release: Release | None = None,
    stacks: TakeStacks | None = None,
) -> int:
    """Shows the only server, or lets the user choose among several; returns the exit code.

    `child` is a server that we started: leaving asks what becomes of it. `release` releases an orphaned lock; it is
    called in a thread of its own, as is `stacks`, which reads Python stacks.

    `find` is called here and, for a list of several, again from a thread; `open_source` is called in the thread that
    then reads. What `find` raises at first goes to the caller, with the terminal untouched.
    """
    servers = find()
    if not servers:
        raise NoServer("no server was found", "start one, or give a PID")
    app = SemtraceApp(servers, find, open_source, interval_s=interval_s, child=child, release=release, stacks=stacks)
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
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "quit", show=False, priority=True)]

    def __init__(
        self,
        servers: Sequence[Server],
        find: FindServers,
        open_source: OpenSource,
        *,
        interval_s: float = 0.2,
        child: Child | None = None,
        release: Release | None = None,
        stacks: TakeStacks | None = None,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # With ansi_color, NO_COLOR takes the last greys away as well, which the theme alone would come too late for.
        plain = wants_no_color()
        super().__init__(ansi_color=True if plain else None)
        self.register_theme(THEME)
        self.theme = PLAIN_THEME if plain else THEME.name
        self._servers = servers
        self._find = find
        self._open_source = open_source
        self._interval_s = interval_s
        self._child = child
        self._release = release
        self._stacks = stacks
        self._meter = meter or Meter()
        self._clock = clock
        self.left = threading.Event()

    def on_mount(self) -> None:
        self._restore_terminal_on_signals()
        if len(self._servers) > 1:
            self.push_screen(ChooserScreen(self._servers, self._find, self._clock))
        else:
            self._look_at(self._servers[0])

    def on_chooser_screen_picked(self, event: ChooserScreen.Picked) -> None:
        self._look_at(event.server)

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

    def _look_at(self, server: Server) -> None:
        self._meter.restart()
        several = len(self._servers) > 1
        source = partial(self._open_source, server)
        screen = MainScreen(
            server, source, self._interval_s, self._meter, several, self._child, self._release, self._stacks
        )
        self.push_screen(screen)

    def _restore_terminal_on_signals(self) -> None:
        """By default these end Python at once, in the alternate screen with the mouse on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            try:
                loop.add_signal_handler(number, self._leave, 128 + number)
            except (RuntimeError, ValueError):  # not in the main thread: whoever runs us there has its own
                return

    def _leave(self, code: int) -> None:
        self.exit(code)
        threading.Thread(target=self._make_sure, args=(code,), name="semtrace-leave", daemon=True).start()

    def _make_sure(self, code: int) -> None:
        """A closed terminal ends Textual's writing thread (8.2.8, _writer_thread.py) with its queue full, and whoever
        writes then waits for ever: the program would stay behind after every ssh that drops."""
        if not self.left.wait(LEAVE_S):
            os._exit(code)
