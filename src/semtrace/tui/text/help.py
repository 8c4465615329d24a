"""Help that `?` shows: the keys, then the signs. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.tui.commands import Keymap, help_lines
from semtrace.tui.terminal.ascii import spelled
from semtrace.tui.text import timeline_rows
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.marks import MARK_MEANINGS, mark_text
from semtrace.tui.text.signs import LOCK_SIGNS, PROCESS_SIGNS

MOVING = (
    ("↑ ↓  k j", "the row above, below; also the mouse and its wheel"),
    ("PgUp PgDn", "a page up, down"),
    ("Home End g G", "the first, the last row"),
    ("", ""),
    ("1 … 9", "in the details of a lock: to those who hold it and wait for it; of a worker: to its locks"),
    ("l", "in the details: the frames of libraries as well, or only your own"),
    ("u", "in the details: hold the stacks as they are, read them again every two seconds"),
)


COLUMN_MEANINGS = {
    "STATE": "of a process what the kernel says, or 2 threads: one holds, another waits; of a lock who has it",
    "CPU% MEM AGE": "of a core in the last second, resident memory, time since the start",
    "HOLDS": "the locks that the process holds",
    "WAITS FOR": "the locks and other things that its threads wait for",
    "BEAT": "the time since the worker's last heartbeat for gunicorn",
    "THREADS": "how many threads the process has",
    "HELD BY": "the PIDs of the holders; ? is one that may only have inherited its count",
    "FOR": "how long the lock has been held: by its longest holder",
    "WAITERS": "the PIDs that wait for it",
    "WAITED": "how long the first of the waiters has waited",
    "MAPPED": "the processes that can use the semaphore",
    "VALUE": "the free units, of how many",
    "TAKEN": "how often a traced lock was acquired",
    "CONT%": "how many of these acquires had to wait",
    "WAIT95 HELD95": "of 100 waits or holds of a traced lock, 95 were shorter",
    "HELDMAX": "the longest hold of a traced lock",
    "LAST MINUTE": "three seconds a cell, in the signs of the timeline; the colour is that of the worst",
    "LOCKED NOW IN": "the processes whose own copy of a private lock is locked",
    "REMARK": "why the state is doubtful, or who held an orphaned lock last",
    "BLOCKS": "how many threads wait behind this one, or behind this lock",
    "LINE": "the line at which the thread holds or waits",
    "colours": "a hold or a wait of ten seconds is yellow, one of a minute orange",
}


def help_entries(keymap: Keymap, ascii_too: bool = False) -> Iterator[Entry]:
    for key, does in (*help_lines(keymap), *MOVING):
        yield Entry(spelled(key) if ascii_too else key, does)
    yield Entry("", "")
    for state, sign in LOCK_SIGNS.items():
        yield Entry(f"{sign.sign} {state}", sign.meaning, sign.style)
    for mark, meaning in MARK_MEANINGS.items():
        yield Entry(mark_text(mark), meaning, "bad")
    yield Entry("", "")
    for signs, words, meaning, style in _process_signs():
        yield Entry(signs, f"{words}: {meaning}", style)
    yield Entry("", "")
    yield Entry("", "In the timeline, and of its signs also in the strip of the last minute:", "strong")
    for key, does in help_lines(keymap, "timeline"):
        yield Entry(spelled(key) if ascii_too else key, does)
    yield Entry("", "")
    yield Entry("", "In a recording (semtrace open FILE):", "strong")
    for key, does in help_lines(keymap, "recording"):
        yield Entry(spelled(key) if ascii_too else key, does)
    yield Entry("", "")
    for drawn, meaning, style in timeline_rows.sign_entries():
        yield Entry(drawn, meaning, style)
    yield Entry("", "")
    yield Entry("", "The columns:", "strong")
    for column, meaning in COLUMN_MEANINGS.items():
        yield Entry(column, meaning)
    yield Entry("", "")
    yield Entry("≥3.2s", "at least: sampling sees a lower bound, and may miss what is shorter than the interval")
    yield Entry("3.20s", "exact: the lock is traced and says so itself")
    yield Entry("4712×2", "held twice: an RLock's depth, or units of a semaphore")
    yield Entry("marked", "a cell that changed within the last second")


def _process_signs() -> Iterator[tuple[str, str, str, str]]:
    """States of the same sign and meaning in one line."""
    lines: dict[tuple[str, str], tuple[list[str], str]] = {}
    for state, sign in PROCESS_SIGNS.items():
        lines.setdefault((sign.sign, sign.meaning), ([], sign.style))[0].append(state)
    for (sign_text, meaning), (states, style) in lines.items():
        yield sign_text, ", ".join(states), meaning, style
