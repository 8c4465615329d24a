"""The commands, a module for each. `configure` gives a parser what the command understands; `run` does it.

The table is all that the help of semtrace itself needs: a module is loaded when its command was typed.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Protocol, cast

from semtrace.commands.options import Parser

# In the order of the help: what each one is for.
SUMMARIES = {
    "attach": "the live view (the default)",
    "doctor": "what is wrong, and what to do",
    "ps": "every pre-forked Python server of this machine",
    "dump": "one snapshot as text",
    "check": "one line and an exit code, for probes",
    "events": "what traced locks do, as it happens",
    "metrics": "metrics for Prometheus",
    "run": "start a server with its locks traced",
    "serve": "the live view in a browser",
    "record": "record a server into a file",
    "open": "the live view of a recording",
    "export": "turn a recording into another format",
    "diff": "compare two recordings",
    "release": "release an orphaned lock",
    "clean": "remove semaphores and SharedMemory blocks that dead processes left in /dev/shm",
    "config": "the settings in force, and where each comes from",
    "completion": "print a script that completes commands in the shell",
}


class Command(Protocol):
    def configure(self, command: Parser) -> None:
        """Add its description, options and examples."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it, and return the exit code. Raises SemtraceError."""


def load(name: str) -> Command:
    """Return the module of the command of that name."""
    return cast("Command", import_module(f"semtrace.commands.{name}"))
