"""`,`: what is set, and where it could be set otherwise. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from semtrace.settings import Settings, config_path
from semtrace.tui.commands import COMMANDS, keys_of
from semtrace.tui.text.entry import Entry

MEANINGS = {
    "interval": "seconds between two snapshots; + and - change it for now",
    "ascii": "draw with ASCII alone",
    "signals": "show the semaphores inside Conditions and Queues from the start; a changes it for now",
    "remember": "keep the order of the columns, the layout and what was dismissed for the next time",
    "folder": "where S and C put their files; it is made if need be",
    "ignore": "names of private locks that each worker may have for itself: no findings about these",
}


def settings_entries(settings: Settings) -> Iterator[Entry]:
    path = config_path()
    yield Entry("file", f"{path}{'' if path.exists() else ' (not there: all is as it comes)'}", "strong")
    yield Entry("", "TOML; read when semtrace starts. For instance:", "dim")
    yield Entry("", 'interval = 0.5\nascii = true\n[keys]\npause = ["space", "P"]', "dim")
    yield Entry("", "")
    for each in fields(settings):
        if each.name != "keys":
            value = getattr(settings, each.name)
            yield Entry(each.name, _text(value))
            yield Entry("", MEANINGS[each.name], "dim")
    yield Entry("", "")
    yield Entry("[keys]", "the names of commands, and of the keys that do them now", "dim")
    for name in COMMANDS:
        yield Entry(name, ", ".join(keys_of(name, settings.keys)), "strong" if name in settings.keys else "")


def _text(value: object) -> str:
    """Return a setting as a reader of TOML knows it."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
