"""The rules that tools check: so one `pytest` is the whole examination, here and in `.ci/run`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CLONE = Path(__file__).parents[2]


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy"])
def test_the_tools_find_nothing(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=CLONE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = (CLONE / ".ci" / "run").read_text().splitlines()[-1]
    assert command.startswith("pytest ")
    assert f"&& {command}\n" in (CLONE / "README.md").read_text()
