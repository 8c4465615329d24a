"""The events of traced locks before a moment of a recording, as the live view has the last ones of a server."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from semtrace.model import SemId, Snapshot, TracedEvent
from semtrace.record.eventlog import Legend
from semtrace.record.groups import Frame
from semtrace.record.reader import Recording, time_of
from semtrace.record.tracedevents import events_of_chunks, legend_and_names, traced

# As many as the live view keeps, and for a timeline those of its whole time.
MOST = 500
MOST_OF_HISTORY = 5000
_REACH_S = 10.0
_FAR_S = 60.0
_CHUNKS = 8  # each has up to 4096 events


class Recent:
    """`learn` reads the legend of the whole recording, which may take long. Before that no event is found."""

    def __init__(self) -> None:
        self._legend: Legend | None = None
        self._names: dict[SemId, str] = {}

    def learn(self, recording: Recording) -> None:
        legend, names = legend_and_names(recording)
        self._names, self._legend = names, legend

    def filled(self, recording: Recording, frame: Frame, snapshot: Snapshot, most: int = MOST) -> Snapshot:
        """Return the snapshot with the events before it."""
        tracing = snapshot.tracing
        if tracing is None or self._legend is None or not snapshot.alive:
            return snapshot
        events = self._before(recording, frame, most, _REACH_S if most == MOST else _FAR_S)
        if len(events) < most // 10 and most == MOST:  # they are rare: look further back
            events = self._before(recording, frame, most, _FAR_S)
        now_s = frame.at_ns / 1e9
        rate = float(sum(now_s - 1.0 < event.t_s for event in events))
        return replace(snapshot, tracing=replace(tracing, recent=tuple(events), rate=max(rate, tracing.rate)))

    def _before(self, recording: Recording, frame: Frame, most: int, reach_s: float) -> list[TracedEvent]:
        assert self._legend is not None
        several = deque(recording.event_chunks(time_of(frame) - reach_s, frame.at_ns), _CHUNKS)
        found = [
            event
            for events in events_of_chunks(several, self._legend)
            for event in events
            if frame.at_ns - reach_s * 1e9 <= event.time_ns <= frame.at_ns
        ]
        found.sort(key=lambda event: event.time_ns)
        return [traced(event, self._legend, self._names) for event in found[-most:]]
