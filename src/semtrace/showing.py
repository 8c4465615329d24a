"""The commands that open the live view: `attach`, `run`, and what a page of `serve` runs."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from semtrace import launch
from semtrace.check import answer_for
from semtrace.errors import UsageError
from semtrace.linux.surroundings import read_surroundings
from semtrace.model import Frame, Problem, ProcessId, SemId, Server
from semtrace.observe.observer import Observer
from semtrace.printing import emit, pass_on, say
from semtrace.record import child
from semtrace.record.player import Player
from semtrace.repairs import mend
from semtrace.rules import Limits
from semtrace.servers import discovery
from semtrace.settings import Settings, load, state_path
from semtrace.signals import ending_on_signals
from semtrace.stacks import take
from semtrace.tracing.follower import Follower
from semtrace.tui import app
from semtrace.tui.keymap import check
from semtrace.tui.remembered import Remembered
from semtrace.tui.state import Release, Tools
from semtrace.tui.terminal.capabilities import unusable_terminal

RELEASE_S = 20.0  # more than a release takes, with all that it waits for


def attach(options: argparse.Namespace) -> int:
    """The live view of a server that runs."""
    if options.browser is None:
        _need_terminal(f"semtrace dump --watch 1{' ' + str(options.pid) if options.pid else ''}")
    settings = settings_of(options)

    def find() -> Sequence[Server]:
        return discovery.find_servers() if options.pid is None else (discovery.server_of(options.pid),)

    with _recording(settings) as recorder, _releasing(options.audit) as release_it:
        tools = _tools(settings, release_it, recorder)
        return app.run(
            lambda: find() or (discovery.choose(options.pid),),
            _following(settings),
            settings=settings,
            tools=_in_browser(tools, options.browser) if options.browser else tools,
            remembered=None if options.browser else _remembered(settings),
        )


def open_recording(options: argparse.Namespace) -> int:
    """The live view of a recording."""
    _need_terminal(f"semtrace dump {options.file}")
    settings = settings_of(options)
    player = Player(options.file, Limits(ignore=frozenset(settings.ignore)), options.at)
    server = player.snapshot().server
    tools = Tools(folder=Path(settings.folder).expanduser(), player=player)
    threading.Thread(target=player.prepare, name="semtrace-overview", daemon=True).start()
    return app.run(
        lambda: (server,), lambda _: player, settings=settings, tools=tools, remembered=_remembered(settings)
    )


def run(options: argparse.Namespace) -> int:
    """A server of our own, traced, with the live view beside it; its exit code becomes ours."""
    launch.check(options.command)
    _need_terminal("semtrace run --headless -- …")
    settings = settings_of(options)
    if options.record is not None:
        child.check(options.record)
    with ending_on_signals(), _recording(settings) as recorder, _releasing(None) as release_it:
        launched = launch.Launched(options.command)

        def find() -> Sequence[Server]:
            server = launched.server()
            if options.record is not None and recorder.path is None:
                recorder.start(server.pid, True, options.record)
            return (server,)

        try:
            code = app.run(
                find,
                _following(settings),
                settings=settings,
                child=launched,
                tools=_tools(settings, release_it, recorder),
                remembered=_remembered(settings),
            )
        except BaseException:
            launched.stop(say)
            launched.forget()
            raise
    if launched.leave and launched.running:
        said = f"process {launched.pid} runs on; its output goes to {launched.log}"
        emit([said, "  a later `semtrace run` removes that file once the server has ended"])
        return code
    by_itself = not launched.running
    ended = launched.stop(say)
    if by_itself and ended:
        pass_on(launched.last_lines())  # they were in a pane, and go with it
    launched.forget()
    return ended


def settings_of(options: argparse.Namespace) -> Settings:
    """The user's file, and over it the command line."""
    settings = load()
    check(settings.keys)
    given = {name: getattr(options, name) for name in ("interval", "ascii")}
    settings = replace(settings, ignore=(*settings.ignore, *getattr(options, "ignore", ())))
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _need_terminal(instead: str) -> None:
    why_not = unusable_terminal()
    if why_not is not None:
        raise UsageError(f"the live view needs a terminal: {why_not}", f"for plain text: {instead}")


@contextmanager
def _releasing(audit: str | None) -> Iterator[Callable[[Server, SemId], Sequence[str]]]:
    """What it does is said when the view has given the terminal back. One that is under way then comes to its end, and
    to its line in the audit file: its thread would not outlive this one.
    """
    said: list[str] = []
    under_way = threading.Lock()
    release_it = mend.releaser(audit, said.append)

    def act(server: Server, semaphore: SemId) -> Sequence[str]:
        with under_way:
            return release_it(server, semaphore)

    try:
        yield act
    finally:
        if under_way.acquire(timeout=RELEASE_S):
            under_way.release()
        for sentence in tuple(said):
            say(sentence)


@contextmanager
def _recording(settings: Settings) -> Iterator[child.RecorderChild]:
    """A recorder that ends with the view; what is in its file is said then."""
    recorder = child.RecorderChild(Path(settings.folder).expanduser(), settings.ignore)
    try:
        yield recorder
    finally:
        if said := recorder.stop():
            say(said)


def _tools(settings: Settings, release_it: Release, recorder: child.RecorderChild) -> Tools:
    limits = Limits(ignore=frozenset(settings.ignore))
    return Tools(
        release_it,
        _stacks,
        Path(settings.folder).expanduser(),
        read_surroundings,
        recorder=recorder,
        examine=lambda server: answer_for(server, limits).line,
    )


def _in_browser(tools: Tools, may: str) -> Tools:
    """Who looks from a browser does not write on the server's disk, and acts only if that was allowed."""
    return replace(tools, folder=None, recorder=None, release=tools.release if may == "act" else None)


def _remembered(settings: Settings) -> Remembered:
    return Remembered(state_path() if settings.remember else None)


def _stacks(
    processes: Sequence[ProcessId],
) -> tuple[Mapping[tuple[ProcessId, int], tuple[Frame, ...]], Sequence[Problem]]:
    """The Python stacks of these processes, for whoever asks."""
    taken = take(processes)
    return taken.of, taken.problems


def _following(settings: Settings) -> Callable[[Server], Observer]:
    """Return what makes an observer that follows the events of traced locks, if there are any."""
    limits = Limits(ignore=frozenset(settings.ignore))
    return lambda server: Observer(server, telling=Follower(), limits=limits)
