"""`semtrace events PID|FILE`: every act of a server's traced locks as a line, as it happens or was recorded."""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from semtrace.commands.options import Parser, add_source, seconds
from semtrace.console.printing import emit, emit_ascii, wants_colour
from semtrace.console.signals import ending_on_signals
from semtrace.errors import EXIT_OK, NotPermitted, SemtraceError, UsageError
from semtrace.model import Death, DeathCause, ProcessId, SemId, Server, Snapshot, TracedEvent
from semtrace.observe.observer import Observer, settle
from semtrace.present.deaths import death_text
from semtrace.record.reader import Recording
from semtrace.record.tracedevents import traced_batches
from semtrace.reports.eventlines import Batch, json_lines, lost_json, painted, text_lines
from semtrace.reports.schema import death_json
from semtrace.servers import discovery
from semtrace.tracing.drain import Drain
from semtrace.tracing.events import Event
from semtrace.tracing.follower import TraceDirectories
from semtrace.tracing.lines import JsonLines
from semtrace.tracing.losses import Losses
from semtrace.tracing.reporters import Mapped
from semtrace.tracing.state import State
from semtrace.tracing.traced import traced_event
from semtrace.wire.statefile import Site

_SNAPSHOT_EVERY_S = 1.0
_UNDECIDED_S = 4.0  # so long after a death it may still become known how it was
_LEARN_EVERY_S = 0.05
_MOST_AT_ONCE = 1 << 20  # of bytes: more would be late, and a lot of memory once it is decoded
_GARBAGE = 200_000  # events are in no cycles: to look for some at each 700 objects took a third of the time

TO_TRACE = "start the server with: semtrace run -- gunicorn …   (or call semtrace.install() in it)"


def configure(command: Parser) -> None:
    command.explain(
        "Each act of the traced locks, one line each.",
        "semtrace events 4321  each act as it happens",
        "semtrace events --json --for 10 4321  ten seconds",
    )
    add_source(command)
    command.add_argument("--json", action="store_true", help="for programs: one object a line")
    command.add_argument("--for", dest="seconds", type=seconds, metavar="SECONDS", help="stop after this long")


def run(options: argparse.Namespace) -> int:
    """Return when the server or the time ends."""
    if isinstance(options.pid, Path):
        return _recorded(options)
    with ending_on_signals():
        server = discovery.choose(options.pid)
        if options.json:
            emit_ascii(json_blocks(server, for_s=options.seconds))
        else:
            emit(lines(server, for_s=options.seconds, colour=wants_colour()), flush=True)
    return EXIT_OK


def _recorded(options: argparse.Namespace) -> int:
    if options.at is not None:
        raise UsageError("events has no --at", "give --from and --to")
    recording = Recording(options.pid)
    try:
        found = _some(traced_batches(recording, options.since, options.until))
        # What the wall clock of the machine showed when its CLOCK_MONOTONIC was 0.
        offset_s = recording.head.began_at - recording.head.began_ns / 1e9
        emit(json_lines(found) if options.json else text_lines(found, wants_colour(), offset_s))
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


class Tail:
    """One server's events, with the names and lines that they are about. They are taken out of the pipes by a thread
    that does nothing else, whatever decoding and printing take.
    """

    def __init__(self, server: Server, for_s: float | None = None) -> None:
        self._members = _Members()
        self._observer = Observer(server, trace_source=self._members)
        self._directories = TraceDirectories(live=True)
        self._drain = Drain()
        self._state = State()
        self._losses = Losses()
        self._names: dict[SemId, str] = {}
        self._dead: dict[ProcessId, Death | None] = {}  # None: it was reported
        self._snapshot_s = 0.0
        self._learned_s = 0.0
        self._for_s = float("inf") if for_s is None else for_s
        self._ending = False
        self.version = 0
        try:
            self._begin(server)
        except BaseException:
            self.close()
            raise

    def _begin(self, server: Server) -> None:
        """Read the names first: events that come meanwhile would not fit the pipe."""
        self._take(settle(self._observer))
        if not self._directories.directories:
            raise SemtraceError(f"no lock of {server.title} (PID {server.pid}) is traced", TO_TRACE)
        if not self._directories.pipes:
            raise NotPermitted(
                "the directory of the traced server does not let us make a pipe", "run semtrace as its user"
            )

    def close(self) -> None:
        self._observer.close()
        self._drain.close()
        self._directories.close()

    @property
    def sites(self) -> Mapping[int, Site]:
        return self._state.sites

    @property
    def names(self) -> Mapping[SemId, str]:
        return {**self._state.names, **self._names}

    def batches(self) -> Iterator[tuple[list[Event], dict[ProcessId, int]]]:
        """Yield events in the order of their times within a batch, and how many of each process were lost since the
        last one. Ends with the server, or when the time is over, which begins now, with all that came until then.
        """
        end_s = time.monotonic() + self._for_s
        while self.alive and (left := end_s - time.monotonic()) > 0:
            self._drain.wait(min(left, 0.25))
            yield self._next()
        self._ending = True
        self._drain.follow(())
        while self._drain.waiting:
            yield self._next()
        if self._directories.waits:  # events that only one more snapshot can judge
            self._take(self._observer.snapshot())
        yield self._noted(self._directories.events())  # what came since the thread has read last

    def died(self) -> list[Death]:
        """Return the deaths that have become known since the last time, each once and with its cause if it has one."""
        known, self._dead = self._dead, dict.fromkeys(self._dead)
        return [death for death in known.values() if death is not None]

    def traced(self, event: Event) -> TracedEvent:
        return traced_event(event, self._state, self._names)

    def _next(self) -> tuple[list[Event], dict[ProcessId, int]]:
        events = self._directories.decoded(self._drain.take(_MOST_AT_ONCE))
        if time.monotonic() - self._snapshot_s >= _SNAPSHOT_EVERY_S or self._directories.waits:
            self._take(self._observer.snapshot())
        elif self._is_new(events):
            self._learn()
        return self._noted(events)

    def _noted(self, events: list[Event]) -> tuple[list[Event], dict[ProcessId, int]]:
        events.sort(key=_time_of)
        reported = {process: stream.reported_lost for process, stream in self._state.streams.items()}
        return events, self._losses.note(events, reported)

    def _take(self, snapshot: Snapshot) -> None:
        self.alive = snapshot.alive
        for death in snapshot.deaths:
            if death.id not in self._dead and (death.cause is not DeathCause.UNKNOWN or death.ended_s > _UNDECIDED_S):
                self._dead[death.id] = death
        names = {lock.id: lock.name for lock in snapshot.locks if lock.name}
        self.version += names != self._names
        self._names = names
        self._directories.scan(self._members.known, self._members.mapped)
        if not self._ending:
            self._drain.follow(self._directories.pipes.values())
        self._snapshot_s = time.monotonic()
        self._learn()

    def _learn(self) -> None:
        """Read the files, so seldom that they cost little; meanwhile events stay in memory. `version` counts how often
        names or lines have changed.
        """
        if self._learned_s + _LEARN_EVERY_S > time.monotonic():
            time.sleep(self._learned_s + _LEARN_EVERY_S - time.monotonic())
        before = self._state
        self._state = self._directories.with_files(before)
        self.version += (before.sites, before.names) != (self._state.sites, self._state.names)
        self._learned_s = time.monotonic()

    def _is_new(self, events: Iterable[Event]) -> bool:
        """Return True if an event is about a line or a process that we have not read of yet."""
        sites, files = self._state.sites, self._state.files
        seen = {(event[0], event[1] & 0xFFFFFFFF) for event in events}
        return any((site and site not in sites) or origin.process not in files for origin, site in seen)


class _Members:
    """Learn from the observer which processes the server has."""

    live = True

    def __init__(self) -> None:
        self.known: tuple[ProcessId, ...] = ()
        self.mapped: Mapped | None = None

    def state(self, members: Collection[ProcessId], mapped: Mapped | None = None) -> None:
        self.known, self.mapped = tuple(members), mapped

    def close(self) -> None:
        pass


def lines(server: Server, *, for_s: float | None, colour: bool) -> Iterator[str]:
    """Yield the lines for people."""
    with closing(Tail(server, for_s)) as tail:
        for events, lost in tail.batches():
            yield from text_lines([([tail.traced(event) for event in events], lost)], colour)
            for death in tail.died():
                how = death_text(death.cause, death.exit_code, death.silent_s)
                line = f"{death.role} {death.pid} {how}"
                yield painted(line, "lost") if colour else line


def json_blocks(server: Server, *, for_s: float | None) -> Iterator[str]:
    """Yield the lines for programs, many at once, each with its end."""
    gc.set_threshold(_GARBAGE)
    made, version = JsonLines(), -1
    with closing(Tail(server, for_s)) as tail:
        for events, lost in tail.batches():
            if tail.version != version:
                made.forget()
                made.sites, made.names, version = tail.sites, tail.names, tail.version
            block = made.text(events)
            more = [lost_json(process, count) for process, count in lost.items()]
            more += [{"event": "died", **death_json(death)} for death in tail.died()]
            yield block + "".join(f"{json.dumps(each)}\n" for each in more)


def _time_of(event: Event) -> int:
    return event[3]
