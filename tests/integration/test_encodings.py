"""What semtrace prints on a terminal whose encoding lacks a character."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.commands import run

# A title with a byte that is no UTF-8 and an escape sequence, which it writes where its arguments were.
TITLED = """
import os, sys
os.execv(sys.executable, [sys.executable, "-c", "input()", b"\\xff\\x1b[31m"])
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_the_encoding_of_the_terminal_lacks_ends_nothing(encoding: str) -> None:
    assert run("--help", PYTHONIOENCODING=encoding).returncode == 0
    with subprocess.Popen([sys.executable, "-c", TITLED], stdin=subprocess.PIPE) as process:
        shown = subprocess.run(
            [sys.executable, "-m", "semtrace", "dump", str(process.pid)],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=60,
        )
        process.communicate(b"\n")
    assert shown.returncode == 0, shown.stderr
    assert b"\x1b" not in shown.stdout
