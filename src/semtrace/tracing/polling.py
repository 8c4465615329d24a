"""The state of one server's traced locks from its state files alone. Where nothing is traced, as for most probes, the
rest of `tracing` is not loaded.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from semtrace.model import ProcessId
from semtrace.tracing import tracedirs

if TYPE_CHECKING:
    from semtrace.tracing.follower import TraceDirectories
    from semtrace.tracing.reporters import Mapped
    from semtrace.tracing.state import State

# How often to look for directories, and to read the files in addition to the events.
SCAN_EVERY_S = 1.0


class TraceSource(Protocol):
    """A source of the state of these processes' traced locks for an Observer; None if they have none."""

    live: bool

    def state(self, members: Collection[ProcessId], mapped: Mapped | None = None) -> State | None: ...

    def close(self) -> None: ...


class StateFilePoller:
    """Poller of the state files alone, read for each snapshot. It creates and changes nothing."""

    live = False

    def __init__(self) -> None:
        self._directories: TraceDirectories | None = None
        self._state: State | None = None
        self._scanned: tuple[ProcessId, ...] = ()
        self._due_s = 0.0

    def state(self, members: Collection[ProcessId], mapped: Mapped | None = None) -> State | None:
        if time.monotonic() >= self._due_s or tuple(members) != self._scanned:
            self._scan(members, mapped)
            self._scanned = tuple(members)
            self._due_s = time.monotonic() + SCAN_EVERY_S
        if self._directories is None or not self._directories.directories:
            return None
        self._state = self._directories.with_files(self._state)
        return self._state

    def _scan(self, members: Collection[ProcessId], mapped: Mapped | None) -> None:
        if self._directories is None and tracedirs.exist():
            from semtrace.tracing.follower import TraceDirectories

            self._directories = TraceDirectories(live=False)
        if self._directories is not None:
            self._directories.scan(members, mapped)

    def close(self) -> None:
        if self._directories is not None:
            self._directories.close()
