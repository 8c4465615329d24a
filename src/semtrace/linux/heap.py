"""Give memory back to the system that a long-lived sampler needs for moments only.

What was read of a target lies in reference cycles, and few collections look at old objects: so large buffers stay.
glibc keeps what is freed in the heap of each thread, up to 64 MiB of it (malloc/arena.c HEAP_MAX_SIZE).
"""

from __future__ import annotations

import ctypes
import gc
import time
from contextlib import suppress

_EVERY_S = 10.0
_SHARE = 0.01  # of a processor


class Heap:
    """`tidy` may be called as often as one likes. For one thread."""

    def __init__(self) -> None:
        self._due_s = time.monotonic() + _EVERY_S
        self._trim = None
        with suppress(AttributeError):  # musl has none
            self._trim = ctypes.CDLL(None).malloc_trim

    def tidy(self) -> None:
        """Collect garbage and give back what is free, where that is due."""
        if time.monotonic() < self._due_s:
            return
        began_s = time.thread_time()
        gc.collect()
        if self._trim is not None:
            self._trim(0)
        self._due_s = time.monotonic() + max(_EVERY_S, (time.thread_time() - began_s) / _SHARE)
