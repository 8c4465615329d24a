"""Places as text: `bank.py:42 in withdraw (called by …): with lock:`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from semtrace.model import Frame, Place, ThreadRef
from semtrace.present.wording import pids
from semtrace.text import clean

_FEW = 4


def place_text(place: Place) -> str:
    """Return the line, its caller and its source, or the site of a traced lock."""
    if place.frame is None:
        return clean(place.site or "")
    source = f": {clean(place.frame.source)}" if place.frame.source else ""
    caller = f" (called by {_at(place.caller)})" if place.caller else ""
    return f"{_at(place.frame)}{caller}{source}"


def line_text(place: Place) -> str:
    """Return `bank.py:42 in withdraw` and no more, or the site of a traced lock."""
    return clean(place.site or "") if place.frame is None else _at(place.frame)


def place_lines(threads: Iterable[ThreadRef]) -> Iterator[str]:
    """Yield `PID 11, 12 at bank.py:42 in withdraw`: the threads at the same line together."""
    places: dict[str, list[int]] = {}
    for each in threads:
        if each.place is not None:
            places.setdefault(place_text(each.place), []).append(each.pid)
    for place, who in list(places.items())[:_FEW]:
        yield f"{pids(who)} at {place}"


def _at(frame: Frame) -> str:
    return f"{clean(frame.file)}:{frame.line} in {clean(frame.function)}"
