"""`dump`, `doctor` and `events` on a recording in the place of a server."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from semtrace.errors import EXIT_OK, SemtraceError, UsageError
from semtrace.model import Snapshot
from semtrace.printing import emit, say, wants_colour
from semtrace.record.reader import Recording
from semtrace.record.replay import Replay, values_that_no_server_has
from semtrace.record.tracedevents import Batch, traced_batches
from semtrace.rules import Limits
from semtrace.tailing import json_lines, text_lines

Print = Callable[[Snapshot, argparse.Namespace, bool], None]
Tell = Callable[[Snapshot, int, argparse.Namespace], int]


def dump(options: argparse.Namespace, limits: Limits, show: Print) -> int:
    """Show the snapshot of `--at`, by default the last; with `--from` or `--to` each one of that time."""
    _only_one_time(options)
    with Replay(options.pid, limits, say) as replay, values_that_no_server_has(options.pid):
        if options.since is None and options.until is None:
            show(replay.at(options.at), options, False)
            return EXIT_OK
        next_s = float("-inf")
        for snapshot in replay.between(options.since, options.until):
            if snapshot.taken_at >= next_s:
                show(snapshot, options, True)
                next_s = snapshot.taken_at + (options.watch or 0.0)
    return EXIT_OK


def doctor(options: argparse.Namespace, limits: Limits, tell: Tell) -> int:
    """Say what was wrong: in the whole recording, in a part of it, or in one snapshot."""
    _only_one_time(options)
    with Replay(options.pid, limits, say) as replay, values_that_no_server_has(options.pid):
        if options.at is not None:
            return tell(replay.at(options.at), 1, options)
        return tell(*replay.examined(options.since, options.until), options)


def events(options: argparse.Namespace) -> int:
    """Print the recorded events, as `events PID` does."""
    if options.at is not None:
        raise UsageError("events has no --at", "give --from and --to")
    recording = Recording(options.pid)
    try:
        found = _some(traced_batches(recording, options.since, options.until))
        emit(json_lines(found) if options.json else text_lines(found, wants_colour(), *_offset(recording)))
    finally:
        recording.close()
    return EXIT_OK


def _some(found: Iterator[Batch]) -> Iterator[Batch]:
    first = next(found, None)
    if first is None:
        raise SemtraceError(
            "the recording has no events of that time", "record them with: semtrace record --also-events"
        )
    yield first
    yield from found


def _offset(recording: Recording) -> tuple[float]:
    """Return what the wall clock of the machine showed when its CLOCK_MONOTONIC was 0."""
    return (recording.head.began_at - recording.head.began_ns / 1e9,)


def _only_one_time(options: argparse.Namespace) -> None:
    if options.at is not None and (options.since is not None or options.until is not None):
        raise UsageError("--at does not go with --from and --to", "give one of them")
