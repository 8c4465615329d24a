"""`--ascii`: each sign as one of ASCII's, in one table for all that is drawn; widths stay as they are."""

from __future__ import annotations

import re

from rich.cells import cell_len

SIGNS = {
    # states
    "○": "o",
    "●": "*",
    "◐": "%",
    "◌": "e",
    "✖": "X",
    "▸": ">",
    "·": ".",
    "◇": "D",
    "■": "#",
    "⚠": "!",
    "†": "T",
    "⏸": "=",
    # text
    "…": "~",
    "–": "-",
    "≥": "+",
    "×": "x",
    "µ": "u",
    "▲": "^",
    "▼": "v",
    "↑": "^",
    "↓": "v",
    "←": "<",
    "→": ">",
    "↻": "@",
    # trees and bars
    "├": "|",
    "└": "`",
    "│": "|",
    "┊": ":",
    "─": "-",
    "█": "#",
    "▉": "#",
    "▊": "#",
    "▋": "#",
    "▌": "=",
    "▍": "-",
    "▎": "-",
    "▏": ".",
    "▇": "#",
    "▆": "#",
    "▅": "=",
    "▄": "=",
    "▃": "-",
    "▂": "_",
    "▁": "_",
    "░": ":",
    "▒": "%",
    "━": "*",
    "╪": "+",
    "┄": "~",
    "╌": "/",
    "╵": "'",
    "▓": "%",
    "▞": "&",
    "╬": "$",
    "⢕": "B",
    "⡀": "1",
    "⡄": "2",
    "⡆": "3",
    "⡇": "4",
    "⣿": "C",
    "⠶": "W",
    "▔": "-",
    "▕": "|",
    "🔎": "/ ",
}
# Arrows as words where there is room for words: in the footer and the help. As signs they would be `< >`.
WORDS = {"←": "left", "→": "right", "↑": "up", "↓": "down"}
_TABLE = str.maketrans(SIGNS)
_AT_LEAST = re.compile(r"≥([\w.]+)")  # `3.2s+` reads as "at least" and has as many cells; `>3.2s` would say more


def spelled(text: str) -> str:
    """The arrows' keys by their names."""
    for arrows, words in WORDS.items():
        text = text.replace(arrows, words)
    return text


def ascii_only(text: str) -> str:
    """The text in ASCII and in the same number of cells; what has no sign of its own is `?`."""
    if text.isascii():
        return text
    text = _AT_LEAST.sub(r"\1+", text)
    return "".join(each if each.isascii() else "?" * cell_len(each) for each in text.translate(_TABLE))
