"""Heights of the panes, which share the screen, and what is below them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

LEAST = 3
WORKERS, LOCKS, PRIVATE, OUTPUT = range(4)


class Layout(NamedTuple):
    """`first` are the panes that get their height before the others, `hidden` those that are not shown."""

    name: str
    words: str
    first: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()


LAYOUTS = (
    Layout("even", "all panes, in equal parts"),
    Layout("locks-first", "room for the locks first, then for the workers", (LOCKS, PRIVATE)),
    Layout("workers-first", "room for the workers first, then for the locks", (WORKERS,)),
    Layout("locks-only", "the locks alone", hidden=(WORKERS,)),
    Layout("workers-only", "the workers alone", hidden=(LOCKS, PRIVATE)),
)


def layout_called(name: str) -> Layout:
    """Return the layout of that name, the usual one for an unknown name."""
    return next((each for each in LAYOUTS if each.name == name), LAYOUTS[0])


def next_layout(layout: Layout) -> Layout:
    return LAYOUTS[(LAYOUTS.index(layout) + 1) % len(LAYOUTS)]


class Lower(NamedTuple):
    """The choice for the room below the tables."""

    name: str
    words: str


LOWER = (
    Lower("finding", "the worst finding, and the timeline if there is room"),
    Lower("timeline", "the timeline, and a line for the worst finding"),
    Lower("nothing", "nothing but a line for the worst finding"),
)


def lower_called(name: str) -> Lower:
    """Return the lower pane of that name, the usual one for an unknown name."""
    return next((each for each in LOWER if each.name == name), LOWER[0])


def next_lower(lower: Lower) -> Lower:
    return LOWER[(LOWER.index(lower) + 1) % len(LOWER)]


def arrange(height: int, wanted: Sequence[int], layout: Layout) -> list[int]:
    """Return a height for each pane: those of the layout's first ones as they want it, while the others keep LEAST."""
    wants = [0 if pane in layout.hidden else want for pane, want in enumerate(wanted)]
    others = [0 if pane in layout.first else want for pane, want in enumerate(wants)]
    first = [want if pane in layout.first else 0 for pane, want in enumerate(wants)]
    if not any(first) or not any(others):
        return share(height, wants)
    kept = sum(min(want, LEAST) for want in others)
    taken = max(min(sum(first), height - kept), 0)
    favoured, rest = share(taken, first), share(height - taken, others)
    return [one + other for one, other in zip(favoured, rest, strict=True)]


def share(height: int, wanted: Sequence[int]) -> list[int]:
    """A height for each pane: what it wants if all find room, otherwise the modest ones are served first.

    What nobody wants goes to the last pane. A pane that wants nothing gets nothing.
    """
    heights = [0] * len(wanted)
    left = height
    waiting = sorted((want, i) for i, want in enumerate(wanted) if want)
    for place, (want, i) in enumerate(waiting):
        heights[i] = max(min(want, left // (len(waiting) - place)), min(LEAST, left))
        left -= heights[i]
    last = max((i for i, want in enumerate(wanted) if want), default=None)
    if last is not None:
        heights[last] += max(left, 0)
    return heights
