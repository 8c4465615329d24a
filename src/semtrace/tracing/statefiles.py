"""Reads the state files of a server's traced processes, living and dead: needs no right over any process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from semtrace import wire
from semtrace.linux.process import still
from semtrace.model import ProcessId
from semtrace.tracing.state import Files
from semtrace.tracing.tracedirs import Directory
from semtrace.wire import StateFile

_ATTEMPTS = 4


class StateFiles:
    """Remembers what it read: a file that did not change, as an idle worker's, is not decoded again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bytes, StateFile]] = {}

    def read(self, directories: Iterable[Directory]) -> Files:
        at_ns = time.monotonic_ns()
        found: dict[ProcessId, StateFile] = {}
        known: dict[str, tuple[bytes, StateFile]] = {}
        for directory in directories:
            for name in directory.names():
                process = wire.parse_state_name(name)
                if process is None or (read := self._read(directory, name)) is None or read[1].process != process:
                    continue
                known[name] = read
                # A process that changed its user has a file in each of two directories: the later one counts.
                if process not in found or found[process].since_ns < read[1].since_ns:
                    found[process] = read[1]
        self._known = known
        return Files(at_ns, tuple(found.values()), frozenset(filter(still, found)))

    def _read(self, directory: Directory, name: str) -> tuple[bytes, StateFile] | None:
        fd = directory.open_file(name, os.O_RDONLY, wire.STATE_SIZE)
        if fd is None:
            return None
        try:
            return self._decode(fd, self._known.get(name))
        finally:
            os.close(fd)

    @staticmethod
    def _decode(fd: int, known: tuple[bytes, StateFile] | None) -> tuple[bytes, StateFile] | None:
        """Reads until two readings in a row show the same holds; a busy one is taken as it is, its moving holds marked
        so.
        """
        data = os.pread(fd, wire.STATE_SIZE, 0)
        if known is not None and known[0] == data:
            return known
        state = None
        for _ in range(_ATTEMPTS):
            again = os.pread(fd, wire.STATE_SIZE, 0)
            state = wire.decode_state(data, again)
            data = again
            if state is None or all(book.steady for book in state.locks):
                break
        return None if state is None else (data, state)
