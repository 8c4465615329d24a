"""Ask semtrace about a sick program, by its command line, and compare with what is expected."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.pythons import VERSIONS, every

from cases.expectations import PROGRAMS, Expected
from cases.sickness import Sick, running
from cases.threads import threads
from semtrace.cli import main

VENV = Path(os.environ.get("SEMTRACE_CASES_VENV") or Path.home() / ".cache/semtrace/cases-venv")
_FOUND = every()
ALL = tuple(version for version in VERSIONS if version in _FOUND)
"""Each case of the standard library runs on one of them, with SEMTRACE_BOTH=1 on all."""

# A busy machine may take so long to become as the case expects.
PATIENCE_S = 40.0

Act = Callable[[Sick], object]


def versions_of(title: str) -> tuple[str, ...]:
    """Return the versions on which a case runs: each on one of all, the same in each run."""
    return ALL if os.environ.get("SEMTRACE_BOTH") else (ALL[zlib.crc32(title.encode()) % len(ALL)],)


def nothing(sick: Sick) -> None:
    """Leave the program alone: it becomes sick by itself."""


@dataclass(frozen=True)
class Case:
    """A program, how it becomes sick, and what is right.

    `command` builds the command of a server from the interpreter; without it the program runs as a script with
    `arguments`. `needs` are the modules and commands that the interpreter must have next to it.
    """

    program: str
    expected: Expected
    sicken: Act = nothing
    label: str = ""
    command: Callable[[str], list[str]] | None = None
    arguments: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    rests: bool = True
    """Wait until it rests; False for one that is never still."""
    watch_s: float = 1.5
    """How long the doctor watches at a time; one of which nothing is to be found it watches twice as long."""
    long_s: float = 10.0
    slow: bool = False

    @property
    def title(self) -> str:
        return f"{self.program}-{self.label}".strip("-").replace(" ", "-")


def check(case: Case, python: str) -> None:
    """Run the case, and fail with all that is wrong."""
    argv = case.command(python) if case.command else [python, f"{case.program}.py", *case.arguments]
    with running(argv, PROGRAMS, case.env) as sick:
        if case.command and "{socket}" in " ".join(argv):
            sick.wait_accepting()
        case.sicken(sick)
        assert sick.wait_still(timeout=60 if case.rests else 0.5) or not case.rests, sick.output()[-1500:]
        end_s = time.monotonic() + PATIENCE_S
        while faults := _faults(case, sick):
            assert time.monotonic() < end_s, "\n".join(faults)


def _faults(case: Case, sick: Sick) -> list[str]:
    """Return what the answers lack, and what they are; fail at once for a finding that must not be."""
    watch_s = case.watch_s if case.expected.found else 2 * case.watch_s
    code, doctor = asked("doctor", sick.pid, "--for", watch_s, "--long", case.long_s)
    _, dump = asked("dump", sick.pid)
    wrong = case.expected.wrong(doctor)
    faults = case.expected.missing(code, doctor, dump, sick, case.program)
    shown = [f"{f['severity']} {f['code']} {f['name']} {f['pids']}: {f['title']}" for f in doctor["findings"]]
    waits = [str(wait) for wait in dump.get("waits") or ()]
    lines = ["", *wrong, *faults, "", "said:", *shown, f"stuck: {dump.get('stuck')}", *waits, *_where(sick)]
    assert not wrong, "\n".join(lines)
    return lines if faults else []


def _where(sick: Sick) -> list[str]:
    """Return where each thread sleeps, if SEMTRACE_CASES_THREADS asks for it."""
    wanted = os.environ.get("SEMTRACE_CASES_THREADS")
    return [line for pid in sick.tree() for line in threads(pid)] if wanted else []


def asked(command: str, *arguments: object) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON of a command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([command, *map(str, arguments), "--json"])
    return code, json.loads(out.getvalue())


def interpreter(needs: tuple[str, ...]) -> str:
    """Return an interpreter that has all these: our own, or that of the survey's environment; else skip the test."""
    if all(importlib.util.find_spec(name) or _has_command(sys.executable, name) for name in needs):
        return sys.executable
    other = VENV / "bin/python"
    if other.exists() and all(_has_module(str(other), name) or _has_command(str(other), name) for name in needs):
        return str(other)
    return pytest.skip(f"{' or '.join(needs)} is not installed: pip install -e '.[cases]'")


def _has_command(python: str, name: str) -> bool:
    return (Path(python).parent / name).exists()


@cache
def _has_module(python: str, name: str) -> bool:
    probe = f"import importlib.util, sys; sys.exit(not importlib.util.find_spec({name!r}))"
    return subprocess.run([python, "-c", probe], check=False).returncode == 0
