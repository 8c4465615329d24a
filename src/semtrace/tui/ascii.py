"""`--ascii`: each sign as one of ASCII's, in one table for all that is drawn; widths stay as they are."""

from __future__ import annotations

from rich.cells import cell_len

SIGNS = {
    # states
    "○": "o",
    "●": "*",
    "◐": "%",
    "◌": "0",
    "✖": "X",
    "▸": ">",
    "·": ".",
    "◇": "D",
    "■": "#",
    "⚠": "!",
    "⏸": "=",
    # text
    "…": "~",
    "–": "-",
    "≥": ">",
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
}
_TABLE = str.maketrans(SIGNS)


def ascii_only(text: str) -> str:
    """The text in ASCII and in the same number of cells; what has no sign of its own is `?`."""
    if text.isascii():
        return text
    return "".join(each if each.isascii() else "?" * cell_len(each) for each in text.translate(_TABLE))
