"""Gather what the bar of a recording shows: waiters, findings and deaths over its whole time."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import suppress
from pathlib import Path

from semtrace.errors import SemtraceError
from semtrace.model import Severity
from semtrace.record.groups import Frame
from semtrace.record.reader import time_of
from semtrace.record.replay import Replay, values_that_no_server_has
from semtrace.rules import Limits
from semtrace.timelines.overview import Cell, Seen, cells

# Of a longer recording single snapshots are looked at, so many: one for each cell of a wide terminal.
MOST_FRAMES = 3000
_SAMPLES = 400
_LEAST_REACH_S = 2.0


class Overview:
    """`gather` reads the recording through a descriptor of its own, so that another thread may do it; `cells` gives
    what there is so far.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._seen: list[Seen] = []
        self._deaths: dict[Hashable, float] = {}
        self._span = (0.0, 0.0)
        self._reach_s = _LEAST_REACH_S

    def gather(self) -> None:
        """Read all there is. A snapshot that contradicts itself ends it: a user who goes there gets the error."""
        path = self._path
        with suppress(SemtraceError), Replay(path, self._limits) as replay, values_that_no_server_has(path):
            self._span = replay.recording.span()
            for frame in self._frames(replay):
                self._add(replay, frame)

    def cells(self, count: int) -> list[Cell]:
        return cells(tuple(self._seen), tuple(self._deaths.values()), self._span, count, self._reach_s)

    def _frames(self, replay: Replay) -> Iterator[Frame]:
        recording, (began, ended) = replay.recording, self._span
        interval_s = max(recording.head.interval_s, 0.01)
        self._reach_s = max(_LEAST_REACH_S, 3 * interval_s)
        if (ended - began) / interval_s <= MOST_FRAMES:
            yield from recording.frames()
            return
        step_s = (ended - began) / _SAMPLES
        self._reach_s = max(self._reach_s, 2 * step_s)
        before = -1.0
        for number in range(_SAMPLES + 1):
            frame = recording.near(began + number * step_s)
            if frame is not None and time_of(frame) > before:
                before = time_of(frame)
                yield frame
        yield recording.at(ended)

    def _add(self, replay: Replay, frame: Frame) -> None:
        snapshot, at = replay.judged(frame), time_of(frame)
        bad: set[tuple[Severity, Hashable]] = {
            (each.severity, each.key) for each in snapshot.findings if each.severity != "note"
        }
        waiters = sum(len(lock.waiters) for lock in snapshot.locks if not lock.signal)
        if not self._seen or at > self._seen[-1].at:
            self._seen.append(Seen(at, waiters, frozenset(bad)))
        for death in snapshot.deaths:
            self._deaths.setdefault(death.id, at - death.ended_s)
