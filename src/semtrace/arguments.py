"""What the command line understands: its commands, their options, and the help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from semtrace import __version__
from semtrace.record.moments import FORMS, Moment, parse_moment

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

COMMANDS = (
    "attach",
    "run",
    "serve",
    "ps",
    "dump",
    "doctor",
    "events",
    "record",
    "open",
    "export",
    "diff",
    "release",
    "clean",
)

_EPILOG = """\
semtrace                 the live view of the only gunicorn, or a choice of several
semtrace PID             the same for the server that this process belongs to
semtrace ps              which gunicorns run here, and their workers
semtrace dump PID        one snapshot as text; --json for programs, --watch 1 to repeat
semtrace run -- gunicorn …  starts a server with its locks traced, and the live view beside it
semtrace serve PID       the live view in a browser
semtrace events PID      each act of traced locks as it happens; --json for programs
semtrace doctor PID      what is wrong with its locks, on what evidence, and what to do
semtrace record PID -o FILE  records it: dump, doctor and events read FILE where they take a PID
semtrace open FILE       the live view of a recording
semtrace export FILE --to html  a recording for other tools and other people
semtrace diff A B        what changed between two recordings
semtrace release PID LOCK  what releasing an orphaned lock would do; --yes does it
semtrace clean           semaphores and SharedMemory blocks that dead processes left in /dev/shm; --yes removes them

PID is a master's, a worker's, or that of any other Python process. Nothing is stopped in the server, and nothing is
changed in it except by release --yes.
Exit codes: 0 fine, 1 failed, 2 usage, 3 doctor found an error, 4 not permitted, 5 no such server.
"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """`name` is the command's; without one it is `attach`. Exits with 2 on what it does not understand."""
    bare = not arguments or arguments[0] not in (*COMMANDS, "-h", "--help", "--version")
    options = _parser(bare).parse_args(["attach", *arguments] if bare else arguments)
    if options.name == "run" and options.command[:1] == ["--"]:
        del options.command[0]
    return options


def _parser(bare: bool) -> argparse.ArgumentParser:
    """`bare`: no command was given, so what is no PID may have been meant for one."""
    parser = argparse.ArgumentParser(
        prog="semtrace",
        description="Shows which worker of a pre-forked server holds which lock, and who waits for it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"semtrace {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    _add_attach(commands, _pid_or_command if bare else _pid)
    for add in (_add_run, _add_serve, _add_ps, _add_dump, _add_doctor, _add_events, _add_release, _add_clean):
        add(commands)
    for add in (_add_record, _add_open, _add_export, _add_diff):
        add(commands)
    return parser


def _add_attach(commands: Commands, pid: Callable[[str], int]) -> None:
    command = commands.add_parser("attach", help="the live view (the default)", description="The live view.")
    _add_pid(command, pid)
    _add_look(command)
    _add_ignore(command)
    _add_audit(command)
    # For `serve`: the view of one page, which may only look, or act as well.
    command.add_argument("--browser", choices=("look", "act"), help=argparse.SUPPRESS)
    command.set_defaults(name="attach")


def _add_run(commands: Commands) -> None:
    command = commands.add_parser(
        "run", help="start a server with its locks traced", description="Starts a server, traced, and the live view."
    )
    command.add_argument("--headless", action="store_true", help="no live view: semtrace becomes the server")
    _add_look(command)
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="-- gunicorn …", help="the server's command")
    command.set_defaults(name="run")


def _add_serve(commands: Commands) -> None:
    command = commands.add_parser(
        "serve",
        help="the live view in a browser",
        description="Serves the live view to browsers, at an address that nobody can guess. Anyone who has it can "
        "look.",
    )
    _add_pid(command)
    command.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="listen there (default: 127.0.0.1, this machine alone)"
    )
    command.add_argument(
        "--port", type=_port, default=8321, metavar="PORT", help="listen there (default: 8321; 0: any that is free)"
    )
    command.add_argument("--allow-release", action="store_true", help="anyone with the address can release locks, too")
    _add_look(command)
    _add_audit(command)
    command.set_defaults(name="serve")


def _add_ps(commands: Commands) -> None:
    command = commands.add_parser("ps", help="every gunicorn of this machine", description="Lists the gunicorns.")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(name="ps")


def _add_ignore(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="a lock that each worker may have for itself, by its name; may be given several times",
    )


def _add_dump(commands: Commands) -> None:
    command = commands.add_parser("dump", help="one snapshot as text", description="One snapshot, as text or JSON.")
    _add_source(command)
    command.add_argument("--json", action="store_true", help="for programs: the schema is in the README")
    command.add_argument(
        "--all", action="store_true", help="also signals inside Condition, Event, Queue; libraries' threading locks"
    )
    command.add_argument("--stacks", action="store_true", help="also where holders and waiters are, by py-spy")
    command.add_argument("--watch", type=_seconds, metavar="SECONDS", help="repeat, until the server ends")
    _add_ignore(command)
    command.set_defaults(name="dump")


def _add_doctor(commands: Commands) -> None:
    command = commands.add_parser(
        "doctor", help="what is wrong, and what to do", description="Watches for a while and says what is wrong."
    )
    _add_source(command)
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--for",
        dest="seconds",
        type=_seconds,
        default=1.5,
        metavar="SECONDS",
        help="watch for this long before judging (default: 1.5)",
    )
    command.add_argument(
        "--long",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="report holds and waits longer than this (default: 10)",
    )
    _add_ignore(command)
    command.set_defaults(name="doctor")


def _add_events(commands: Commands) -> None:
    command = commands.add_parser(
        "events", help="what traced locks do, as it happens", description="Each act of the traced locks, one line each."
    )
    _add_source(command)
    command.add_argument("--json", action="store_true", help="for programs: one object a line")
    command.add_argument("--for", dest="seconds", type=_seconds, metavar="SECONDS", help="stop after this long")
    command.set_defaults(name="events")


def _add_record(commands: Commands) -> None:
    command = commands.add_parser(
        "record",
        help="record a server into a file",
        description="Records snapshots of a server until it ends, or until SIGINT or SIGTERM. Changes nothing in it.",
    )
    _add_pid(command)
    command.add_argument("-o", dest="out", type=Path, required=True, metavar="FILE", help="a new file; --all: a folder")
    command.add_argument(
        "--interval", type=_seconds, default=0.2, metavar="SECONDS", help="between two snapshots (default: 0.2)"
    )
    command.add_argument(
        "--for", dest="duration", type=_duration, metavar="TIME", help="stop after this long, as 90s or 10m"
    )
    command.add_argument("--max-size", type=_size, metavar="SIZE", help="stop before the file is larger, as 50M or 1G")
    command.add_argument(
        "--keep",
        type=_duration,
        metavar="TIME",
        help="keep only so much, in memory; write it when an error is found, a worker dies, or at SIGUSR1, and go on",
    )
    command.add_argument("--also-events", action="store_true", help="also each act of traced locks")
    command.add_argument("--no-stacks", action="store_true", help="not where holders and waiters are, by py-spy")
    command.add_argument("--all", action="store_true", help="every gunicorn of this machine, also those started later")
    _add_ignore(command)
    command.set_defaults(name="record")


def _add_open(commands: Commands) -> None:
    command = commands.add_parser(
        "open",
        help="the live view of a recording",
        description="The live view of a recording: it plays, stands, goes by steps, and to the next finding.",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a recording")
    command.add_argument("--at", type=_moment, metavar="TIME", help=f"begin then, {FORMS}")
    _add_look(command)
    _add_ignore(command)
    command.set_defaults(name="open")


def _add_export(commands: Commands) -> None:
    command = commands.add_parser(
        "export", help="turn a recording into another format", description="Turns a recording into another format."
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a recording")
    command.add_argument("--to", required=True, choices=("perfetto", "chrome", "csv", "html"), help="the format")
    command.add_argument("-o", dest="out", type=Path, metavar="OUT", help="a new file (default: FILE with another end)")
    _add_range(command, "--until")
    command.set_defaults(name="export", ignore=[])


def _add_diff(commands: Commands) -> None:
    command = commands.add_parser(
        "diff",
        help="compare two recordings",
        description="Shows what changed for each lock between two recordings: waits, holds, contention, lock orders, "
        "findings.",
    )
    command.add_argument("before", type=Path, metavar="A", help="a recording")
    command.add_argument("after", type=Path, metavar="B", help="a later one")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--threshold",
        type=_percent,
        metavar="PERCENT",
        help="exit code 3 if waits or holds are so much longer, or if there is a new error or lock order",
    )
    command.set_defaults(name="diff", ignore=[])


def _add_source(command: argparse.ArgumentParser) -> None:
    """A PID, or a recording and which part of it."""
    command.add_argument(
        "pid",
        nargs="?",
        type=_pid_or_file,
        metavar="PID|FILE",
        help="of a master, a worker or any Python process of the server; or a recording",
    )
    _add_range(command)
    command.add_argument("--at", type=_moment, metavar="TIME", help=f"of a recording: the snapshot of then, {FORMS}")


def _add_range(command: argparse.ArgumentParser, end: str = "--to") -> None:
    command.add_argument("--from", dest="since", type=_moment, metavar="TIME", help="of a recording: begin then")
    command.add_argument(end, dest="until", type=_moment, metavar="TIME", help="of a recording: end then")


def _add_release(commands: Commands) -> None:
    command = commands.add_parser(
        "release",
        help="release an orphaned lock",
        description="Releases a lock that a dead process left locked: only what is proved orphaned, and proved again "
        "right before. Without --yes it says what it would do.",
    )
    command.add_argument("pid", type=_pid, metavar="PID", help="of a process of the server")
    command.add_argument("lock", metavar="LOCK", help="its name or id, as dump shows them")
    _add_yes(command)
    command.set_defaults(name="release")


def _add_clean(commands: Commands) -> None:
    command = commands.add_parser(
        "clean",
        help="remove semaphores and SharedMemory blocks that dead processes left in /dev/shm",
        description="Removes the semaphores and SharedMemory blocks that Python made in /dev/shm and that no process "
        "uses. Without --yes it lists them.",
    )
    _add_yes(command)
    command.set_defaults(name="clean")


def _add_yes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--yes", action="store_true", help="do it")
    _add_audit(command)


def _add_audit(command: argparse.ArgumentParser) -> None:
    command.add_argument("--audit", metavar="FILE", help="append each act to this file, as a line of JSON")


def _add_pid(command: argparse.ArgumentParser, pid: Callable[[str], int] | None = None) -> None:
    command.add_argument(
        "pid",
        nargs="?",
        type=pid or _pid,
        metavar="PID",
        help="of a master, a worker or any Python process of the server",
    )


def _add_look(command: argparse.ArgumentParser) -> None:
    """What overrides the settings."""
    command.add_argument(
        "--interval", type=_seconds, metavar="SECONDS", help="between two refreshes (default: the settings', or 0.2)"
    )
    command.add_argument("--ascii", action="store_true", default=None, help="draw with ASCII alone")


def _pid(text: str) -> int:
    if not _is_pid(text):
        raise argparse.ArgumentTypeError(f"invalid PID {text!r}: use the number that `semtrace ps` shows")
    return int(text)


def _pid_or_command(text: str) -> int:
    if not _is_pid(text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a command ({', '.join(COMMANDS)}) nor a PID")
    return int(text)


def _pid_or_file(text: str) -> int | Path:
    """A number is a PID; a recording of such a name can be given as ./NAME."""
    if _is_pid(text):
        return int(text)
    if "/" in text or text.endswith(".semrec") or Path(text).is_file():
        return Path(text)
    raise argparse.ArgumentTypeError(f"invalid PID {text!r}: use the number that `semtrace ps` shows, or a recording")


def _moment(text: str) -> Moment:
    try:
        return parse_moment(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: give it {FORMS}") from None


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|d|)", text)
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else 0.0
    if not 0.02 <= seconds <= 366 * 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration, as 90s, 10m or 2h")
    return seconds


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([kKMGT]?)B?", text)
    number = int(found[1]) << {"": 0, "k": 10, "K": 10, "M": 20, "G": 30, "T": 40}[found[2]] if found else 0
    if not 1 << 16 <= number <= 1 << 50:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size of at least 64k, as 50M or 1G")
    return number


def _percent(text: str) -> float:
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage")
    return number


def _is_pid(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) > 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.02 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds, from 0.02 to 86400")
    return seconds
