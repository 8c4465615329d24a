"""`semtrace diff A B`: what changed between two recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

from semtrace.commands.options import Parser, limits, percent
from semtrace.console.printing import emit, say
from semtrace.errors import EXIT_FINDINGS, EXIT_OK


def configure(command: Parser) -> None:
    command.explain(
        "Shows what changed for each lock between two recordings: waits, holds, contention, lock orders, findings.",
        "semtrace diff before.semrec after.semrec --threshold 20%  exits with 3 if it got worse",
    )
    command.add_argument("before", type=Path, metavar="A", help="a recording")
    command.add_argument("after", type=Path, metavar="B", help="a later one")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--threshold",
        type=percent,
        metavar="PERCENT",
        help="exit code 3 if waits or holds are so much longer, or if an error or two lock orders are new",
    )


def run(options: argparse.Namespace) -> int:
    from semtrace.record.diffing import diff

    lines, worse = diff(
        options.before, options.after, limits(options), options.threshold, as_json=options.json, tell=say
    )
    emit(lines)
    return EXIT_FINDINGS if worse else EXIT_OK
