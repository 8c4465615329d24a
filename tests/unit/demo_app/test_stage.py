"""The demo told in dumps, without a server: what becomes of a moment while its dump is taken."""

from __future__ import annotations

from typing import Any

import pytest

from demo_app import __main__ as demo
from demo_app.bank import State
from demo_app.scenarios import killed

REPORTS, KILLED = State(frozenset({7}), reporter=7), State(reporter=7)


class Bank:
    def __init__(self) -> None:
        self.state = REPORTS

    def look(self) -> State:
        return self.state


class Idle:
    """In the place of the server and of the customers."""

    pid, count = 10, 3

    def start(self) -> None: ...

    def ask(self, page: str) -> None: ...


def dumped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *after: State) -> tuple[str, State]:
    """What is said of the report, and the state then; the bank's states after each dump are given."""
    bank, states = Bank(), iter(after)

    def takes_its_time(*_: Any) -> str:
        bank.state = next(states)
        return "the picture"

    monkeypatch.setattr(demo, "semtrace", takes_its_time)
    stage = demo.Stage(bank, Idle(), Idle())  # type: ignore[arg-type]
    state = stage.dump("A report is made:", lambda now: now.reporter in now.inside, killed)
    return capsys.readouterr().out, state


def test_dump_is_shown_if_still_true_when_it_arrives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dumped(monkeypatch, capsys, REPORTS) == ("A report is made:\n\n    the picture\n", REPORTS)


def test_moment_that_has_passed_before_its_dump_is_omitted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a slow machine gunicorn kills the worker meanwhile, and nobody makes a second report."""
    assert dumped(monkeypatch, capsys, KILLED) == ("", KILLED)
