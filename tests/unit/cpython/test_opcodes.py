"""Code that is damaged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from semtrace.cpython.bytecode import decode


@given(st.integers(8, 16), st.binary(max_size=300))
def test_damaged_code_comes_to_an_end(minor: int, raw: bytes) -> None:
    assert all(0 <= step.offset < len(raw) and 0 <= step.argument < 1 << 32 for step in decode((3, minor), raw))
