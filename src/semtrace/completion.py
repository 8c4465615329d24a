"""`semtrace completion`: a script with which a shell completes commands and options. shtab makes it from the parser."""

from __future__ import annotations

from importlib.util import find_spec

from semtrace.arguments import command_line
from semtrace.errors import SemtraceError


def script(shell: str) -> list[str]:
    """Return the lines of the script for bash, zsh or fish."""
    if find_spec("shtab") is None:
        raise SemtraceError("completion needs the package shtab", "pip install 'semtrace[completion]'")
    import shtab

    parser, _ = command_line()
    return shtab.complete(parser, shell=shell).splitlines()
