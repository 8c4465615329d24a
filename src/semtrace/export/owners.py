"""Which hold a wait was for, and which hold came after which. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from semtrace.export.story import Story
from semtrace.timelines.spans import Span, Thing


class Owners:
    """The holds of each lock in the order of their beginnings."""

    def __init__(self, spans: Iterable[Span]) -> None:
        holds: dict[Thing, list[Span]] = defaultdict(list)
        for span in spans:
            if span.what == "held" and span.process is not None:
                holds[span.lock].append(span)
        self._holds: Mapping[Thing, Sequence[Span]] = holds
        self._starts = {lock: [span.start for span in several] for lock, several in holds.items()}

    def of(self, wait: Span) -> Span | None:
        """Return the hold that was on when the wait began; None if none is known."""
        several = self._holds.get(wait.lock, ())
        place = bisect_right(self._starts.get(wait.lock, []), wait.start)
        for span in reversed(several[max(place - 4, 0) : place]):
            if span.end > wait.start and (span.process, span.tid) != (wait.process, wait.tid):
                return span
        return None

    def successors(self) -> Iterable[tuple[Span, Span]]:
        """Yield each hold with the next one of the same lock by another thread."""
        for several in self._holds.values():
            for before, after in pairwise(several):
                if (before.process, before.tid) != (after.process, after.tid) and before.end <= after.start:
                    yield before, after


def owner_tid(owner: Span | None) -> int:
    """Return the thread of a hold; 0 if that is not known."""
    if owner is None or owner.process is None:
        return 0
    return owner.tid or owner.process.pid


def thread_of(span: Span) -> int:
    """Return the thread that a span is of: the first of its process if it is not known, 0 if nobody's."""
    return owner_tid(span)


def label(story: Story, span: Span, owners: Owners) -> str:
    """Return what a slice is called, as Perfetto's lock contention plugin reads it."""
    name = story.name(span.lock)
    if span.what == "held":
        return f"{name}_lock_held"
    if span.what == "orphaned":
        return f"{name} is orphaned"
    return f"Lock contention on a {name} lock (owner tid: {owner_tid(owners.of(span))})"
