"""The styles by name, in colour and without, and the theme. The one place where colours are chosen."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from rich.style import Style
from textual.theme import Theme

Colours = Literal["many", "some", "few", "none"]

BACKGROUND = "#11151c"
RAISED = "#1a2029"
TEXT = "#c8d0dc"

_COLOUR = {
    "dim": "#6f7a8a",
    "strong": "#eef2f8",
    "name": "bold #eef2f8",
    "brand": "bold #7fb4ff",
    "title": "bold #a9b4c4",
    "title.focus": "bold #7fb4ff",
    "heading": "#6f7a8a",
    "heading.sort": "#a9b4c4",
    "key": "bold #a9b4c4",
    "free": "#6f7a8a",
    "held": "#7cc48a",
    "ok": "#7cc48a",
    "contended": "#e8b45a",
    "exhausted": "#ef8f5b",
    "orphaned": "bold #ff6b6b",
    "unknown": "#b59bec",
    "waiting": "#e8b45a",
    "hot": "#e8b45a",
    "aged": "#e8b45a",
    "old": "#ef8f5b",
    "bad": "bold #ff6b6b",
    "warning": "bold #e8b45a",
    "badge": "bold #11151c on #e8b45a",
    "banner": "bold #ffd9d9 on #6b2530",
    "mark": "on #3a3420",
    "new": "on #1d3326",
    "cursor": "on #2a3f61",
    "cursor.blur": "on #1e2633",
    "intro": "italic #7fb4ff",
    "bar": f"on {RAISED}",
}

# Of the 256 of a terminal in tmux or ssh, by hand: the nearest to the above would make two marks the same, or garish.
# Each is exactly one of the colour cube or of the greys (xterm: 256colres.pl), so that nothing rounds it.
BACKGROUND_256 = "#121212"
RAISED_256 = "#262626"
TEXT_256 = "#d0d0d0"
_COLOUR_256 = {
    **_COLOUR,
    "dim": "#8a8a8a",
    "strong": "#eeeeee",
    "name": "bold #eeeeee",
    "brand": "bold #87afff",
    "title": "bold #bcbcbc",
    "title.focus": "bold #87afff",
    "heading": "#8a8a8a",
    "heading.sort": "#bcbcbc",
    "key": "bold #bcbcbc",
    "free": "#8a8a8a",
    "held": "#87d787",
    "ok": "#87d787",
    "contended": "#d7af5f",
    "exhausted": "#ff875f",
    "orphaned": "bold #ff5f5f",
    "unknown": "#af87ff",
    "waiting": "#d7af5f",
    "hot": "#d7af5f",
    "aged": "#d7af5f",
    "old": "#ff875f",
    "bad": "bold #ff5f5f",
    "warning": "bold #d7af5f",
    "badge": f"bold {BACKGROUND_256} on #d7af5f",
    "banner": "bold #ffd7d7 on #5f0000",
    "mark": "on #3a3a3a",
    "new": "on #3a3a3a",
    "cursor": "on #000087",
    "cursor.blur": "on #303030",
    "intro": "italic #87afff",
    "bar": f"on {RAISED_256}",
}

# Of the 16 that each terminal has in its own way: no hue says anything alone, and reversing keeps any text readable.
_FEW = {
    "strong": "bold",
    "name": "bold",
    "brand": "bold cyan",
    "title": "bold",
    "title.focus": "bold cyan",
    "heading": "cyan",
    "heading.sort": "bold cyan",
    "key": "bold",
    "held": "green",
    "ok": "green",
    "contended": "yellow",
    "exhausted": "magenta",
    "orphaned": "bold red",
    "unknown": "magenta",
    "waiting": "yellow",
    "hot": "yellow",
    "aged": "yellow",
    "old": "magenta",
    "bad": "bold red",
    "warning": "bold yellow",
    "badge": "reverse bold yellow",
    "banner": "reverse bold red",
    "intro": "cyan",
    "mark": "underline",
    "new": "underline",
    "cursor": "reverse",
}

_PLAIN = {
    "name": "bold",
    "brand": "bold",
    "title": "bold",
    "title.focus": "bold underline",
    "heading.sort": "underline",
    "key": "bold",
    "contended": "bold",
    "exhausted": "bold",
    "orphaned": "bold",
    "hot": "bold",
    "old": "bold",
    "bad": "bold",
    "warning": "bold",
    "badge": "reverse",
    "banner": "reverse",
    "mark": "underline",
    "new": "underline",
    "cursor": "reverse",
}

_TABLES: dict[Colours, dict[str, str]] = {"many": _COLOUR, "some": _COLOUR_256, "few": _FEW, "none": _PLAIN}

THEME = Theme(
    name="semtrace",
    primary="#7fb4ff",
    foreground=TEXT,
    background=BACKGROUND,
    surface=BACKGROUND,
    panel=RAISED,
    warning="#e8b45a",
    error="#ff6b6b",
    success="#7cc48a",
    dark=True,
)
THEME_256 = Theme(
    name="semtrace-256",
    primary="#87afff",
    foreground=TEXT_256,
    background=BACKGROUND_256,
    surface=BACKGROUND_256,
    panel=RAISED_256,
    warning="#d7af5f",
    error="#ff5f5f",
    success="#87d787",
    dark=True,
)
PLAIN_THEME = "ansi-dark"  # the terminal's own colours, where it has few; NO_COLOR then leaves none


@lru_cache(maxsize=1024)
def style(names: str, colours: Colours) -> Style:
    """The sum of the named styles; equal ones are the same object."""
    return _style(tuple(names.split()), colours)


_BASES: dict[Colours, str] = {"many": f"{TEXT} on {BACKGROUND}", "some": f"{TEXT_256} on {BACKGROUND_256}"}
THEMES = {"many": THEME, "some": THEME_256}


@lru_cache(maxsize=1024)
def _style(names: tuple[str, ...], colours: Colours) -> Style:
    table = _TABLES[colours]
    base = Style.parse(_BASES.get(colours, ""))
    return Style.combine([base, *(Style.parse(table.get(name, "")) for name in names)])
