"""The tables of opcodes against those of the interpreters."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import PROGRAMS
from support.pythons import VERSIONS, need

from semtrace.cpython.bytecode import decode
from semtrace.cpython.opcodes import opcodes


@pytest.mark.parametrize("version", VERSIONS)
def test_opcodes_are_those_of_the_interpreter(version: str) -> None:
    program = PROGRAMS / "opcodes_of.py"
    done = subprocess.run([need(version), str(program)], capture_output=True, text=True, check=True)
    expected = {int(number): tuple(entry) for number, entry in json.loads(done.stdout).items()}
    minor = int(version.split(".")[1])
    assert {number: (op.value, caches) for number, (op, caches) in opcodes((3, minor)).items()} == expected


@given(st.integers(8, 16), st.binary(max_size=300))
def test_damaged_code_comes_to_an_end(minor: int, raw: bytes) -> None:
    assert all(0 <= step.offset < len(raw) and 0 <= step.argument < 1 << 32 for step in decode((3, minor), raw))
