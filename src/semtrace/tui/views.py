"""The views that a key leads to, by the name of their command."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping

from semtrace.tui.blocking import BlockingScreen
from semtrace.tui.detail import DetailSheet
from semtrace.tui.entries import problem_entries
from semtrace.tui.entry import Entry
from semtrace.tui.eventlog import EventsScreen
from semtrace.tui.findings import FindingsSheet
from semtrace.tui.helping import help_entries
from semtrace.tui.looking import Looking
from semtrace.tui.page import Sheet
from semtrace.tui.settingsheet import settings_entries
from semtrace.tui.timeline_screen import TimelineScreen
from semtrace.tui.view import View


def detail(looking: Looking, row: Hashable) -> View:
    """Everything about one row."""
    return DetailSheet(looking, row)


def _help(looking: Looking) -> View:
    return Sheet("Keys and signs", lambda: help_entries(looking.settings.keys, looking.settings.ascii))


def _settings(looking: Looking) -> View:
    return Sheet("Settings", lambda: settings_entries(looking.settings))


def _problems(looking: Looking) -> View:
    return Sheet("Problems: what could not be read", lambda: _problem_entries(looking))


def _problem_entries(looking: Looking) -> Iterable[Entry]:
    problems = looking.snapshot.problems if looking.snapshot else ()
    return problem_entries(problems) if problems else [Entry("", "Everything could be read.", "dim")]


VIEWS: Mapping[str, Callable[[Looking], View]] = {
    "help": _help,
    "settings": _settings,
    "findings": FindingsSheet,
    "blocking": BlockingScreen,
    "timeline": TimelineScreen,
    "events": EventsScreen,
    "problems": _problems,
}
