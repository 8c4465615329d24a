"""The command line: one function per command, each importing what it needs and no more."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING

from semtrace.arguments import parse
from semtrace.errors import EXIT_FINDINGS, EXIT_NOT_PERMITTED, EXIT_OK, SemtraceError, UsageError
from semtrace.printing import (
    emit,
    emit_ascii,
    emit_json,
    emit_prose,
    lenient,
    say,
    tell,
    wants_colour,
    width,
    working,
)

if TYPE_CHECKING:
    from semtrace.doctor import Doctor
    from semtrace.model import Snapshot
    from semtrace.rules import Limits


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    lenient()
    typed = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(typed)
    if arguments is not None or getattr(options, "headless", False):  # then semtrace becomes the server
        return _run(options, typed)
    from semtrace.supervising import supervised

    # A second `run` would start a second server, a second `release --yes` may have acted already, and a page does not
    # understand a second live view.
    once = options.name in ("run", "record") or getattr(options, "yes", False) or getattr(options, "browser", None)
    left = "the server that it started runs on: `semtrace ps`, or ps, has its PID" if options.name == "run" else ""
    return supervised(lambda: _with_least_rights(options, typed), again=not once, left=left)


def _with_least_rights(options: argparse.Namespace, typed: Sequence[str]) -> int:
    """Run it without the rights that it does not need; the server that `run` starts keeps all of them."""
    from semtrace.linux import privileges

    kept = {"run": None, "serve": privileges.TO_SERVE, "metrics": privileges.TO_EXPORT}
    kept |= dict.fromkeys(("ps", "dump", "check"), privileges.TO_LOOK)
    if (rights := kept.get(options.name, privileges.TO_ACT)) is not None:
        privileges.drop_all_but(rights)
    return _run(options, typed)


def _run(options: argparse.Namespace, typed: Sequence[str]) -> int:
    from semtrace.linux.rights import started_with

    try:
        _refuse_other_systems()
        if options.name != "run" and not getattr(options, "browser", None):
            started_with(typed)  # one more server would be no help, and what `serve` starts nobody has typed
        return _FUNCTIONS[options.name](options)
    except SemtraceError as error:
        return tell(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `semtrace dump | head`: whoever read us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def attach(options: argparse.Namespace) -> int:
    """The live view."""
    from semtrace import showing

    return showing.attach(options)


def open_recording(options: argparse.Namespace) -> int:
    """The live view of a recording."""
    from semtrace import showing

    return showing.open_recording(options)


def run(options: argparse.Namespace) -> int:
    """A server of our own, traced; with the live view beside it, or in our place."""
    if options.headless:
        if options.record is not None:
            raise UsageError("--record does not go with --headless", "use: semtrace record PID -o FILE --also-events")
        from semtrace import launch

        launch.replace_by(options.command)
    from semtrace import showing

    return showing.run(options)


def serve(options: argparse.Namespace) -> int:
    """The live view in a browser."""
    from semtrace import serving

    return serving.serve(options)


def ps(options: argparse.Namespace) -> int:
    """The servers of this machine."""
    from semtrace.ps import ps as list_servers

    emit(list_servers(as_json=options.json))
    return EXIT_OK


def dump(options: argparse.Namespace) -> int:
    """One snapshot, or one every so often until the server ends."""
    if isinstance(options.pid, Path):
        from semtrace.record import reading

        first = chain([True], repeat(False))
        return reading.dump(
            options, _limits(options), lambda snapshot, own, several: _print(snapshot, own, several, next(first))
        )
    from semtrace.observe.observer import LONG_SEARCH_BUDGET_S, Observer, settle
    from semtrace.servers import discovery

    observer = Observer(
        discovery.choose(options.pid),
        search_budget_s=LONG_SEARCH_BUDGET_S,
        all_thread_locks=options.all,
        limits=_limits(options),
    )
    try:
        with working(f"reading the server of PID {observer.server.pid}"):
            snapshot = settle(observer)
        _show(snapshot, options, observer.snapshot, first=True)
        while options.watch and snapshot.alive:
            _pause(options.watch)
            snapshot = observer.snapshot()
            _show(snapshot, options, observer.snapshot)
    finally:
        observer.close()
    return EXIT_NOT_PERMITTED if _nothing_seen(snapshot) else EXIT_OK


def events(options: argparse.Namespace) -> int:
    """What the traced locks do, line by line, until the server or the time ends."""
    if isinstance(options.pid, Path):
        from semtrace.record import reading

        return reading.events(options)
    from semtrace.servers import discovery
    from semtrace.signals import ending_on_signals
    from semtrace.tailing import json_blocks, lines

    with ending_on_signals():
        server = discovery.choose(options.pid)
        if options.json:
            emit_ascii(json_blocks(server, for_s=options.seconds))
        else:
            emit(lines(server, for_s=options.seconds, colour=wants_colour()), flush=True)
    return EXIT_OK


def release(options: argparse.Namespace) -> int:
    """Releases an orphaned lock, or says what that would do."""
    from semtrace.repairs import mend
    from semtrace.servers import discovery
    from semtrace.signals import ending_on_signals

    with ending_on_signals():
        server = discovery.choose(options.pid)
        with working(f"proving that nobody holds {options.lock}"):
            emit_prose(mend.release(server, options.lock, yes=options.yes, audit=options.audit, say=say))
    return EXIT_OK


def clean(options: argparse.Namespace) -> int:
    """Removes leftover semaphores and SharedMemory blocks, or lists them."""
    from semtrace.repairs import mend
    from semtrace.signals import ending_on_signals

    with ending_on_signals():
        emit_prose(mend.clean(yes=options.yes, audit=options.audit, say=say))
    return EXIT_OK


def config(options: argparse.Namespace) -> int:
    """The settings in force."""
    from semtrace import settings

    if options.json:
        import json

        emit_json(json.dumps(settings.as_json(), indent=2))
    else:
        emit(settings.as_toml())
    return EXIT_OK


def completion(options: argparse.Namespace) -> int:
    """Completion of commands and options, as a script for a shell."""
    from semtrace.completion import script

    emit(script(options.shell))
    return EXIT_OK


def doctor(options: argparse.Namespace) -> int:
    """What is wrong, after a little watching; with `--watch` again whenever that changes."""
    from semtrace.reports.doctor import as_severe_as, is_news

    if isinstance(options.pid, Path):
        from semtrace.record import reading

        return reading.doctor(options, _limits(options), _tell)
    from semtrace.doctor import Doctor
    from semtrace.servers import discovery

    patient = Doctor(discovery.choose(options.pid), _limits(options))
    try:
        snapshot = _examine(patient, options)
        failed = as_severe_as(options.fail_on, snapshot)
        while options.watch and snapshot.alive:
            patient.forget_passed()
            snapshot = _examine(patient, options, partial(is_news, snapshot))
            failed |= as_severe_as(options.fail_on, snapshot)
    finally:
        patient.close()
    return _exit_code(failed, snapshot)


def _examine(
    patient: Doctor, options: argparse.Namespace, worth_it: Callable[[Snapshot], bool] = lambda snapshot: True
) -> Snapshot:
    """Watch once, and print what there is if that is `worth_it`."""
    with working(f"watching the server of PID {patient.server.pid}"):
        diagnosis = patient.watch(options.seconds)
    if worth_it(diagnosis.snapshot):
        _report(diagnosis.snapshot, diagnosis.looks, options)
    return diagnosis.snapshot


def _tell(snapshot: Snapshot, looks: int, options: argparse.Namespace) -> int:
    """Print a diagnosis and return the exit code."""
    from semtrace.reports.doctor import as_severe_as

    _report(snapshot, looks, options)
    return _exit_code(as_severe_as(options.fail_on, snapshot), snapshot)


def _exit_code(failed: bool, snapshot: Snapshot) -> int:
    if failed:
        return EXIT_FINDINGS
    return EXIT_NOT_PERMITTED if _nothing_seen(snapshot) else EXIT_OK


def _report(snapshot: Snapshot, looks: int, options: argparse.Namespace) -> None:
    from semtrace.reports.doctor import doctor_brief, doctor_json, doctor_text

    if options.json:
        import json

        emit_json(json.dumps(doctor_json(snapshot), indent=None if options.watch else 2), flush=options.watch)
    elif options.brief:
        emit(doctor_brief(snapshot, at=options.watch), flush=options.watch)
    else:
        from semtrace.text import iso

        lines = doctor_text(snapshot, looks, colour=wants_colour(), width=width())
        emit([f"At {iso(snapshot.taken_at)}:", "", *lines, ""] if options.watch else lines, flush=options.watch)


def check(options: argparse.Namespace) -> int:
    """One line that answers whether the server moves."""
    from semtrace.check import check as check_servers

    line, code = check_servers(options.pid, _limits(options))
    emit([line])
    return code


def metrics(options: argparse.Namespace) -> int:
    """Metrics for Prometheus, until a signal ends it."""
    from semtrace import exporting

    return exporting.metrics(options, _limits(options))


def record(options: argparse.Namespace) -> int:
    """Snapshots of a server into a file."""
    from semtrace.record.command import Order, record
    from semtrace.record.recorder import Wanted

    wanted = Wanted(options.interval, options.keep, options.also_events, not options.no_stacks, _limits(options))
    order = Order(options.out, wanted, options.pid, options.duration, options.max_size, options.all, options.reconnect)
    return record(order, say)


def export(options: argparse.Namespace) -> int:
    """A recording in another format."""
    from semtrace.export.command import export

    part = options.since, options.until
    say(export(options.file, options.to, options.out, part, _limits(options), say))
    return EXIT_OK


def diff(options: argparse.Namespace) -> int:
    """What changed between two recordings."""
    from semtrace.record.diffing import diff

    limits = _limits(options)
    lines, worse = diff(options.before, options.after, limits, options.threshold, as_json=options.json, tell=say)
    emit(lines)
    return EXIT_FINDINGS if worse else EXIT_OK


def _limits(options: argparse.Namespace) -> Limits:
    """Return what the command line and the user's file say about findings."""
    from semtrace.rules import USUAL, Limits
    from semtrace.settings import load

    long_s = getattr(options, "long", USUAL.hold_s)
    return Limits(long_s, long_s, frozenset((*load().ignore, *options.ignore)))


def _show(
    snapshot: Snapshot, options: argparse.Namespace, look_again: Callable[[], Snapshot], first: bool = False
) -> None:
    if options.stacks:
        from semtrace.stacks import confirmed, with_stacks

        snapshot = confirmed(with_stacks(snapshot), look_again())
    _print(snapshot, options, bool(options.watch), first)


def _print(snapshot: Snapshot, options: argparse.Namespace, several: bool, first: bool) -> None:
    if options.csv:
        from semtrace.reports.csvdump import csv_header, csv_rows

        emit([*([csv_header()] if first else []), *csv_rows(snapshot)], flush=True)
        return
    if options.json:
        import json

        from semtrace.reports.schema import snapshot_json

        # One line a snapshot when there are several, for whoever reads them as they come.
        emit_json(json.dumps(snapshot_json(snapshot), indent=None if several else 2))
        return
    from semtrace.reports.dump import report

    emit(report(snapshot, colour=wants_colour(), signals=options.all))
    if several and snapshot.alive:
        emit([""])


def _nothing_seen(snapshot: Snapshot) -> bool:
    """True if the kernel showed the inside of not one process."""
    return {p.process for p in snapshot.problems} >= {p.id for p in snapshot.processes} != set()


def _pause(seconds: float) -> None:
    import time

    time.sleep(seconds)


def _refuse_other_systems() -> None:
    if sys.platform != "linux":
        raise SemtraceError(
            f"semtrace reads /proc as Linux has it; this is {sys.platform}", "run it on the server's machine"
        )


_FUNCTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    function.__name__: function
    for function in (
        attach,
        run,
        serve,
        ps,
        dump,
        doctor,
        check,
        events,
        metrics,
        record,
        export,
        diff,
        release,
        clean,
        config,
        completion,
    )
}
_FUNCTIONS["open"] = open_recording
