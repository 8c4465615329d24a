"""The styles by name, in colour and without, and the theme. The one place where colours are chosen."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from rich.style import Style
from textual.theme import Theme

Colours = Literal["many", "few", "none"]

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

_TABLES: dict[Colours, dict[str, str]] = {"many": _COLOUR, "few": _FEW, "none": _PLAIN}

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
PLAIN_THEME = "ansi-dark"  # the terminal's own colours, where it has few; NO_COLOR then leaves none


def style(names: str, colours: Colours) -> Style:
    """The sum of the named styles; equal ones are the same object."""
    return _style(tuple(names.split()), colours)


@lru_cache(maxsize=1024)
def _style(names: tuple[str, ...], colours: Colours) -> Style:
    table = _TABLES[colours]
    base = Style.parse(f"{TEXT} on {BACKGROUND}") if colours == "many" else Style.null()
    return Style.combine([base, *(Style.parse(table.get(name, "")) for name in names)])
