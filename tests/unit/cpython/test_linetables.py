"""Line tables: damaged ones, and frames that have not begun. Intact ones are in tests/integration/test_bytecode.py."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pythons import VERSIONS

from semtrace.cpython.linetables import line_at


@pytest.mark.parametrize("version", VERSIONS)
def test_frame_that_has_not_begun_is_at_its_first_line(version: str) -> None:
    major, minor = map(int, version.split("."))
    assert line_at((major, minor), b"", 7, -1) == 7


@settings(max_examples=3 * settings.default.max_examples)
@given(
    st.sampled_from([(3, minor) for minor in range(8, 16)]),
    st.binary(max_size=200),
    st.integers(0, (1 << 32) - 1),
    st.integers(-1, 1 << 40),
)
def test_a_damaged_table_gives_a_line_or_none(
    version: tuple[int, int], table: bytes, first: int, instruction: int
) -> None:
    line = line_at(version, table, first, instruction)
    assert line is None or isinstance(line, int)
