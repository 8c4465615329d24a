"""How many records never came, by the numbers of those that did. Pure."""

from __future__ import annotations

from semtrace.model import ProcessId
from semtrace.tracing.events import Event
from semtrace.tracing.sequence import Stream


class Losses:
    """Counts the records of each process that never came, by their numbers."""

    def __init__(self) -> None:
        self._streams: dict[ProcessId, Stream] = {}
        self._told: dict[ProcessId, int] = {}

    def note(self, events: list[Event]) -> dict[ProcessId, int]:
        """Return how many were found to be lost with these."""
        for event in events:
            stream = self._streams.get(event.origin.process)
            if stream is None:
                stream = self._streams[event.origin.process] = Stream()
            if event.sequence == stream.next and not stream.missing:
                stream.next += 1
            else:
                stream.surprise(event.sequence)
        now = {process: stream.skipped for process, stream in self._streams.items() if stream.skipped}
        new = {process: lost - self._told.get(process, 0) for process, lost in now.items()}
        self._told = now
        return {process: lost for process, lost in new.items() if lost > 0}
