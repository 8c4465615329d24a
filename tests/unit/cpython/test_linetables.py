"""Line tables against what each interpreter says of its own code, and damaged ones."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pythons import VERSIONS, need

from semtrace.cpython.linetables import line_at

# Prints (table, first line, [(offset, line), …]) of every code object of three modules.
DUMP = """
import argparse, dis, json, sys, threading, types, contextlib
def codes(code):
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from codes(each)
def lines(code):
    if sys.version_info >= (3, 10):
        return [(at, line) for start, end, line in code.co_lines() for at in range(start, end, 2)]
    starts, found, line = dict(dis.findlinestarts(code)), [], code.co_firstlineno
    for at in range(0, len(code.co_code), 2):
        line = starts.get(at, line)
        found.append((at, line))
    return found
found = []
for module in (argparse, threading, contextlib):
    with open(module.__file__) as f:
        for code in codes(compile(f.read(), module.__file__, "exec")):
            table = code.co_linetable if sys.version_info >= (3, 10) else code.co_lnotab
            found.append((table.hex(), code.co_firstlineno, lines(code)))
print(json.dumps(found))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_each_instruction_has_the_line_that_python_gives(version: str) -> None:
    done = subprocess.run([need(version), "-c", DUMP], capture_output=True, text=True, check=True)
    major, minor = map(int, version.split("."))
    tables = json.loads(done.stdout)
    assert len(tables) > 300
    for table, first, lines in tables:
        raw = bytes.fromhex(table)
        for at, line in lines[:: max(1, len(lines) // 25)]:
            assert line_at((major, minor), raw, first, at) == (line or None), (first, at)


@pytest.mark.parametrize("version", VERSIONS)
def test_frame_that_has_not_begun_is_at_its_first_line(version: str) -> None:
    major, minor = map(int, version.split("."))
    assert line_at((major, minor), b"", 7, -1) == 7


@settings(max_examples=300)
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
