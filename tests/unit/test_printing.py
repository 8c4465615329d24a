"""What reaches the terminal: in its own encoding, and nothing that it would obey."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run

import semtrace
from semtrace.commands.clean import clean
from semtrace.console.printing import emit, emit_json, harmless, pass_on, tell
from semtrace.errors import SemtraceError

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
    with pytest.raises(SemtraceError, match=r"cannot read .*: No such file"):
        list(clean(yes=False, audit=None, say=print, directory=str(tmp_path / "none")))


def test_no_line_reaches_a_terminal_raw(capsys: pytest.CaptureFixture[str]) -> None:
    emit(["name \x1b]0;mine\x07", "two\nlines"])
    pass_on(["\x1b[2J\tserver's last words"])
    shown = capsys.readouterr()
    assert shown.out == "name ?]0;mine?\ntwo?lines\n"
    assert shown.err == "?[2J  server's last words\n"


def test_only_our_own_colours_are_left() -> None:
    ours, theirs = "\x1b[1;31m", "\x1b[8m"
    assert harmless(f"{ours}lock{theirs}\x1b[0m", colour=True) == f"{ours}lock?[8m\x1b[0m"
    assert harmless(f"{ours}lock", colour=False) == "?[1;31mlock"


def test_json_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json('{\n "a": 1\n}')
    assert capsys.readouterr().out == '{\n "a": 1\n}\n'


def test_all_printing_is_in_one_module() -> None:
    """But for the instrument's own complaints in the server, and the sequences of the live view's terminal."""
    source = Path(semtrace.__file__).parent
    writes = re.compile(r"\bprint\(|sys\.(stdout|stderr)\.write\(|sys\.__std(out|err)__")
    found = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if writes.search(path.read_text())}
    outside = {name for name in found if not name.startswith("instrument/")}
    assert outside == {"console/printing.py", "tui/terminal/capabilities.py"}
