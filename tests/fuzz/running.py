"""Fuzzers run for a time; each call has a seed of its own, by which it can be repeated alone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

Fuzzer = Callable[[random.Random], None]


@dataclass(frozen=True)
class Done:
    """What came of one fuzzer. `seed` is that of the last call, the one that failed if one did."""

    name: str
    calls: int
    seed: int
    error: Exception | None


def run(fuzzers: Mapping[str, Fuzzer], seconds: float, seed: int) -> Iterator[Done]:
    """Each has an equal part of the time, and at least one call."""
    for name, fuzzer in fuzzers.items():
        yield _run_one(name, fuzzer, time.monotonic() + seconds / len(fuzzers), seed)


def _run_one(name: str, fuzzer: Fuzzer, until: float, seed: int) -> Done:
    calls = 0
    while True:
        try:
            fuzzer(random.Random(seed + calls))
        except Exception as error:  # noqa: BLE001  whatever it is, it should not have been raised
            return Done(name, calls, seed + calls, error)
        calls += 1
        if time.monotonic() >= until:
            return Done(name, calls, seed + calls - 1, None)


def damaged(data: bytes, random_: random.Random, most: int = 8) -> bytes:
    """The bytes with some of them changed, cut out, doubled or replaced by telling values."""
    changed = bytearray(data)
    for _ in range(random_.randint(0, most)):
        if not changed:
            return bytes(changed)
        at = random_.randrange(len(changed))
        match random_.randrange(5):
            case 0:
                changed[at] = random_.randrange(256)
            case 1:
                changed[at : at + 8] = random_.choice(TELLING)
            case 2:
                del changed[at : at + random_.randint(1, 64)]
            case 3:
                changed[at:at] = changed[at : at + random_.randint(1, 64)]
            case _:
                changed[at : at + 1] = random_.choice(TEXTS)
    return bytes(changed)


TELLING = [
    each.to_bytes(8, "little")
    for each in (0, 1, 255, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 47, 1 << 56, 3 * 10**18, (1 << 63) - 1, (1 << 64) - 1)
]
TEXTS = [b"\0", b"\n", b"\r", b"\x1b[2J", b"\xff", b"\xe2\x80\xae", b")", b"(", b" ", b"-", b"{", b"[" * 50, b"\\012"]
