"""Explanations of each screen: in one line for a first visit, and at more length for `i`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from semtrace.text import clean
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.line import Item, Line, Span, spread

MOST_STORY = 2000


class Introduction(NamedTuple):
    """`line` has at most 60 characters: next to it there is room for the key that dismisses it."""

    title: str
    line: str
    more: str


INTRODUCTIONS: dict[str, Introduction] = {
    "panes": Introduction(
        "overview",
        "Processes above, their locks below. Enter opens a row.",
        "The first line says whether the server moves. Above are the processes of one server, below the locks that "
        "they share. Rows with a warning sign come first. HELD BY and WAITERS are PIDs. ≥ means at least: semtrace "
        "takes five samples a second, and the hold may be older.",
    ),
    "timeline": Introduction(
        "timeline",
        "A row per worker, now at the right; the key is below.",
        "Each row is a worker, or with l a lock. Time runs from left to right. Solid signs are exact, strokes are what "
        "samples have shown. The arrows move a cursor that says who held what from when to when.",
    ),
    "blocking": Introduction(
        "blocking",
        "Each thread blocks those below it; start at the top.",
        "A tree of threads. Each one keeps those below it waiting, so the cause is at the top. BLOCKS says how many "
        "wait behind it. A ring of threads that wait for each other has the sign ↻.",
    ),
    "findings": Introduction(
        "findings",
        "What is wrong, the worst first. Enter goes to its row.",
        "Errors are proven and harmful now. Warnings are probable, or harmful soon. Each finding has its evidence and "
        "a remedy. Enter goes to the lock or the process that it is about.",
    ),
    "events": Introduction(
        "events",
        "What traced locks report, and deaths; the newest below.",
        "Locks are traced in a server that semtrace run has started. They report each acquire and each release with "
        "its line and its duration. Processes that ended are listed, too.",
    ),
    "details": Introduction(
        "details",
        "All about one row. Stacks are read every two seconds.",
        "Of a lock: who holds it, where it was acquired, what its holder does now, who waits, how often and how long, "
        "and what happened last. The digits lead to the processes, and from those to their locks.",
    ),
    "problems": Introduction(
        "problems",
        "What could not be read, each with what would help.",
        "semtrace says nothing about what it cannot read. Most problems are missing rights.",
    ),
}


def introduction_line(text: str, keys: Sequence[Item], width: int) -> Line:
    """Return the line, and at the right the keys to read more and to dismiss it."""
    return spread([Item(0, (Span(text, "intro"),))], keys, width)


def about_entries(story: str) -> Iterator[Entry]:
    """The story of a demo first, then each screen."""
    if story:
        paragraphs = [clean(each) for each in story[:MOST_STORY].splitlines() if each.strip()]
        for place, each in enumerate(paragraphs):
            yield Entry("" if place else "this demo", each, "" if place else "strong")
        yield Entry("", "")
    for screen in INTRODUCTIONS.values():
        yield Entry(screen.title, screen.more)
