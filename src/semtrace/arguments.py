"""What the command line understands: its commands, their options, and the help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from semtrace import __version__

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

COMMANDS = ("attach", "run", "serve", "ps", "dump", "doctor", "check", "events", "metrics", "release", "clean")

_EPILOG = """\
semtrace                 the live view of the only gunicorn, or a choice of several
semtrace PID             the same for the server that this process belongs to
semtrace ps              which gunicorns run here, and their workers
semtrace dump PID        one snapshot as text; --json for programs, --watch 1 to repeat
semtrace run -- gunicorn …  starts a server with its locks traced, and the live view beside it
semtrace serve PID       the live view in a browser
semtrace events PID      each act of traced locks as it happens; --json for programs
semtrace doctor PID      what is wrong with its locks, on what evidence, and what to do
semtrace check PID       one line and an exit code, for probes
semtrace metrics         metrics of all gunicorns for Prometheus
semtrace release PID LOCK  what releasing an orphaned lock would do; --yes does it
semtrace clean           semaphores and SharedMemory blocks that dead processes left in /dev/shm; --yes removes them

PID is a master's, a worker's, or that of any other Python process. Nothing is stopped in the server, and nothing is
changed in it except by release --yes.
Exit codes: 0 fine, 1 failed, 2 usage, 3 doctor or check found an error, 4 not permitted, 5 no such server.
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
    for add in (_add_run, _add_serve, _add_ps, _add_dump, _add_doctor, _add_check, _add_events, _add_metrics):
        add(commands)
    for add in (_add_release, _add_clean):
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
    _add_pid(command)
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
    _add_pid(command)
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--for",
        dest="seconds",
        type=_seconds,
        default=1.5,
        metavar="SECONDS",
        help="watch for this long before judging (default: 1.5)",
    )
    _add_long(command)
    _add_ignore(command)
    command.set_defaults(name="doctor")


def _add_check(commands: Commands) -> None:
    command = commands.add_parser(
        "check",
        help="one line and an exit code, for probes",
        description="Says in one line whether the server moves. Exits with 3 if it is stuck, deadlocked or keeps all "
        "its workers waiting, or if a lock is orphaned. Without PID it checks all gunicorns of this machine.",
    )
    _add_pid(command)
    _add_long(command)
    _add_ignore(command)
    command.set_defaults(name="check")


def _add_metrics(commands: Commands) -> None:
    command = commands.add_parser(
        "metrics",
        help="metrics for Prometheus",
        description="Exports metrics of servers, for Prometheus to scrape or for node_exporter's textfile collector.",
    )
    command.add_argument("pid", nargs="*", type=_pid, metavar="PID", help="watch only the servers of these processes")
    command.add_argument("--all", action="store_true", help="watch all gunicorns, as they come and go (the default)")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--listen", metavar="ADDRESS", help="listen there (default: 127.0.0.1:9877, this machine alone)")
    where.add_argument("--textfile", metavar="FILE", help="write them to this file instead; its name ends with .prom")
    command.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="SECONDS", help="between two samples (default: 2)"
    )
    command.add_argument("--tls-cert", metavar="FILE", help="serve HTTPS with this certificate (PEM)")
    command.add_argument("--tls-key", metavar="FILE", help="its key, if the certificate's file does not have it")
    command.add_argument("--tls-client-ca", metavar="FILE", help="ask clients for a certificate of this authority")
    command.add_argument("--auth-file", metavar="FILE", help="ask clients for the USER:PASSWORD in this file")
    _add_long(command)
    _add_ignore(command)
    command.set_defaults(name="metrics")


def _add_long(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--long",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="report holds and waits longer than this (default: 10)",
    )


def _add_events(commands: Commands) -> None:
    command = commands.add_parser(
        "events", help="what traced locks do, as it happens", description="Each act of the traced locks, one line each."
    )
    _add_pid(command)
    command.add_argument("--json", action="store_true", help="for programs: one object a line")
    command.add_argument("--for", dest="seconds", type=_seconds, metavar="SECONDS", help="stop after this long")
    command.set_defaults(name="events")


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
