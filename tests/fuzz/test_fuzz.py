"""All fuzzers, a second each: `python -m tests.fuzz` runs them for longer."""

from __future__ import annotations

import time

import pytest

from fuzz.decoders import FUZZERS
from fuzz.running import run


@pytest.mark.parametrize("name", FUZZERS)
def test_nothing_that_a_target_sends_raises(name: str) -> None:
    (done,) = run({name: FUZZERS[name]}, 1.0, time.time_ns() % (1 << 32))
    if done.error is not None:
        raise AssertionError(f"python -m tests.fuzz --only {name} --seed {done.seed}") from done.error
