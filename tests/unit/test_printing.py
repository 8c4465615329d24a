"""What reaches the terminal: in its own encoding, and nothing that it would obey."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run

from semtrace.errors import SemtraceError
from semtrace.printing import tell
from semtrace.repairs.mend import clean

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


def test_the_terminal_obeys_no_title_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(SemtraceError("process 1 (\x1b]0;mine\x07) ended", "say which:\n  \x1b[31m7\tx")) == 1
    assert capsys.readouterr().err == "semtrace: process 1 (?]0;mine?) ended\n  say which:\n  ?[31m7  x\n"


def test_a_directory_of_semaphores_that_cannot_be_read_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(SemtraceError, match=r"cannot look into .*: No such file"):
        list(clean(yes=False, audit=None, say=print, directory=str(tmp_path / "none")))
