"""`semtrace dump PID|FILE`: one snapshot as text, JSON or CSV, or one every so often."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

from semtrace.commands.options import Parser, add_ignore, add_source, limits, only_one_time, seconds
from semtrace.console.printing import emit, emit_json, say, wants_colour, working
from semtrace.errors import EXIT_NOT_PERMITTED, EXIT_OK
from semtrace.model import Snapshot
from semtrace.rules.coverage import nothing_seen


def configure(command: Parser) -> None:
    command.explain(
        "One snapshot, as text, JSON or CSV.",
        "semtrace dump 4321  who holds and who waits, now",
        "semtrace dump --stacks 4321  also at which line",
        "semtrace dump --json --watch 1 4321  one object a second, for programs",
    )
    add_source(command)
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs: docs/json.md has the schema")
    form.add_argument("--csv", action="store_true", help="for a spreadsheet: one row for each lock")
    command.add_argument(
        "--all", action="store_true", help="also signals inside Condition, Event, Queue; libraries' threading locks"
    )
    command.add_argument("--stacks", action="store_true", help="also where holders and waiters are, by py-spy")
    command.add_argument("--watch", type=seconds, metavar="SECONDS", help="repeat, until the server ends")
    add_ignore(command)


def run(options: argparse.Namespace) -> int:
    if isinstance(options.pid, Path):
        return _recorded(options)
    from semtrace.observe.observer import LONG_SEARCH_BUDGET_S, Observer, settle
    from semtrace.servers import discovery

    observer = Observer(
        discovery.choose(options.pid),
        search_budget_s=LONG_SEARCH_BUDGET_S,
        all_thread_locks=options.all,
        limits=limits(options),
    )
    try:
        with working(f"reading the server of PID {observer.server.pid}"):
            snapshot = settle(observer)
        _show(snapshot, options, observer.snapshot, first=True)
        while options.watch and snapshot.alive:
            time.sleep(options.watch)
            snapshot = observer.snapshot()
            _show(snapshot, options, observer.snapshot)
    finally:
        observer.close()
    return EXIT_NOT_PERMITTED if nothing_seen(snapshot) else EXIT_OK


def _recorded(options: argparse.Namespace) -> int:
    """Show the snapshot of `--at`, by default the last; with `--from` or `--to` each one of that time."""
    from semtrace.record.replay import Replay, values_that_no_server_has

    only_one_time(options)
    with Replay(options.pid, limits(options), say) as replay, values_that_no_server_has(options.pid):
        if options.since is None and options.until is None:
            _print(replay.at(options.at), options, several=False, first=True)
            return EXIT_OK
        next_s = float("-inf")
        first = chain([True], repeat(False))
        for snapshot in replay.between(options.since, options.until):
            if snapshot.taken_at >= next_s:
                _print(snapshot, options, several=True, first=next(first))
                next_s = snapshot.taken_at + (options.watch or 0.0)
    return EXIT_OK


def _show(
    snapshot: Snapshot, options: argparse.Namespace, look_again: Callable[[], Snapshot], first: bool = False
) -> None:
    if options.stacks:
        from semtrace.observe.pyspy import confirmed, with_stacks

        snapshot = confirmed(with_stacks(snapshot), look_again())
    _print(snapshot, options, bool(options.watch), first)


def _print(snapshot: Snapshot, options: argparse.Namespace, several: bool, first: bool) -> None:
    if options.csv:
        from semtrace.reports.csvdump import csv_header, csv_rows

        emit([*([csv_header()] if first else []), *csv_rows(snapshot)], flush=True)
        return
    if options.json:
        from semtrace.reports.schema import snapshot_json

        # One line for each snapshot when there are several, for programs that read them as they come.
        emit_json(json.dumps(snapshot_json(snapshot), indent=None if several else 2))
        return
    from semtrace.reports.dump import report

    emit(report(snapshot, colour=wants_colour(), signals=options.all))
    if several and snapshot.alive:
        emit([""])
