"""How processes ended that are not our children: by a descriptor that was opened while they lived (Linux 6.15)."""

from __future__ import annotations

import os
from collections.abc import Iterable

from semtrace.linux.pidfd import exit_code_of, open_pidfd
from semtrace.linux.process import read_stat
from semtrace.linux.stopped import exit_code
from semtrace.model import ProcessId


class Endings:
    """Keeps a descriptor of each process, at most `most`. Not for several threads at once."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._open: dict[ProcessId, int] = {}

    def follow(self, processes: Iterable[ProcessId]) -> None:
        """Open a descriptor of each process that is new, and close those of others than these."""
        wanted = set(processes)
        for process in self._open.keys() - wanted:
            os.close(self._open.pop(process))
        for process in wanted:
            if process in self._open or len(self._open) >= self._most:
                continue
            try:
                descriptor = open_pidfd(process.pid)
            except OSError:
                continue
            stat = read_stat(process.pid)
            if stat is None or stat.id != process:  # its number is another's by now
                os.close(descriptor)
                continue
            self._open[process] = descriptor

    def exit_code(self, process: ProcessId) -> int | None:
        """Return how it ended, as subprocess does: negative for a signal. None where the kernel does not show it. Its
        descriptor is closed.
        """
        descriptor = self._open.pop(process, None)
        unreaped = _unreaped(process)
        if descriptor is None:
            return unreaped
        try:
            return exit_code_of(descriptor) if unreaped is None else unreaped
        finally:
            os.close(descriptor)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


def _unreaped(process: ProcessId) -> int | None:
    """Return the exit code of one that its parent has not reaped yet."""
    stat = read_stat(process.pid)
    return exit_code(process.pid) if stat is not None and stat.id == process and stat.ended else None
