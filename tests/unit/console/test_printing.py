"""What reaches the terminal: in its own encoding, and nothing that it would obey."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import semtrace
from semtrace.commands.clean import clean
from semtrace.console.printing import emit, emit_json, harmless, pass_on, tell
from semtrace.errors import SemtraceError


def test_the_terminal_obeys_no_title_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(SemtraceError("process 1 (\x1b]0;mine\x07) ended", "say which:\n  \x1b[31m7\tx")) == 1
    assert capsys.readouterr().err == "semtrace: process 1 (?]0;mine?) ended\n  say which:\n  ?[31m7  x\n"


def test_unreadable_directory_of_semaphores_is_an_error_with_a_remedy(tmp_path: Path) -> None:
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
