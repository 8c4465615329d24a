"""Parts of the commands that open the live view: `attach`, `run`, `open`, and what a page of `serve` runs."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from semtrace.commands.check import answer_for
from semtrace.commands.release import releaser
from semtrace.console.printing import say
from semtrace.errors import UsageError
from semtrace.linux.heap import Heap
from semtrace.linux.surroundings import read_surroundings
from semtrace.model import Frame, Problem, ProcessId, SemId, Server
from semtrace.observe.acquires import acquired_at
from semtrace.observe.observer import Observer
from semtrace.observe.pyspy import take
from semtrace.record import child
from semtrace.rules import Limits
from semtrace.rules.headline import Headline
from semtrace.settings import Settings, load, state_path
from semtrace.tracing.follower import Follower
from semtrace.tui.keymap import check
from semtrace.tui.remembered import Remembered
from semtrace.tui.state import Release, Tools
from semtrace.tui.terminal.capabilities import unusable_terminal

STORY = "SEMTRACE_STORY"  # a demo's own words, for the key that explains the screens
RELEASE_S = 20.0  # more than a release takes, with all that it waits for


def settings_of(options: argparse.Namespace) -> Settings:
    """The user's file, and over it the command line."""
    settings = load()
    check(settings.keys)
    given = {name: getattr(options, name) for name in ("interval", "ascii")}
    settings = replace(settings, ignore=(*settings.ignore, *getattr(options, "ignore", ())))
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def need_terminal(instead: str) -> None:
    why_not = unusable_terminal()
    if why_not is not None:
        raise UsageError(f"the live view needs a terminal: {why_not}", f"for plain text: {instead}")


@contextmanager
def releasing(audit: str | None) -> Iterator[Callable[[Server, SemId], Sequence[str]]]:
    """Print release messages after the TUI exits. Wait first for a release in progress and its line in the audit file:
    its thread would not outlive this one.
    """
    messages: list[str] = []
    under_way = threading.Lock()
    release_it = releaser(audit, messages.append)

    def act(server: Server, semaphore: SemId) -> Sequence[str]:
        with under_way:
            return release_it(server, semaphore)

    try:
        yield act
    finally:
        if under_way.acquire(timeout=RELEASE_S):
            under_way.release()
        for sentence in tuple(messages):
            say(sentence)


@contextmanager
def recording(settings: Settings) -> Iterator[child.RecorderChild]:
    """Run a recorder until the TUI exits, then print what its file contains."""
    recorder = child.RecorderChild(settings.saves_in, settings.ignore)
    try:
        yield recorder
    finally:
        if message := recorder.stop():
            say(message)


def tools(settings: Settings, release_it: Release, recorder: child.RecorderChild) -> Tools:
    limits = Limits(ignore=frozenset(settings.ignore))
    return Tools(
        release_it,
        _stacks,
        settings.saves_in,
        read_surroundings,
        recorder=recorder,
        acquired_at=acquired_at,
        story=os.environ.get(STORY, ""),
        examine=_examiner(limits),
    )


def _examiner(limits: Limits) -> Callable[[Server], Headline]:
    """Return what answers for the list of servers, in a thread of its own. Each answer reads much and keeps nothing."""
    heap = Heap()

    def examine(server: Server) -> Headline:
        try:
            return answer_for(server, limits).line
        finally:
            heap.tidy()

    return examine


def in_browser(tools: Tools, may: str) -> Tools:
    """Return the tools for a browser: they do not write on the server's disk, and act only if that was allowed."""
    return replace(tools, folder=None, recorder=None, release=tools.release if may == "act" else None)


def remembered(settings: Settings) -> Remembered:
    return Remembered(state_path() if settings.remember else None)


def _stacks(
    processes: Sequence[ProcessId],
) -> tuple[Mapping[tuple[ProcessId, int], tuple[Frame, ...]], Sequence[Problem]]:
    """Return the Python stacks of these processes."""
    taken = take(processes)
    return taken.of, taken.problems


def following(settings: Settings) -> Callable[[Server], Observer]:
    """Return what makes an observer that follows the events of traced locks, if there are any."""
    limits = Limits(ignore=frozenset(settings.ignore))
    return lambda server: Observer(server, trace_source=Follower(), limits=limits)
