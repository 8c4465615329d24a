"""The line that says what a command is doing: on a terminal only, and erased at the end."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator

import pytest
from support import wait_until

from semtrace.console import printing, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def terminal(pause_s: float = 0.01) -> Iterator[Terminal]:
    """Within the test itself, for pytest replaces stderr before each."""
    found = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", found)
        patch.setattr(progress, "_PAUSE_S", pause_s)
        patch.setenv("TERM", "xterm")
        yield found


def test_line_is_shown_and_erased_on_a_terminal() -> None:
    with terminal() as shown:
        with printing.working("checking \x1b[31mevery process"):
            wait_until(lambda: "checking" in shown.getvalue(), timeout=10, what="the line")
        assert shown.getvalue().endswith("\r\x1b[K")
        assert "\x1b[31m" not in shown.getvalue()


def test_line_is_erased_before_a_sentence() -> None:
    with terminal() as shown, printing.working("working"):
        wait_until(lambda: "working" in shown.getvalue(), timeout=10, what="the line")
        printing.say("it is done")
        assert "\r\x1b[Ksemtrace: it is done\n" in shown.getvalue()


def test_nothing_is_shown_without_a_terminal() -> None:
    plain = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", plain)
        patch.setattr(progress, "_PAUSE_S", 0.0)
        with printing.working("working"):
            pass
    assert plain.getvalue() == ""


def test_quick_command_shows_nothing() -> None:
    with terminal(pause_s=60.0) as shown, printing.working("working"):
        pass
    assert shown.getvalue() == ""
