"""Parse the command line into a command and its options. Only the module of that command is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from itertools import islice
from typing import NoReturn

from semtrace import __version__, commands
from semtrace.commands.options import RECORDING, Parser, is_pid
from semtrace.errors import EXIT_USAGE

_EPILOG = """\
PID is a master's, a worker's, or that of any other Python process. Nothing is stopped in the server, and nothing is
changed in it except by release --yes. `semtrace help COMMAND` has an example of each command.
Exit codes: 0 fine, 1 failed, 2 usage, 3 doctor or check found an error, 4 not permitted, 5 no such server.
"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """`name` is the command's; without one it is `attach`. Exits with 2 on what it does not understand."""
    name, rest = _split(arguments)
    command = parser_of(name)
    options, unknown = command.parse_known_args(rest if name == "run" else _options_first(rest, command))
    if unknown:
        command.error(_unknown(unknown[0], command))
    _settle_pid(options, command)
    if name == "run" and options.command[:1] == ["--"]:
        del options.command[0]
    return options


def parser_of(name: str) -> Parser:
    """Return the parser of one command."""
    return _configured(Parser(prog=f"semtrace {name}"), name)


def command_line() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of everything, for completion and the manual, and that of each command. Loads all commands."""
    parser, subparsers = _overview()
    return parser, {name: _configured(subparsers.choices[name], name) for name in commands.SUMMARIES}


def _configured(parser: Parser, name: str) -> Parser:
    commands.load(name).configure(parser)
    parser.set_defaults(name=name)
    return parser


def _overview() -> tuple[Parser, argparse._SubParsersAction[Parser]]:
    """Return a parser that knows of each command what it is for, and no more: enough for the help."""
    parser = Parser(
        prog="semtrace",
        usage="semtrace [PID]\n       semtrace COMMAND [PID] [options]",
        description="Shows which worker of a pre-forked server holds which lock, who waits for it, and why nothing "
        "moves.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"semtrace {__version__}")
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=Parser, prog="semtrace"
    )
    for name, summary in commands.SUMMARIES.items():
        subparsers.add_parser(name, help=summary)
    return parser, subparsers


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the name of the command, which may come after the PID and options, and all else."""
    first = arguments[0] if arguments else ""
    if first in commands.SUMMARIES:
        return first, arguments[1:]
    if first in ("-h", "--help", "--version"):
        _overview()[0].parse_args(arguments[:1])
    if first == "help":
        _help(arguments[1:])
    return _search(arguments)


def _search(arguments: list[str]) -> tuple[str, list[str]]:
    """Find the command where it is not the first word: after a PID, after options, or not at all."""
    takes_value: frozenset[str] | None = None
    before = ""
    for at, word in enumerate(arguments):
        if word == "--":
            break
        if before.startswith("-") and takes_value is None:
            takes_value = _options_with_values()
        if takes_value is None or before not in takes_value:
            if word in commands.SUMMARIES:
                return word, arguments[:at] + arguments[at + 1 :]
            if word.endswith(RECORDING):
                return "open", arguments
            if not word.startswith("-") and not is_pid(word):
                _refuse(_unknown_command(word))
        before = word
    return "attach", arguments


def _options_with_values() -> frozenset[str]:
    """Return the options of all commands that take a value. Loads all commands."""
    _, parsers = command_line()
    return frozenset(option for each in parsers.values() for option, takes in _options(each).items() if takes)


def _help(words: list[str]) -> NoReturn:
    if words and words[0] not in commands.SUMMARIES:
        _refuse(_unknown_command(words[0]))
    parser = parser_of(words[0]) if words else _overview()[0]
    parser.print_help()
    parser.exit()


def _refuse(message: str) -> NoReturn:
    Parser(prog="semtrace").exit(EXIT_USAGE, f"semtrace: {message}\n")


def _options_first(words: list[str], command: Parser) -> list[str]:
    """Return the same with the options before all else, for argparse takes a PID that may be missing for missing where
    an option comes first.
    """
    options: list[str] = []
    others: list[str] = []
    rest = iter(words)
    known = _options(command)
    for word in rest:
        if word == "--":
            others += rest
        elif word.startswith("-") and word != "-":
            options.append(word)
            if known.get(word):
                options += islice(rest, 1)
        else:
            others.append(word)
    return [*options, "--", *others] if others else options


def _options(command: Parser) -> dict[str, bool]:
    """Return the options that it understands, and whether each takes a value."""
    return {option: action.nargs != 0 for action in command._actions for option in action.option_strings}


def _settle_pid(options: argparse.Namespace, command: Parser) -> None:
    """The PID may be given as an option."""
    by_option = vars(options).pop("pid_option", None)
    if by_option is not None:
        if options.pid not in (None, by_option):
            command.error(f"there are two PIDs, {options.pid} and {by_option}: give one")
        options.pid = by_option
    if options.name == "release" and options.pid is None:
        command.error("release needs a PID: use a number that `semtrace ps` shows")


def _unknown_command(word: str) -> str:
    close = _closest(word, commands.SUMMARIES)
    return f"unknown command {word!r}" + (f"; did you mean {close}?" if close else ": `semtrace help` lists them")


def _unknown(word: str, command: Parser) -> str:
    if not word.startswith("-"):
        return f"{word!r} is one argument too many"
    close = _closest(word.partition("=")[0], [option for option in _options(command) if option.startswith("--")])
    return f"unknown option {word!r}" + (f"; did you mean {close}?" if close else "")


def _closest(word: str, known: Collection[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, 1)), None)
