"""The command line: one function per command, each importing what it needs and no more."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from semtrace import __version__
from semtrace.errors import EXIT_NOT_PERMITTED, EXIT_OK, SemtraceError, UsageError

if TYPE_CHECKING:
    from semtrace.model import Server, Snapshot

COMMANDS = ("attach", "ps", "dump")

_EPILOG = """\
semtrace                 the live view of the only gunicorn, or a choice of several
semtrace PID             the same for the server that this process belongs to
semtrace ps              which gunicorns run here, and their workers
semtrace dump PID        one snapshot as text; --json for programs, --watch 1 to repeat

PID is a master's, a worker's, or that of any other Python process. Nothing is changed or stopped in the server.
Exit codes: 0 fine, 1 failed, 2 usage, 3 findings of severity error, 4 not permitted, 5 no such server.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parse(list(sys.argv[1:] if arguments is None else arguments))
    try:
        _refuse_other_systems()
        command: Callable[[argparse.Namespace], int] = options.run
        return command(options)
    except SemtraceError as error:
        return _tell(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `semtrace dump | head`: whoever read us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def attach(options: argparse.Namespace) -> int:
    """The live view."""
    from semtrace.tui.terminal import unusable_terminal

    why_not = unusable_terminal()
    if why_not is not None:
        again = f"semtrace dump --watch 1{' ' + str(options.pid) if options.pid else ''}"
        raise UsageError(f"the live view needs a terminal: {why_not}", f"for plain text: {again}")
    from semtrace import gunicorn
    from semtrace.observe import Observer
    from semtrace.tui.app import run

    def find() -> Sequence[Server]:
        return gunicorn.find_servers() if options.pid is None else (gunicorn.server_of(options.pid),)

    return run(lambda: find() or (gunicorn.choose(options.pid),), Observer, interval_s=options.interval)


def ps(options: argparse.Namespace) -> int:
    """The servers of this machine."""
    from semtrace.ps import ps as list_servers

    _print(list_servers(as_json=options.json))
    return EXIT_OK


def dump(options: argparse.Namespace) -> int:
    """One snapshot, or one every so often until the server ends."""
    from semtrace import gunicorn
    from semtrace.observe import Observer, settle

    observer = Observer(gunicorn.choose(options.pid), all_thread_locks=options.all)
    try:
        snapshot = settle(observer)
        _show(snapshot, options)
        while options.watch and snapshot.alive:
            _pause(options.watch)
            snapshot = observer.snapshot()
            _show(snapshot, options)
    finally:
        observer.close()
    return EXIT_NOT_PERMITTED if _nothing_seen(snapshot) else EXIT_OK


def _show(snapshot: Snapshot, options: argparse.Namespace) -> None:
    if options.json:
        import json

        from semtrace.schema import snapshot_json

        # One line a snapshot when there are several, for whoever reads them as they come.
        _print([json.dumps(snapshot_json(snapshot), indent=None if options.watch else 2)])
        return
    from semtrace.report import report

    _print(report(snapshot, colour=_wants_colour(), signals=options.all))
    if options.watch and snapshot.alive:
        _print([""])


def _nothing_seen(snapshot: Snapshot) -> bool:
    """True if the kernel showed the inside of not one process."""
    return {p.process for p in snapshot.problems} >= {p.id for p in snapshot.processes} != set()


def _pause(seconds: float) -> None:
    import time

    time.sleep(seconds)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)  # noqa: T201
    sys.stdout.flush()


def _tell(error: SemtraceError) -> int:
    print(f"semtrace: {error}", file=sys.stderr)  # noqa: T201
    if error.remedy:
        print(f"  {error.remedy}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def _wants_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _refuse_other_systems() -> None:
    if sys.platform != "linux":
        raise SemtraceError(
            f"semtrace reads /proc as Linux has it; this is {sys.platform}", "run it on the server's machine"
        )


def _parse(arguments: list[str]) -> argparse.Namespace:
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help", "--version"):
        arguments.insert(0, "attach")
    return _parser().parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="semtrace",
        description="Shows which worker of a pre-forked server holds which lock, and who waits for it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"semtrace {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("attach", help="the live view (the default)", description="The live view.")
    _add_pid(command)
    command.add_argument(
        "--interval", type=_seconds, default=0.2, metavar="SECONDS", help="between two refreshes (default: 0.2)"
    )
    command.set_defaults(run=attach)

    command = commands.add_parser("ps", help="every gunicorn of this machine", description="Lists the gunicorns.")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=ps)

    command = commands.add_parser("dump", help="one snapshot as text", description="One snapshot, as text or JSON.")
    _add_pid(command)
    command.add_argument("--json", action="store_true", help="for programs: the schema is in the README")
    command.add_argument(
        "--all", action="store_true", help="also signals inside Condition, Event, Queue; libraries' threading locks"
    )
    command.add_argument("--watch", type=_seconds, metavar="SECONDS", help="repeat, until the server ends")
    command.set_defaults(run=dump)
    return parser


def _add_pid(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "pid", nargs="?", type=_pid, metavar="PID", help="of a master, a worker or any Python process of the server"
    )


def _pid(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a command ({', '.join(COMMANDS)}) nor a PID")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.02 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds, from 0.02 to 86400")
    return seconds
