"""The command line: one function per command, each importing what it needs and no more."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from semtrace.arguments import parse
from semtrace.errors import EXIT_FINDINGS, EXIT_NOT_PERMITTED, EXIT_OK, SemtraceError, UsageError

if TYPE_CHECKING:
    from semtrace.model import Frame, Problem, ProcessId, SemId, Server, Snapshot
    from semtrace.observe import Observer
    from semtrace.settings import Settings
    from semtrace.tui.looking import Release, Tools
    from semtrace.tui.remembered import Remembered


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = parse(list(sys.argv[1:] if arguments is None else arguments))
    try:
        _refuse_other_systems()
        return _FUNCTIONS[options.name](options)
    except SemtraceError as error:
        return _tell(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `semtrace dump | head`: whoever read us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def attach(options: argparse.Namespace) -> int:
    """The live view."""
    _need_terminal(f"semtrace dump --watch 1{' ' + str(options.pid) if options.pid else ''}")
    from semtrace import gunicorn
    from semtrace.tui.app import run

    settings = _settings(options)

    def find() -> Sequence[Server]:
        return gunicorn.find_servers() if options.pid is None else (gunicorn.server_of(options.pid),)

    with _releasing(options.audit) as release_it:
        return run(
            lambda: find() or (gunicorn.choose(options.pid),),
            _following,
            settings=settings,
            tools=_tools(settings, release_it),
            remembered=_remembered(settings),
        )


def _settings(options: argparse.Namespace) -> Settings:
    """The user's file, and over it the command line."""
    from dataclasses import replace

    from semtrace.settings import load
    from semtrace.tui.commands import check

    settings = load()
    check(settings.keys)
    given = {name: getattr(options, name) for name in ("interval", "ascii")}
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _tools(settings: Settings, release_it: Release) -> Tools:
    from pathlib import Path

    from semtrace.linux.surroundings import read_surroundings
    from semtrace.tui.looking import Tools

    return Tools(release_it, _stacks, Path(settings.folder).expanduser(), read_surroundings)


def _remembered(settings: Settings) -> Remembered:
    from semtrace.settings import state_path
    from semtrace.tui.remembered import Remembered

    return Remembered(state_path() if settings.remember else None)


def _stacks(
    processes: Sequence[ProcessId],
) -> tuple[Mapping[tuple[ProcessId, int], tuple[Frame, ...]], Sequence[Problem]]:
    """The Python stacks of these processes, for whoever asks."""
    from semtrace.stacks import take

    taken = take(processes)
    return taken.of, taken.problems


def _following(server: Server) -> Observer:
    """An observer that follows the events of traced locks, if there are any."""
    from semtrace.follower import Follower
    from semtrace.observe import Observer

    return Observer(server, telling=Follower())


def run(options: argparse.Namespace) -> int:
    """A server of our own, traced, with the live view beside it; its exit code becomes ours."""
    from semtrace import launch

    command = options.command[options.command[:1] == ["--"] :]
    if options.headless:
        launch.replace_by(command)
    launch.check(command)
    _need_terminal("semtrace run --headless -- …")
    from semtrace.tui.app import run as show

    settings = _settings(options)
    with _ending_on_sigterm(), _releasing(None) as release_it:
        launched = launch.Launched(command)
        try:
            code = show(
                lambda: (launched.server(),),
                _following,
                settings=settings,
                child=launched,
                tools=_tools(settings, release_it),
                remembered=_remembered(settings),
            )
        except BaseException:
            launched.stop()
            launched.forget()
            raise
    if launched.leave and launched.running:
        said = f"process {launched.pid} runs on; its output goes to {launched.log}"
        _print([said, "  a later `semtrace run` removes that file once the server has ended"])
        return code
    by_itself = not launched.running
    ended = launched.stop()
    if by_itself and ended:
        _say_last_lines(launched.last_lines())
    launched.forget()
    return ended


def _say_last_lines(lines: Iterable[str]) -> None:
    """Of a server that failed: its output was in a pane, and goes with it."""
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201


def _need_terminal(instead: str) -> None:
    from semtrace.tui.terminal import unusable_terminal

    why_not = unusable_terminal()
    if why_not is not None:
        raise UsageError(f"the live view needs a terminal: {why_not}", f"for plain text: {instead}")


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


def events(options: argparse.Namespace) -> int:
    """What the traced locks do, line by line, until the server or the time ends."""
    from semtrace import gunicorn
    from semtrace.tailing import lines

    with _ending_on_sigterm():
        server = gunicorn.choose(options.pid)
        _print(lines(server, as_json=options.json, for_s=options.seconds, colour=_wants_colour()), flush=True)
    return EXIT_OK


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """As an exception, so that what was made is removed."""
    import signal

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def release(options: argparse.Namespace) -> int:
    """Releases an orphaned lock, or says what that would do."""
    from semtrace import gunicorn, mend

    server = gunicorn.choose(options.pid)
    _print(mend.release(server, options.lock, yes=options.yes, audit=options.audit, say=_log))
    return EXIT_OK


def clean(options: argparse.Namespace) -> int:
    """Removes leftover semaphores, or lists them."""
    from semtrace import mend

    _print(mend.clean(yes=options.yes, audit=options.audit, say=_log))
    return EXIT_OK


@contextmanager
def _releasing(audit: str | None) -> Iterator[Callable[[Server, SemId], Sequence[str]]]:
    """For the live view; what it does is said when it has given the terminal back."""
    from semtrace import mend

    said: list[str] = []
    try:
        yield mend.releaser(audit, said.append)
    finally:
        for sentence in said:
            _log(sentence)


def _log(sentence: str) -> None:
    print(f"semtrace: {sentence}", file=sys.stderr, flush=True)  # noqa: T201


def doctor(options: argparse.Namespace) -> int:
    """What is wrong, after a little watching."""
    from semtrace import gunicorn
    from semtrace.doctor import Doctor
    from semtrace.doctor_report import WIDTH, doctor_json, doctor_text
    from semtrace.rules import Limits

    patient = Doctor(gunicorn.choose(options.pid), Limits(options.long, options.long))
    try:
        diagnosis = patient.watch(options.seconds)
    finally:
        patient.close()
    snapshot = diagnosis.snapshot
    if options.json:
        import json

        _print([json.dumps(doctor_json(snapshot), indent=2)])
    else:
        import shutil

        width = max(40, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))
        _print(doctor_text(snapshot, diagnosis.looks, colour=_wants_colour(), width=width))
    if any(finding.severity == "error" for finding in snapshot.findings):
        return EXIT_FINDINGS
    return EXIT_NOT_PERMITTED if _nothing_seen(snapshot) else EXIT_OK


def _show(snapshot: Snapshot, options: argparse.Namespace) -> None:
    if options.stacks:
        from semtrace.stacks import with_stacks

        snapshot = with_stacks(snapshot)
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


def _print(lines: Iterable[str], flush: bool = False) -> None:
    for line in lines:
        _write(line + "\n", flush)
    _write("", flush=True)


def _write(text: str, flush: bool) -> None:
    if sys.stdout is None:
        raise SemtraceError("there is no output to write to", "it was closed: give semtrace one")
    try:
        sys.stdout.write(text)
        if flush:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer has nowhere to go at exit
        raise SemtraceError(f"cannot write: {error.strerror}", "is the disk full?") from error


def _tell(error: SemtraceError) -> int:
    print(f"semtrace: {error}", file=sys.stderr)  # noqa: T201
    if error.remedy:
        print(f"  {error.remedy}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def _wants_colour() -> bool:
    return (
        sys.stdout is not None
        and sys.stdout.isatty()
        and "NO_COLOR" not in os.environ
        and os.environ.get("TERM") != "dumb"
    )


def _refuse_other_systems() -> None:
    if sys.platform != "linux":
        raise SemtraceError(
            f"semtrace reads /proc as Linux has it; this is {sys.platform}", "run it on the server's machine"
        )


_FUNCTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    function.__name__: function for function in (attach, run, ps, dump, doctor, events, release, clean)
}
