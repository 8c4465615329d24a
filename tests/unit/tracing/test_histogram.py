"""Quantiles are as near to the truth as the module promises."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from semtrace.tracing.histogram import ERROR, bucket, middle, quantiles

durations = st.integers(0, 2**63) | st.integers(0, 200)


@given(durations)
def test_a_bucket_stands_for_its_durations(duration: int) -> None:
    assert abs(middle(bucket(duration)) - duration) <= duration * ERROR


@given(durations, durations)
def test_buckets_are_in_the_order_of_the_durations(one: int, other: int) -> None:
    assert (bucket(one) <= bucket(other)) or one > other


@given(st.lists(durations, min_size=1, max_size=300))
def test_quantiles_are_within_the_error(several: list[int]) -> None:
    shares = (0.5, 0.95, 0.99)
    found = quantiles(Counter(map(bucket, several)), shares)
    assert found is not None
    for share, duration in zip(shares, found, strict=True):
        exact = sorted(several)[max(math.ceil(share * len(several)) - 1, 0)]
        assert abs(duration - exact) <= exact * ERROR


def test_nothing_has_no_quantiles() -> None:
    assert quantiles({}, (0.5,)) is None


def test_there_are_never_more_buckets_than_some_two_thousand() -> None:
    assert bucket(2**64 - 1) < 2000
