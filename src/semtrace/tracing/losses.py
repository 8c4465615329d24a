"""Count the records that never came, by the sequence numbers of those that did. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from semtrace.model import ProcessId
from semtrace.tracing.events import Event
from semtrace.tracing.sequence import Stream


class Losses:
    """Counts the records of each process that never came, by their numbers."""

    def __init__(self) -> None:
        self._streams: dict[ProcessId, Stream] = {}
        self._reported: dict[ProcessId, int] = {}

    def note(self, events: Iterable[Event], known: Mapping[ProcessId, int] | None = None) -> dict[ProcessId, int]:
        """Return how many were found to be lost with these. `known` is what the state files say: they know at once what
        did not fit, the numbers show as well what never came for other reasons.
        """
        streams = self._streams
        for origin, _, sequence, _, _ in events:
            stream = streams.get(origin.process)
            if stream is None:
                stream = streams[origin.process] = Stream()
            if sequence == stream.next:
                stream.next = sequence + 1
            else:
                stream.surprise(sequence)
        now = dict(known or {})
        for process, stream in streams.items():
            stream.settle()
            now[process] = max(stream.skipped, now.get(process, 0))
        new = {process: lost - self._reported.get(process, 0) for process, lost in now.items()}
        self._reported.update(now)
        return {process: lost for process, lost in new.items() if lost > 0}
