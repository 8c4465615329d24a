"""Read traced locks for a recorder: their state files for the snapshots, their events as bytes for the file."""

from __future__ import annotations

import time
from collections.abc import Collection

from semtrace.model import ProcessId
from semtrace.record.eventlog import Legend
from semtrace.tracing.drain import Drain
from semtrace.tracing.follower import TraceDirectories
from semtrace.tracing.polling import SCAN_EVERY_S
from semtrace.tracing.reporters import Mapped
from semtrace.tracing.state import State


class TraceCollector:
    """A `TraceSource` that polls state files, and keeps the bytes that come through its own pipes."""

    live = False

    def __init__(self) -> None:
        self.drain = Drain()
        self._directories = TraceDirectories(live=True)
        self._state = State()
        self._scanned: tuple[ProcessId, ...] = ()
        self._due_s = 0.0
        self._legend = Legend()

    def state(self, members: Collection[ProcessId], mapped: Mapped | None = None) -> State | None:
        if time.monotonic() >= self._due_s or tuple(members) != self._scanned:
            self._directories.scan(members, mapped)
            self.drain.follow(self._directories.pipes.values())
            self._scanned = tuple(members)
            self._due_s = time.monotonic() + SCAN_EVERY_S
        if not self._directories.directories:
            return None
        self._state = self._directories.with_files(self._state)
        return self._state

    def events(self) -> list[tuple[int, bytes]]:
        """Return what came since the last time, by the user who owns the pipe."""
        joined: dict[int, list[bytes]] = {}
        for pipe, data in self.drain.take():
            joined.setdefault(pipe.directory.uid, []).append(data)
        return [(user, b"".join(pieces)) for user, pieces in joined.items()]

    def legend(self) -> Legend:
        """Return what is new in the legend since the last time."""
        state = self._state
        now = Legend(
            {number: (site.file, site.line) for number, site in state.sites.items()},
            dict(state.names),
            self._directories.users,
            self._directories.trusted,
        )
        new = now.beyond(self._legend)
        self._legend = self._legend | new if new else self._legend
        return new

    def all_of_legend(self) -> Legend:
        return self._legend

    def close(self) -> None:
        self.drain.close()
        self._directories.close()
