"""Line tables and opcodes against what each interpreter says of its own code."""

from __future__ import annotations

import json
import subprocess

import pytest
from support import PROGRAMS
from support.pythons import VERSIONS, need

from semtrace.cpython.linetables import line_at
from semtrace.cpython.opcodes import opcodes

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
def test_opcodes_are_those_of_the_interpreter(version: str) -> None:
    program = PROGRAMS / "opcodes_of.py"
    done = subprocess.run([need(version), str(program)], capture_output=True, text=True, check=True)
    expected = {int(number): tuple(entry) for number, entry in json.loads(done.stdout).items()}
    minor = int(version.split(".")[1])
    assert {number: (op.value, caches) for number, (op, caches) in opcodes((3, minor)).items()} == expected
