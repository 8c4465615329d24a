"""Thread ids by damaged memory: something or nothing comes of it, and soon."""

from __future__ import annotations

import os
from typing import cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semtrace.cpython.threadids import tid_offset
from semtrace.linux.maps import read_mappings
from semtrace.linux.memory import Memory
from semtrace.linux.pthread import innermost_ids

_MAPPINGS = read_mappings(os.getpid()) or []


class Damaged:
    """This process's memory, with some of what is read exchanged; `None` takes the piece away."""

    def __init__(self, memory: Memory, damage: dict[int, bytes | None]) -> None:
        self._memory = memory
        self._damage = damage
        self.reads = 0

    def read(self, address: int, size: int) -> bytes | None:
        self.reads += 1
        data = self._memory.read(address, size)
        if data is None or self.reads not in self._damage:
            return data
        noise = self._damage[self.reads]
        return None if noise is None else (noise + data[len(noise) :])[:size]

    def u32(self, address: int) -> int | None:
        data = self.read(address, 4)
        return None if data is None else int.from_bytes(data, "little")


@settings(max_examples=settings.default.max_examples // 3, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.integers(1, 300), st.none() | st.binary(max_size=512), max_size=8))
def test_damaged_memory_gives_a_credible_offset_or_none(damage: dict[int, bytes | None]) -> None:
    with Memory.own() as memory:
        damaged = Damaged(memory, damage)
        offset = tid_offset(cast(Memory, damaged), _MAPPINGS, innermost_ids(os.getpid()))
    assert offset is None or (0 <= offset < 0x1000 and offset % 4 == 0)
    assert damaged.reads < 100_000


@given(st.binary(max_size=4096))
def test_noise_instead_of_memory_gives_none(noise: bytes) -> None:
    class Noise(Damaged):
        def read(self, address: int, size: int) -> bytes | None:
            return (noise * (size // max(len(noise), 1) + 1))[:size] if noise else None

    with Memory.own() as memory:
        assert tid_offset(cast(Memory, Noise(memory, {})), _MAPPINGS[:20], frozenset({1})) is None
