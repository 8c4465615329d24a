"""Memory that a sampler gives back."""

from __future__ import annotations

import gc
import weakref

import pytest

from semtrace.linux import heap


class Pages:
    """Buffers in a cycle."""

    def __init__(self) -> None:
        self.mine = self
        self.chunk = bytes(1 << 14)


def test_cycles_are_collected_when_that_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(heap.time, "monotonic", lambda: now_s[0])
    gc.disable()
    try:
        tidied = heap.Heap()
        seen = weakref.ref(Pages())
        tidied.tidy()
        assert seen() is not None, "it is not due"
        now_s[0] += 11.0
        tidied.tidy()
        assert seen() is None
        again = weakref.ref(Pages())
        tidied.tidy()
        assert again() is not None, "once in a while"
    finally:
        gc.enable()
