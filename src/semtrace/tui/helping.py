"""What `?` shows: the keys, then the signs. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.tui.entries import Entry
from semtrace.tui.signs import LOCK_SIGNS, PROCESS_SIGNS

KEYS = (
    ("Tab", "the next pane; also a click"),
    ("↑ ↓  k j", "the row above, below"),
    ("PgUp PgDn", "a page up, down"),
    ("Home End g G", "the first, the last row"),
    ("Enter", "everything known about the row"),
    ("s", "sort by the next column; also a click on its heading"),
    ("r", "reverse the order"),
    ("/", "filter the pane: text anywhere in a row; !text shows the others; Esc clears"),
    ("a", "show or hide signals: the semaphores inside Conditions, Events and Queues"),
    ("f", "the findings: what is wrong, the evidence and the remedy; Enter there goes to the row"),
    ("t", "in the details of a lock or process: the Python stacks of its threads, by py-spy"),
    ("p", "the problems: what could not be read, and the remedy"),
    ("R", "on an orphaned lock: the evidence, and the question whether to release it"),
    ("e", "show or hide the events of traced locks; moving up stops following, End goes on"),
    ("o", "show or hide the output of a server started by semtrace run"),
    ("Space", "pause the picture; reading goes on"),
    ("+ -", "a longer, a shorter time between two pictures"),
    ("b  Esc", "back to the list of servers, if there are several"),
    ("q  Ctrl-C", "quit"),
)


def help_entries() -> Iterator[Entry]:
    for key, does in KEYS:
        yield Entry(key, does)
    yield Entry("", "")
    for state, sign in LOCK_SIGNS.items():
        yield Entry(f"{sign.sign} {state}", sign.meaning, sign.style)
    yield Entry("", "")
    for signs, words, meaning, style in _process_signs():
        yield Entry(signs, f"{words}: {meaning}", style)
    yield Entry("", "")
    yield Entry("≥3.2s", "at least: sampling sees a lower bound, and may miss what is shorter than the interval")
    yield Entry("3.20s", "exact: the lock is traced and says so itself")
    yield Entry("WAIT95 HELD95", "of 100 waits or holds of a traced lock, 95 were shorter")
    yield Entry("4712×2", "held twice: an RLock's depth, or units of a semaphore")
    yield Entry("marked", "a cell that changed within the last second")


def _process_signs() -> Iterator[tuple[str, str, str, str]]:
    """States of the same sign and meaning in one line."""
    lines: dict[tuple[str, str], tuple[list[str], str]] = {}
    for state, sign in PROCESS_SIGNS.items():
        lines.setdefault((sign.sign, sign.meaning), ([], sign.style))[0].append(state)
    for (sign_text, meaning), (states, style) in lines.items():
        yield sign_text, ", ".join(states), meaning, style
