"""How the panes share the height of the screen. Pure."""

from __future__ import annotations

from collections.abc import Sequence

LEAST = 3


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
