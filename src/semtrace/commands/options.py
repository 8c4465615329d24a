"""The options that several commands have, and the values that options take."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from semtrace.errors import EXIT_USAGE, UsageError

if TYPE_CHECKING:
    from semtrace.record.moments import Moment
    from semtrace.rules import Limits

RECORDING = ".semrec"
FORMS = "as 14:03:20, 2025-01-31T14:03:20Z, +90s from the start, or =-5m from the end"
"""How `record.moments` wants a point in time."""


class _Help(argparse.HelpFormatter):
    """Wrap a description, but keep lines that are laid out already."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """Accept only whole words: an abbreviation such as `--y` would release a lock."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": _Help, **named})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and how this very command is used. Exits with 2."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"semtrace: {message}\n")

    def explain(self, description: str, *examples: str) -> None:
        """Set the description, and examples of two parts, what to type and what it does, as the end of the help."""
        parts = [line.partition("  ") for line in examples]
        wide = max(len(typed) for typed, _, _ in parts)
        self.description = description
        self.epilog = "examples:\n" + "".join(f"  {typed:{wide}}  {what.strip()}\n" for typed, _, what in parts)


def add_pid(command: Parser) -> None:
    command.add_argument(
        "pid",
        nargs="?",
        type=pid,
        metavar="PID",
        help="of a master, a worker or any Python process of the server",
    )
    _add_pid_option(command)


def add_source(command: Parser) -> None:
    """A PID, or a recording and which part of it."""
    command.add_argument(
        "pid",
        nargs="?",
        type=_pid_or_file,
        metavar="PID|FILE",
        help="of a master, a worker or any Python process of the server; or a recording",
    )
    _add_pid_option(command)
    add_range(command)
    command.add_argument("--at", type=moment, metavar="TIME", help=f"of a recording: the snapshot of then, {FORMS}")


def _add_pid_option(command: Parser) -> None:
    command.add_argument("-p", "--pid", dest="pid_option", type=pid, metavar="PID", help="the same")


def add_range(command: Parser, end: str = "--to") -> None:
    command.add_argument("--from", dest="since", type=moment, metavar="TIME", help="of a recording: begin then")
    command.add_argument(end, dest="until", type=moment, metavar="TIME", help="of a recording: end then")


def add_view(command: Parser) -> None:
    """Add the options that override the settings of the live view."""
    command.add_argument(
        "--interval", type=seconds, metavar="SECONDS", help="between two refreshes (default: the settings', or 0.2)"
    )
    command.add_argument("--ascii", action="store_true", default=None, help="draw with ASCII alone")


def add_ignore(command: Parser) -> None:
    command.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="a lock that each worker may have for itself, by its name; may be given several times",
    )


def add_long(command: Parser) -> None:
    command.add_argument(
        "--long",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="report holds and waits longer than this (default: 10)",
    )


def add_yes(command: Parser) -> None:
    command.add_argument("--yes", action="store_true", help="do it")
    add_audit(command)


def add_audit(command: Parser) -> None:
    command.add_argument("--audit", metavar="FILE", help="append each act to this file, as a line of JSON")


def only_one_time(options: argparse.Namespace) -> None:
    if options.at is not None and (options.since is not None or options.until is not None):
        raise UsageError("--at does not go with --from and --to", "give one of them")


def limits(options: argparse.Namespace) -> Limits:
    """Return what the command line and the user's file say about findings."""
    from semtrace.rules import USUAL, Limits
    from semtrace.settings import load

    long_s = getattr(options, "long", USUAL.hold_s)
    return Limits(long_s, long_s, frozenset((*load().ignore, *getattr(options, "ignore", ()))))


def is_pid(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) > 0


def pid(text: str) -> int:
    if not is_pid(text):
        raise argparse.ArgumentTypeError(f"invalid PID {text!r}: use the number that `semtrace ps` shows")
    return int(text)


def _pid_or_file(text: str) -> int | Path:
    """A number is a PID; a recording of such a name can be given as ./NAME."""
    if is_pid(text):
        return int(text)
    if "/" in text or text.endswith(RECORDING) or Path(text).exists():
        return Path(text)
    raise argparse.ArgumentTypeError(
        f"invalid PID {text!r}: use the number that `semtrace ps` shows, or a recording; there is no such file"
    )


def moment(text: str) -> Moment:
    from semtrace.record.moments import parse_moment

    try:
        return parse_moment(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: give it {FORMS}") from None


def duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|d|)", text)
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else 0.0
    if not 0.02 <= seconds <= 366 * 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration, as 90s, 10m or 2h")
    return seconds


def byte_size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([kKMGT]?)B?", text)
    number = int(found[1]) << {"": 0, "k": 10, "K": 10, "M": 20, "G": 30, "T": 40}[found[2]] if found else 0
    if not 1 << 16 <= number <= 1 << 50:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size of at least 64k, as 50M or 1G")
    return number


def percent(text: str) -> float:
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage")
    return number


def port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, from 0 to 65535")
    return int(text)


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.02 <= number <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds, from 0.02 to 86400")
    return number
