"""The events of a recording, with the names and lines that they are about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from semtrace.model import ProcessId, SemId, TracedEvent
from semtrace.record.chunks import Chunk, ChunkKind, NoZstd
from semtrace.record.eventlog import Legend, events_of, legend_of
from semtrace.record.head import NotARecording
from semtrace.record.moments import Moment
from semtrace.record.numbers import Damaged
from semtrace.record.reader import Recording
from semtrace.tracing.events import Decoder, Event
from semtrace.tracing.losses import Losses
from semtrace.tracing.traced import ACTS
from semtrace.wire.event import EventType

Batch = tuple[list[TracedEvent], dict[ProcessId, int]]


def traced_batches(recording: Recording, since: Moment | None = None, until: Moment | None = None) -> Iterator[Batch]:
    """Yield the events of that time, in the order of their times within a batch, and how many of each process were lost
    since the batch before. The legend is read first: a line may be recorded after its first event.
    """
    offset = recording.head.began_at - recording.head.began_ns / 1e9
    begin, end = (None if each is None else recording.resolve(each) - offset for each in (since, until))
    legend, names = legend_and_names(recording)
    losses = Losses()
    for events in raw_events(recording, legend):
        lost = losses.note(events)
        chosen = [event for event in events if _is_within(event.time_ns / 1e9, begin, end)]
        if chosen or lost:
            chosen.sort(key=lambda event: event.time_ns)
            yield [traced(event, legend, names) for event in chosen], lost


def legend_and_names(recording: Recording) -> tuple[Legend, dict[SemId, str]]:
    """Return the whole legend, and what the locks are called: as the last snapshot has it, else as they say."""
    legend = Legend()
    for chunk in recording.chunks():
        if chunk.kind == ChunkKind.LEGEND:
            with suppress(Damaged):
                legend |= legend_of(chunk)
    names = dict(legend.locks)
    for frame in recording.frames(recording.span()[1]):
        names |= {lock.id: lock.name for lock in frame.snapshot.locks if lock.name}
    return legend, names


def raw_events(recording: Recording, legend: Legend) -> Iterator[list[Event]]:
    """Yield the records of each chunk that those who sent them may tell. Raises NotARecording without zstd."""
    return events_of_chunks(recording.chunks(), legend)


def events_of_chunks(chunks: Iterable[Chunk], legend: Legend) -> Iterator[list[Event]]:
    """Yield the records of those chunks that hold events, as `raw_events` does."""
    decoders: dict[int, Decoder] = {}
    for chunk in chunks:
        if chunk.kind != ChunkKind.EVENTS:
            continue
        try:
            user, data = events_of(chunk)
        except Damaged:
            continue
        except NoZstd:
            raise NotARecording(
                "its events are compressed with zstd, which this Python does not have",
                "use Python 3.14, or: pip install backports.zstd",
            ) from None
        events = decoders.setdefault(user, Decoder()).decode(data)
        may = {origin: legend.may_report_process(user, origin.process) for origin in {event.origin for event in events}}
        yield [event for event in events if may[event.origin]] if not all(may.values()) else events


def traced(event: Event, legend: Legend, names: Mapping[SemId, str]) -> TracedEvent:
    origin, measured = event.origin, event.measured_ns
    seconds = None if measured is None else measured / 1e9
    site = legend.sites.get(event.site)
    return TracedEvent(
        t_s=event.time_ns / 1e9,
        process=origin.process,
        tid=event.tid,
        event=ACTS[origin.type],
        lock=origin.lock,
        name=names.get(origin.lock) if origin.lock else None,
        wait_s=seconds if origin.type in (EventType.ACQUIRED, EventType.FAILED) else None,
        held_s=seconds if origin.type is EventType.RELEASED else None,
        site=f"{site[0]}:{site[1]}" if site else None,
        sequence=event.sequence,
    )


def _is_within(time_s: float, begin: float | None, end: float | None) -> bool:
    return (begin is None or time_s >= begin) and (end is None or time_s <= end)
