"""What the command line understands: its commands, their options, and the help."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from semtrace import __version__
from semtrace.errors import EXIT_USAGE
from semtrace.record.moments import FORMS, Moment, parse_moment

_EPILOG = """\
PID is a master's, a worker's, or that of any other Python process. Nothing is stopped in the server, and nothing is
changed in it except by release --yes. `semtrace help COMMAND` has an example of each command.
Exit codes: 0 fine, 1 failed, 2 usage, 3 doctor or check found an error, 4 not permitted, 5 no such server.
"""


_RECORDING = ".semrec"


class _Help(argparse.HelpFormatter):
    """Wraps a description, and leaves lines as they are that are laid out already."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class _Parser(argparse.ArgumentParser):
    """Understands whole words alone: an abbreviation such as `--y` would release a lock."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": _Help, **named})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and how this very command is used. Exits with 2."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"semtrace: {message}\n")


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[_Parser]


def parse(arguments: list[str]) -> argparse.Namespace:
    """`name` is the command's; without one it is `attach`. Exits with 2 on what it does not understand."""
    parser, commands = command_line()
    name, rest = _split(arguments, parser, commands)
    command = commands[name]
    options, unknown = command.parse_known_args(rest if name == "run" else _options_first(rest, command))
    if unknown:
        command.error(_unknown(unknown[0], command))
    _settle_pid(options, command)
    if name == "run" and options.command[:1] == ["--"]:
        del options.command[0]
    return options


def command_line() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of everything, for help, completion and the manual, and that of each command."""
    parser = _Parser(
        prog="semtrace",
        usage="semtrace [PID]\n       semtrace COMMAND [PID] [options]",
        description="Shows which worker of a pre-forked server holds which lock, who waits for it, and why nothing "
        "moves.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"semtrace {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=_Parser, prog="semtrace"
    )
    for add in _ADD:
        add(commands)
    return parser, dict(commands.choices)


def _split(
    arguments: list[str], parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser]
) -> tuple[str, list[str]]:
    """Return the name of the command, which may come after the PID and options, and all else."""
    first = arguments[0] if arguments else ""
    if first in commands:
        return first, arguments[1:]
    if first in ("-h", "--help", "--version"):
        parser.parse_args(arguments[:1])
    if first == "help":
        _help(arguments[1:], parser, commands)
    takes_value = {option for each in commands.values() for option, takes in _options(each).items() if takes}
    before = ""
    for at, word in enumerate(arguments):
        if word == "--":
            break
        if before not in takes_value:
            if word in commands:
                return word, arguments[:at] + arguments[at + 1 :]
            if word.endswith(_RECORDING):
                return "open", arguments
            if not word.startswith("-") and not _is_pid(word):
                parser.exit(EXIT_USAGE, f"semtrace: {_unknown_command(word, commands)}\n")
        before = word
    return "attach", arguments


def _help(
    words: list[str], parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser]
) -> NoReturn:
    if words and words[0] not in commands:
        parser.exit(EXIT_USAGE, f"semtrace: {_unknown_command(words[0], commands)}\n")
    (commands[words[0]] if words else parser).print_help()
    parser.exit()


def _options_first(words: list[str], command: argparse.ArgumentParser) -> list[str]:
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


def _options(command: argparse.ArgumentParser) -> dict[str, bool]:
    """Return the options that it understands, and whether each takes a value."""
    return {option: action.nargs != 0 for action in command._actions for option in action.option_strings}


def _settle_pid(options: argparse.Namespace, command: argparse.ArgumentParser) -> None:
    """The PID may be given as an option."""
    by_option = vars(options).pop("pid_option", None)
    if by_option is not None:
        if options.pid not in (None, by_option):
            command.error(f"there are two PIDs, {options.pid} and {by_option}: give one")
        options.pid = by_option
    if options.name == "release" and options.pid is None:
        command.error("release needs a PID: use a number that `semtrace ps` shows")


def _unknown_command(word: str, commands: Collection[str]) -> str:
    close = _closest(word, commands)
    return f"unknown command {word!r}" + (f"; did you mean {close}?" if close else ": `semtrace help` lists them")


def _unknown(word: str, command: argparse.ArgumentParser) -> str:
    if not word.startswith("-"):
        return f"{word!r} is one argument too many"
    close = _closest(word.partition("=")[0], [option for option in _options(command) if option.startswith("--")])
    return f"unknown option {word!r}" + (f"; did you mean {close}?" if close else "")


def _closest(word: str, known: Collection[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, 1)), None)


def _examples(*lines: str) -> str:
    """Lay out lines of two parts, what to type and what it does, as the end of a command's help."""
    parts = [line.partition("  ") for line in lines]
    wide = max(len(typed) for typed, _, _ in parts)
    return "examples:\n" + "".join(f"  {typed:{wide}}  {what.strip()}\n" for typed, _, what in parts)


def _add_attach(commands: Commands) -> None:
    command = commands.add_parser(
        "attach",
        help="the live view (the default)",
        description="The live view of a running server. Without PID of the only one, else of one that you choose.",
        epilog=_examples(
            "semtrace 4321  the server that this process belongs to", "semtrace  the only one, or a choice"
        ),
    )
    _add_pid(command)
    _add_look(command)
    _add_ignore(command)
    _add_audit(command)
    # For `serve`: the view of one page, which may only look, or act as well.
    command.add_argument("--browser", choices=("look", "act"), help=argparse.SUPPRESS)
    command.set_defaults(name="attach")


def _add_run(commands: Commands) -> None:
    command = commands.add_parser(
        "run",
        help="start a server with its locks traced",
        description="Starts a server, traced, and the live view next to it.",
        epilog=_examples("semtrace run -- gunicorn -w 4 --preload shop:app  with exact times of each lock"),
    )
    command.add_argument("--headless", action="store_true", help="no live view: semtrace becomes the server")
    command.add_argument("--record", type=Path, metavar="FILE", help="also record it into this new file, with events")
    _add_look(command)
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="-- gunicorn …", help="the server's command")
    command.set_defaults(name="run")


def _add_serve(commands: Commands) -> None:
    command = commands.add_parser(
        "serve",
        help="the live view in a browser",
        description="Serves the live view to browsers, at an address that nobody can guess. Anyone who has it can "
        "look.",
        epilog=_examples("semtrace serve 4321  prints the address to open"),
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
    command = commands.add_parser(
        "ps",
        help="every pre-forked Python server of this machine",
        description="Lists the servers: gunicorn, uWSGI, uvicorn, hypercorn, granian, celery, dramatiq, huey, rq, "
        "django-q, and other Python programs of which at least two processes share a semaphore. The health is that of "
        "a short look: semtrace check PID looks longer.",
        epilog=_examples("semtrace ps  each with its workers, as a table", "semtrace ps --json  for programs"),
    )
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
    command = commands.add_parser(
        "dump",
        help="one snapshot as text",
        description="One snapshot, as text, JSON or CSV.",
        epilog=_examples(
            "semtrace dump 4321  who holds and who waits, now",
            "semtrace dump --stacks 4321  also at which line",
            "semtrace dump --json --watch 1 4321  one object a second, for programs",
        ),
    )
    _add_source(command)
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs: docs/json.md has the schema")
    form.add_argument("--csv", action="store_true", help="for a spreadsheet: one row for each lock")
    command.add_argument(
        "--all", action="store_true", help="also signals inside Condition, Event, Queue; libraries' threading locks"
    )
    command.add_argument("--stacks", action="store_true", help="also where holders and waiters are, by py-spy")
    command.add_argument("--watch", type=_seconds, metavar="SECONDS", help="repeat, until the server ends")
    _add_ignore(command)
    command.set_defaults(name="dump")


def _add_doctor(commands: Commands) -> None:
    command = commands.add_parser(
        "doctor",
        help="what is wrong, and what to do",
        description="Watches for a while and says what is wrong.",
        epilog=_examples(
            "semtrace doctor 4321  what is wrong now",
            "semtrace doctor --watch 4321  whenever that changes, until the server ends",
            "semtrace doctor --brief --fail-on warning 4321  one line a finding, for monitoring",
        ),
    )
    _add_source(command)
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--brief", action="store_true", help="one line for each finding, without evidence and remedy")
    command.add_argument(
        "--for",
        dest="seconds",
        type=_seconds,
        default=1.5,
        metavar="SECONDS",
        help="watch for this long before judging (default: 1.5)",
    )
    _add_long(command)
    command.add_argument(
        "--watch", action="store_true", help="go on, and report whenever the findings change, until the server ends"
    )
    command.add_argument(
        "--fail-on",
        choices=("error", "warning", "note", "nothing"),
        default="error",
        metavar="SEVERITY",
        help="exit with 3 on findings as severe as this: error (the default), warning, note, or nothing",
    )
    _add_ignore(command)
    command.set_defaults(name="doctor")


def _add_check(commands: Commands) -> None:
    command = commands.add_parser(
        "check",
        help="one line and an exit code, for probes",
        description="Says in one line whether the server moves. Exits with 3 if it is stuck, deadlocked or keeps all "
        "its workers waiting, or if a lock is orphaned. Without PID it checks all gunicorns of this machine.",
        epilog=_examples(
            "semtrace check  for cron and probes: a line and an exit code", "semtrace check 4321  of one server"
        ),
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
        epilog=_examples(
            "semtrace metrics  of all gunicorns, at http://127.0.0.1:9877/metrics",
            "semtrace metrics --textfile /var/lib/node_exporter/semtrace.prom  for node_exporter",
        ),
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
        "events",
        help="what traced locks do, as it happens",
        description="Each act of the traced locks, one line each.",
        epilog=_examples(
            "semtrace events 4321  each act as it happens", "semtrace events --json --for 10 4321  ten seconds"
        ),
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
        epilog=_examples(
            "semtrace record 4321 -o shop.semrec  until it is stopped",
            "semtrace record 4321 --keep 10m -o shop.semrec  the last minutes, when an error is found",
        ),
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
    command.add_argument(
        "--reconnect", action="store_true", help="when the gunicorn is restarted, go on in FILE-2, FILE-3 and so on"
    )
    _add_ignore(command)
    command.set_defaults(name="record")


def _add_open(commands: Commands) -> None:
    command = commands.add_parser(
        "open",
        help="the live view of a recording",
        description="The live view of a recording: it plays, stands, goes by steps, and to the next finding.",
        epilog=_examples("semtrace open shop.semrec  as if it were now"),
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a recording")
    command.add_argument("--at", type=_moment, metavar="TIME", help=f"begin then, {FORMS}")
    _add_look(command)
    _add_ignore(command)
    command.set_defaults(name="open")


def _add_export(commands: Commands) -> None:
    command = commands.add_parser(
        "export",
        help="turn a recording into another format",
        description="Turns a recording into another format.",
        epilog=_examples("semtrace export shop.semrec --to html  one page for a colleague"),
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
        epilog=_examples("semtrace diff before.semrec after.semrec --threshold 20%  exits with 3 if it got worse"),
    )
    command.add_argument("before", type=Path, metavar="A", help="a recording")
    command.add_argument("after", type=Path, metavar="B", help="a later one")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--threshold",
        type=_percent,
        metavar="PERCENT",
        help="exit code 3 if waits or holds are so much longer, or if an error or two lock orders are new",
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
    _add_pid_option(command)
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
        epilog=_examples(
            "semtrace release 4321 shop.lock  what that would do",
            "semtrace release 4321 shop.lock --yes  release it",
        ),
    )
    _add_pid(command)
    command.add_argument("lock", metavar="LOCK", help="its name or id, as dump shows them")
    _add_yes(command)
    command.set_defaults(name="release")


def _add_clean(commands: Commands) -> None:
    command = commands.add_parser(
        "clean",
        help="remove semaphores and SharedMemory blocks that dead processes left in /dev/shm",
        description="Removes the semaphores and SharedMemory blocks that Python made in /dev/shm and that no process "
        "uses. Without --yes it lists them.",
        epilog=_examples("semtrace clean  what there is", "semtrace clean --yes  remove it"),
    )
    _add_yes(command)
    command.set_defaults(name="clean")


def _add_config(commands: Commands) -> None:
    command = commands.add_parser(
        "config",
        help="the settings in force, and where each comes from",
        description="Prints the settings in force, as the file could have them, and where each comes from.",
        epilog=_examples("semtrace config  to be changed and saved where it says"),
    )
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(name="config")


def _add_completion(commands: Commands) -> None:
    command = commands.add_parser(
        "completion",
        help="print a script that completes commands in the shell",
        description="Prints a script with which the shell completes commands and options.",
        epilog=_examples(
            "semtrace completion bash  save it as ~/.local/share/bash-completion/completions/semtrace",
            "semtrace completion zsh  save it as _semtrace, in a folder of $fpath",
            "semtrace completion fish  save it as ~/.config/fish/completions/semtrace.fish",
        ),
    )
    command.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that reads it")
    command.set_defaults(name="completion")


def _add_yes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--yes", action="store_true", help="do it")
    _add_audit(command)


def _add_audit(command: argparse.ArgumentParser) -> None:
    command.add_argument("--audit", metavar="FILE", help="append each act to this file, as a line of JSON")


def _add_pid(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "pid",
        nargs="?",
        type=_pid,
        metavar="PID",
        help="of a master, a worker or any Python process of the server",
    )
    _add_pid_option(command)


def _add_pid_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("-p", "--pid", dest="pid_option", type=_pid, metavar="PID", help="the same")


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


def _pid_or_file(text: str) -> int | Path:
    """A number is a PID; a recording of such a name can be given as ./NAME."""
    if _is_pid(text):
        return int(text)
    if "/" in text or text.endswith(_RECORDING) or Path(text).exists():
        return Path(text)
    raise argparse.ArgumentTypeError(
        f"invalid PID {text!r}: use the number that `semtrace ps` shows, or a recording; there is no such file"
    )


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


_ADD = (
    _add_attach,
    _add_doctor,
    _add_ps,
    _add_dump,
    _add_check,
    _add_events,
    _add_metrics,
    _add_run,
    _add_serve,
    _add_record,
    _add_open,
    _add_export,
    _add_diff,
    _add_release,
    _add_clean,
    _add_config,
    _add_completion,
)
