"""`semtrace config`: the settings in force, and where each comes from."""

from __future__ import annotations

import argparse
import json

from semtrace import settings
from semtrace.commands.options import Parser
from semtrace.console.printing import emit, emit_json
from semtrace.errors import EXIT_OK


def configure(command: Parser) -> None:
    command.explain(
        "Prints the settings in force, as the file could have them, and where each comes from.",
        "semtrace config  to be changed and saved where it says",
    )
    command.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    if options.json:
        emit_json(json.dumps(settings.as_json(), indent=2))
    else:
        emit(settings.as_toml())
    return EXIT_OK
