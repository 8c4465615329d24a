"""A part of a stream for people to read, each with the same chance whatever the stream repeats. Pure.

A fixed stride falls into step with who takes turns: of acquired, released, acquired, … it shows one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from semtrace.lazydata import dataclass

T = TypeVar("T")


@dataclass(frozen=True)
class Sampler:
    """Position in the sampling: so many are skipped before the next is taken, then a number that the seed gives."""

    skip: int = 0
    seed: int = 1

    def take(self, items: Sequence[T], one_in: int) -> tuple[Sequence[T], Sampler]:
        """One in so many on average, over all calls together, however the stream is cut into pieces."""
        if one_in == 1:
            return items, Sampler(0, self.seed)
        place, seed = min(self.skip, 2 * one_in - 2), self.seed
        taken = []
        while place < len(items):
            taken.append(items[place])
            seed = (seed * 6364136223846793005 + 1442695040888963407) % (1 << 64)  # Knuth's MMIX
            place += 1 + (seed >> 33) % (2 * one_in - 1)
        return taken, Sampler(place - len(items), seed)
