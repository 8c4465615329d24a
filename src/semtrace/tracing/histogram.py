"""Durations counted in buckets whose width grows with the duration. Pure.

Every power of two is cut into 32 buckets of equal width; a quantile is the middle of its bucket and therefore at most
1/64 = 1.6 % off. Below 64 ns it is exact.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

SUB_BITS = 5
ERROR = 1 / (2 << SUB_BITS)
_BOUNDS = tuple(step * 10**power for power in range(3, 19) for step in (1, 3))


def bucket(duration: int) -> int:
    """The bucket of a duration in ns."""
    shift = duration.bit_length() - SUB_BITS - 1
    return (shift << SUB_BITS) + (duration >> shift) if shift > 0 else duration


def middle(index: int) -> float:
    """The duration that stands for a bucket."""
    shift = (index >> SUB_BITS) - 1
    if shift <= 0:
        return float(index)
    low = (index - (shift << SUB_BITS)) << shift
    return low + ((1 << shift) - 1) / 2


def quantiles(counts: Mapping[int, int], shares: tuple[float, ...]) -> tuple[float, ...] | None:
    """The durations below which these shares (rising, 0 to 1) of all lie; None if nothing was counted."""
    total = sum(counts.values())
    if not total:
        return None
    found: list[float] = []
    seen = 0
    for index in sorted(counts):
        seen += counts[index]
        while len(found) < len(shares) and seen >= shares[len(found)] * total:
            found.append(middle(index))
    return tuple(found)


def coarse(counts: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    """Return how many lie below each bound in ns and above the one before. The bounds are 1, 3, 10, 30 … µs, from the
    first to the last that has any.
    """
    found: dict[int, int] = {}
    for index, count in counts.items():
        place = min(bisect_left(_BOUNDS, middle(index)), len(_BOUNDS) - 1)
        found[place] = found.get(place, 0) + count
    places = range(min(found), max(found) + 1) if found else ()
    return tuple((_BOUNDS[place], found.get(place, 0)) for place in places)
