"""`semtrace completion`: a script with which a shell completes commands and options. shtab makes it from the parser."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from semtrace.commands.options import Parser
from semtrace.console.printing import emit
from semtrace.errors import EXIT_OK, SemtraceError


def configure(command: Parser) -> None:
    command.explain(
        "Prints a script with which the shell completes commands and options.",
        "semtrace completion bash  save it as ~/.local/share/bash-completion/completions/semtrace",
        "semtrace completion zsh  save it as _semtrace, in a folder of $fpath",
        "semtrace completion fish  save it as ~/.config/fish/completions/semtrace.fish",
    )
    command.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that reads it")


def run(options: argparse.Namespace) -> int:
    emit(script(options.shell))
    return EXIT_OK


def script(shell: str) -> list[str]:
    """Return the lines of the script for bash, zsh or fish."""
    if find_spec("shtab") is None:
        raise SemtraceError("completion needs the package shtab", "pip install 'semtrace[completion]'")
    import shtab

    from semtrace.commands.parsing import command_line

    parser, _ = command_line()
    return shtab.complete(parser, shell=shell).splitlines()
