"""What the command line says to what it does not understand."""

from __future__ import annotations

import re
import shlex

import pytest

from semtrace.cli import main
from semtrace.commands.parsing import command_line, parse
from semtrace.errors import EXIT_OK, EXIT_USAGE


@pytest.mark.parametrize("command", ["attach", "dump", "doctor", "events"])
@pytest.mark.parametrize("word", ["abc", "0", "-1", "1.5", "²"])
def test_invalid_pid_is_refused_with_where_to_find_one(
    command: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([command, "--", word])
    said = capsys.readouterr().err
    assert caught.value.code == EXIT_USAGE
    assert f"invalid PID {word!r}: use the number that `semtrace ps` shows" in said
    assert "command" not in said


def refused(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        parse(list(arguments))
    return int(caught.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["doctr"], "unknown command 'doctr'; did you mean doctor?"),
        (["help", "dupm"], "unknown command 'dupm'; did you mean dump?"),
        (["xyzzy"], "unknown command 'xyzzy': `semtrace help` lists them"),
        (["dump", "--jsn"], "unknown option '--jsn'; did you mean --json?"),
        (["dump", "1", "2"], "'2' is one argument too many"),
        (["dump", "1", "--pid", "2"], "there are two PIDs, 1 and 2: give one"),
        (["release", "shop.lock"], "release needs a PID: use a number that `semtrace ps` shows"),
    ],
)
def test_what_is_not_understood_is_named(arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(*arguments) == EXIT_USAGE
    assert f"semtrace: {meant}\n" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["doctor", "dump", "release"])
def test_unknown_option_shows_the_usage_of_its_own_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(command, "1", "shop.lock", "--foo") == EXIT_USAGE
    assert capsys.readouterr().err.startswith(f"usage: semtrace {command} ")


@pytest.mark.parametrize("short", ["--y", "--ye", "--aud=x"])
def test_options_are_never_abbreviated(short: str) -> None:
    assert refused("release", "1", "shop.lock", short) == EXIT_USAGE


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "--json", "--for", "3", "42"],
        ["doctor", "42", "--json", "--for", "3"],
        ["--json", "--for", "3", "doctor", "42"],
        ["--for", "3", "-p", "42", "doctor", "--json"],
        ["42", "doctor", "--for=3", "--json"],
        ["-p", "42", "doctor", "--json", "--for", "3"],
    ],
)
def test_options_and_pid_may_come_before_and_after_the_command(arguments: list[str]) -> None:
    options = parse(arguments)
    assert (options.name, options.pid, options.json, options.seconds) == ("doctor", 42, True, 3.0)


def test_options_may_stand_between_pid_and_lock() -> None:
    options = parse(["release", "42", "--yes", "shop.lock"])
    assert (options.pid, options.lock, options.yes) == (42, "shop.lock", True)
    options = parse(["release", "shop.lock", "-p", "42"])
    assert (options.pid, options.lock, options.yes) == (42, "shop.lock", False)


def test_a_servers_own_command_is_passed_on_as_it_is() -> None:
    options = parse(["run", "--headless", "--", "gunicorn", "-p", "file", "--", "doctor"])
    assert options.command == ["gunicorn", "-p", "file", "--", "doctor"]


def test_help_lists_each_command_once_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused("help") == EXIT_OK
    listed = capsys.readouterr().out
    for name in command_line()[1]:
        assert len(re.findall(rf"^ +{name}\b", listed, re.MULTILINE)) == 1, name
        assert refused("help", name) == EXIT_OK
        shown = capsys.readouterr().out
        examples = re.findall(r"^  (semtrace.*?)(?:  .*)?$", shown.partition("examples:\n")[2], re.MULTILINE)
        assert examples, name
        assert all(parse(shlex.split(line)[1:]).name == name for line in examples)


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
