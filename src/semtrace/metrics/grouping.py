"""Which locks share the series of one name. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from semtrace.metrics.labels import OTHER, UNNAMED, lock_label
from semtrace.model import Lock
from semtrace.text import clean

# More series of a server are of no use to people, and a hostile server must not fill the disk of Prometheus.
MOST_SERIES = 250
_LONGEST_KIND = 60


class Key(NamedTuple):
    """The labels of a lock's series."""

    lock: str
    kind: str


def grouped(locks: Iterable[Lock]) -> dict[Key, list[Lock]]:
    """Return the locks by their labels, without the signals inside Condition, Event and Queue, which nobody holds.

    Beyond MOST_SERIES all others are one series.
    """
    found: dict[Key, list[Lock]] = {}
    for lock in locks:
        if not lock.signal:
            found.setdefault(Key(lock_label(lock), clean(lock.kind)[:_LONGEST_KIND]), []).append(lock)
    if len(found) <= MOST_SERIES:
        return found
    kept = sorted(found, key=lambda key: (key.lock != UNNAMED, key))[:MOST_SERIES]
    bounded = {key: found.pop(key) for key in kept}
    bounded[Key(OTHER, OTHER)] = [lock for rest in found.values() for lock in rest]
    return bounded
