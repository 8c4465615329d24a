"""The views that a key leads to, by the name of their command."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping

from semtrace.tui.screens.blocking import BlockingScreen
from semtrace.tui.screens.detail import DetailSheet
from semtrace.tui.screens.events import EventsScreen
from semtrace.tui.screens.findings import FindingsSheet
from semtrace.tui.screens.sheets import Sheet
from semtrace.tui.screens.timeline import TimelineScreen
from semtrace.tui.screens.view import View
from semtrace.tui.state import ViewState
from semtrace.tui.text.entries import problem_entries
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.help import help_entries
from semtrace.tui.text.introductions import about_entries
from semtrace.tui.text.settings_sheet import settings_entries


def detail(view_state: ViewState, row: Hashable) -> View:
    """Return the sheet with everything about one row."""
    return DetailSheet(view_state, row)


def _help(view_state: ViewState) -> View:
    return Sheet("Keys and signs", lambda: help_entries(view_state.settings.keys, view_state.settings.ascii))


def _about(view_state: ViewState) -> View:
    return Sheet("What the screens show", lambda: about_entries(view_state.tools.story))


def _settings(view_state: ViewState) -> View:
    return Sheet("Settings", lambda: settings_entries(view_state.settings))


def _problems(view_state: ViewState) -> View:
    return Sheet("Problems: what could not be read", lambda: _problem_entries(view_state))


def _problem_entries(view_state: ViewState) -> Iterable[Entry]:
    problems = view_state.snapshot.problems if view_state.snapshot else ()
    return problem_entries(problems) if problems else [Entry("", "Everything could be read.", "dim")]


VIEWS: Mapping[str, Callable[[ViewState], View]] = {
    "help": _help,
    "about": _about,
    "settings": _settings,
    "findings": FindingsSheet,
    "blocking": BlockingScreen,
    "timeline": TimelineScreen,
    "events": EventsScreen,
    "problems": _problems,
}
