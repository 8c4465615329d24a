"""What is generated from the parser: completion for the shells, and the manual page."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from semtrace import __version__
from semtrace.cli import main
from semtrace.commands import completion
from semtrace.commands.parsing import command_line
from semtrace.errors import EXIT_FAILED, EXIT_OK

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "man" / "semtrace.1"


def words() -> set[str]:
    """Return each command, and each option that the help shows."""
    found = set()
    for name, command in command_line()[1].items():
        found |= {name, *re.findall(r"--[a-z-]+\b", command.format_usage())}
    return found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_has_every_command_and_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == EXIT_OK
    script = capsys.readouterr().out
    # fish lists options without their dashes
    assert [word for word in words() if word.removeprefix("--") not in script] == []
    assert "browser" not in re.findall(r"--([a-z]+)", script), "hidden options are not offered"


def test_bash_completes_a_command_and_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    main(["completion", "bash"])
    script = capsys.readouterr().out
    typed = 'COMP_WORDS=(semtrace doctor --fa) COMP_CWORD=2; _shtab_semtrace; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{typed}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--fail-on"]


def test_without_shtab_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(completion, "find_spec", lambda name: None)
    assert main(["completion", "bash"]) == EXIT_FAILED
    assert "pip install 'semtrace[completion]'" in capsys.readouterr().err


def test_manual_page_has_every_command_and_option() -> None:
    page = PAGE.read_text().replace("\\-", "-")
    assert [word for word in words() if word not in page] == [], "run python docs/manpage.py"
    assert f"semtrace {__version__}" in page, "run python docs/manpage.py"
