"""Python's search for reference cycles, rarer than usual: a refresh replaces thousands of objects, few in cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# The usual 700 makes several searches a refresh, for objects that their counts free at the next one. Cycles of so many
# objects are a few megabytes.
THRESHOLD = 20_000


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Let the collector run rarely meanwhile, and leave out all that is there already: modules and classes."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
