"""What the command line says to what it does not understand."""

from __future__ import annotations

import pytest

from semtrace.arguments import parse
from semtrace.cli import main
from semtrace.errors import EXIT_USAGE


@pytest.mark.parametrize("command", ["attach", "dump", "doctor", "events"])
@pytest.mark.parametrize("word", ["abc", "0", "-1", "1.5", "²"])
def test_a_pid_that_is_none_is_told_what_a_pid_is(command: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([command, "--", word])
    said = capsys.readouterr().err
    assert caught.value.code == EXIT_USAGE
    assert f"invalid PID {word!r}: use the number that `semtrace ps` shows" in said
    assert "command" not in said


def test_a_word_without_a_command_may_have_been_meant_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["dupm"])
    assert caught.value.code == EXIT_USAGE
    assert "'dupm' is neither a command (attach, run, " in capsys.readouterr().err


def test_a_pid_alone_is_attached_to() -> None:
    assert (parse(["42"]).name, parse(["42"]).pid) == ("attach", 42)


@pytest.mark.parametrize(
    ("command", "said"), [([], "there is nothing to run"), (["--", "no-such-program"], "no program no-such-program")]
)
def test_run_misses_its_command_before_it_misses_a_terminal(
    command: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *command]) == EXIT_USAGE
    told = capsys.readouterr().err
    assert said in told
    assert "terminal" not in told
