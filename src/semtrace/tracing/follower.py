"""The state of one server's traced locks, kept up to date from the state files alone or event by event."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection, Iterable

from semtrace.console.signals import undisturbed
from semtrace.lazydata import replace
from semtrace.model import ProcessId
from semtrace.tracing import tracedirs
from semtrace.tracing.admission import Admission
from semtrace.tracing.events import Event
from semtrace.tracing.polling import SCAN_EVERY_S
from semtrace.tracing.reader import EventPipe, this_viewer, wait_for_events
from semtrace.tracing.reporters import Mapped, Reporters
from semtrace.tracing.state import Refused, State, fold
from semtrace.tracing.statefiles import StateFiles
from semtrace.tracing.tracedirs import Directory

# Events are taken in batches: each batch costs something, and nobody sees a fiftieth of a second.
_BATCH_S = 0.02
_SCAN_SOON_S = 0.1  # for events that only a scan can judge
_MANY = 4000  # a quarter of what a pipe takes: then a pause would lose events
_PATIENCE_S = 0.25

_FIRST_S = 1.0
_CATCH_UP_S = 0.05


class TraceDirectories:
    """The directories of a server as they come and go, with a pipe in each if events are wanted."""

    def __init__(self, live: bool) -> None:
        self.live = live
        self.directories: dict[tuple[int, int], Directory] = {}
        self.pipes: dict[tuple[int, int], EventPipe] = {}
        self._reporters = Reporters()
        self._files = StateFiles(self._reporters)
        self._admission = Admission(self._reporters)
        self._viewer = this_viewer()
        self._users: dict[ProcessId, int] = {}

    @property
    def waits(self) -> bool:
        """Return True while some events cannot be judged before the next scan."""
        return self._admission.waits

    @property
    def users(self) -> dict[ProcessId, int]:
        """Return who owns the state file of each process."""
        return self._users

    @property
    def trusted(self) -> frozenset[int]:
        """Return the users who may report every process and lock."""
        return self._reporters.trusted

    def scan(self, members: Collection[ProcessId], mapped: Mapped | None = None) -> None:
        """Open new directories and close vanished ones. A server keeps its directories when all its processes have
        ended.
        """
        if not self.directories and not tracedirs.exist():
            return
        self._reporters.update(members, mapped)
        for key in [key for key, directory in self.directories.items() if directory.gone]:
            self._drop(key)
        for directory in tracedirs.find(members, self._reporters.users):
            if directory.key in self.directories:
                directory.close()
                continue
            self.directories[directory.key] = directory
            if self.live:
                # From here on `close` removes the pipe, whatever ends us. OSError: we may only read in this directory.
                with undisturbed(), contextlib.suppress(OSError):
                    self.pipes[directory.key] = EventPipe(directory)

    def events(self) -> list[Event]:
        found: dict[int, list[Event]] = {}
        for pipe in self.pipes.values():
            found.setdefault(pipe.directory.uid, []).extend(pipe.read())
        return self._admission.admit(found, time.monotonic_ns())

    def decoded(self, pieces: Iterable[tuple[EventPipe, bytes]]) -> list[Event]:
        """Return the events that count in data that another reader took from the pipes."""
        found: dict[int, list[Event]] = {}
        for pipe, data in pieces:
            found.setdefault(pipe.directory.uid, []).extend(pipe.decode(data))
        return self._admission.admit(found, time.monotonic_ns())

    def with_files(self, state: State | None) -> State:
        """Return the state, None at the beginning, updated from the files."""
        files = self._files.read(self.directories.values())
        self._users = dict(files.users)
        self._admission.update(files)
        return replace(
            fold(state or State(), files, self._viewer), refused=Refused(self._admission.refused, files.refused)
        )

    def close(self) -> None:
        for key in list(self.directories):
            self._drop(key)

    def _drop(self, key: tuple[int, int]) -> None:
        pipe = self.pipes.pop(key, None)
        if pipe is not None:
            pipe.close()
        directory = self.directories.pop(key)
        if pipe is not None:
            directory.remove_if_left()
        directory.close()


class Follower:
    """Reader of events in its own thread, from the first snapshot on. Only that thread touches the files."""

    live = True

    def __init__(self) -> None:
        self._members: tuple[ProcessId, ...] = ()
        self._mapped: Mapped | None = None
        self._state: State | None = None
        self._stopped = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._caught_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="semtrace-events", daemon=True)

    def state(self, members: Collection[ProcessId], mapped: Mapped | None = None) -> State | None:
        """Return the state with all events until now, or an older one if the thread does not catch up in time."""
        self._members, self._mapped = tuple(members), mapped
        begins = self._thread.ident is None
        self._caught_up.clear()
        if begins:
            self._thread.start()
        elif self._state is not None:
            os.eventfd_write(self._wake, 1)
        if begins or self._state is not None:
            self._caught_up.wait(_FIRST_S if begins else _CATCH_UP_S)
        return self._state

    def close(self) -> None:
        """Stop the thread and remove the pipes, unless the thread hangs."""
        if self._stopped:
            return
        self._stopped = True
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is not None:
            self._thread.join(2.0)
        if not self._thread.is_alive():
            os.close(self._wake)

    def _run(self) -> None:
        directories = TraceDirectories(live=True)
        try:
            self._follow(directories)
        finally:
            directories.close()
            self._caught_up.set()

    def _follow(self, directories: TraceDirectories) -> None:
        state, due_s, scanned_s = State(), 0.0, 0.0
        scanned: tuple[ProcessId, ...] = ()
        while not self._stopped:
            soon = directories.waits or scanned != self._members
            if time.monotonic() >= (scanned_s + _SCAN_SOON_S if soon else due_s):
                scanned = self._members
                directories.scan(scanned, self._mapped)
                state = directories.with_files(state)
                scanned_s = time.monotonic()
                due_s = scanned_s + SCAN_EVERY_S
            events = directories.events()
            state = fold(state, events)
            self._state = state if directories.directories else None
            self._caught_up.set()
            if not events:
                self._pause(directories.pipes.values(), min(_PATIENCE_S, due_s - time.monotonic()))
            elif len(events) < _MANY:
                self._pause((), _BATCH_S)

    def _pause(self, pipes: Iterable[EventPipe], seconds: float) -> None:
        wait_for_events(pipes, seconds, self._wake)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
