"""Plays a recording as a source of snapshots: forwards at some speed, by steps, or to a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from pathlib import Path

from semtrace.errors import SemtraceError, UsageError
from semtrace.model import Snapshot
from semtrace.present.deaths import certificate
from semtrace.present.titles import title
from semtrace.record.groups import Frame
from semtrace.record.moments import Moment, parse_moment
from semtrace.record.overview import Overview
from semtrace.record.reader import time_of
from semtrace.record.recent import MOST_OF_HISTORY, Recent
from semtrace.record.replay import Replay, values_that_no_server_has
from semtrace.rules import Limits
from semtrace.text import age
from semtrace.timelines.overview import Cell

SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
# What lies before a moment that was jumped to, for the timeline.
HISTORY_S = 60.0
# Frames around the moment that are kept decoded.
_AHEAD_S = 10.0
_EPSILON_S = 1e-4


class Player:
    """The position in a recording that is shown. For two threads: one reads pictures, the other obeys keys.

    `snapshot` gives the picture of now; `position` is in seconds since the epoch. `prepare` reads the whole recording
    for what `cells` and the events need, in a thread of its own.
    """

    def __init__(
        self, path: Path, limits: Limits, moment: Moment | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._replay = Replay(path, limits)
        self._lock = threading.RLock()
        self._now = now
        self._path = path
        self._limits = limits
        with values_that_no_server_has(path):
            self.began, self.ended = self._replay.recording.span()
            self.position = self.began if moment is None else self._within(self._replay.recording.resolve(moment))
        self.playing = False
        self.speed = SPEEDS[0]
        self._moved_s = now()
        self._window: list[Frame] = []
        self._window_to = 0.0
        self._shown: tuple[Frame, Snapshot] | None = None
        self._overview = Overview(path, limits)
        self._recent = Recent()

    def prepare(self) -> None:
        """Read the whole recording. Unreadable parts are missing then, and a user who goes there gets the error."""
        with suppress(SemtraceError), Replay(self._path, Limits()) as replay, values_that_no_server_has(self._path):
            self._recent.learn(replay.recording)
            with self._lock:
                self._shown = None
        self._overview.gather()

    def close(self) -> None:
        with self._lock:
            self._replay.recording.close()

    def snapshot(self) -> Snapshot:
        """Return the picture of this moment, moving on if it plays."""
        with self._lock, values_that_no_server_has(self._path):
            self._move()
            frame = self._frame_at(self.position)
            if self._shown is None or self._shown[0] is not frame:
                judged = self._replay.judged(frame)
                self._shown = frame, self._recent.filled(self._replay.recording, frame, judged)
            return self._shown[1]

    def history(self) -> list[Snapshot]:
        """Return the pictures before this moment, the oldest first, without findings: a timeline does not need them."""
        with self._lock, values_that_no_server_has(self._path):
            recording = self._replay.recording
            found = list(recording.frames(self.position - HISTORY_S, self.position))
            last = [self._recent.filled(recording, each, each.snapshot, MOST_OF_HISTORY) for each in found[-1:]]
            return [*(frame.snapshot for frame in found[:-1]), *last]

    def words(self) -> str:
        """Return where it is, in a few words."""
        passed, whole = age(self.position - self.began), age(self.ended - self.began)
        speed = "" if self.speed == 1 else f" ×{self.speed:g}"
        damaged = ", damaged" if self._replay.recording.lost else ""
        return f"{time.strftime('%H:%M:%S', time.localtime(self.position))} +{passed} of {whole}{speed}{damaged}"

    def part(self) -> float:
        """Return which part of the recording lies before this moment, 0 to 1."""
        return (self.position - self.began) / self._whole_s

    def cells(self, count: int) -> list[Cell]:
        """Return the whole recording in so many cells, as far as it is read yet."""
        return self._overview.cells(count)

    # -- keys

    def toggle(self) -> None:
        with self._lock:
            self._move()
            if not self.playing and self.position >= self.ended:
                self.position = self.began
            self.playing = not self.playing

    def faster(self, steps: int) -> None:
        with self._lock:
            self._move()
            place = SPEEDS.index(self.speed) + steps
            self.speed = SPEEDS[min(max(place, 0), len(SPEEDS) - 1)]

    def step(self, by: int) -> None:
        """Go to the next or the previous picture, and stay there."""
        with self._lock, values_that_no_server_has(self._path):
            self._move()
            self.playing = False
            here = time_of(self._frame_at(self.position))
            if by > 0:
                several = self._replay.recording.frames(here, None)
                next(several, None)
                after = next(several, None)
                self.position = self.ended if after is None else self._within(time_of(after))
            else:
                before = self._replay.recording.at(here - _EPSILON_S)
                self.position = self._within(time_of(before))

    def skip(self, seconds: float) -> None:
        with self._lock:
            self._move()
            self.position = self._within(self.position + seconds)

    def go(self, text: str) -> None:
        """Go to a time as somebody types it. Raises UsageError."""
        try:
            moment = parse_moment(text.strip().removeprefix("="))
        except ValueError:
            raise UsageError(f"{text.strip()!r} is not a time", "14:03:20, +90s from the start, or -5m") from None
        self.go_to((self._within(self._replay.recording.resolve(moment)) - self.began) / self._whole_s)

    def go_to(self, part: float) -> None:
        """Go to where that part of the recording lies before, 0 to 1."""
        with self._lock:
            self._move()
            self.position = self._within(self.began + part * self._whole_s)

    def event(self, by: int) -> str:
        """Go to the next or the previous picture with a finding or a death that the one before it has not. Return what
        is new there, "" without such a picture.
        """
        with self._lock:
            self._move()
            self.playing = False
            here = self.position
        # Through a descriptor of its own: it takes long, and pictures are wanted meanwhile.
        with Replay(self._path, self._limits) as replay, values_that_no_server_has(self._path):
            if by > 0:
                marks = self._marks(replay, here, None)
                found = next((mark for mark in marks if mark[0] > here + _EPSILON_S), None)
            else:
                found = None
                for mark in self._marks(replay, self.began, here - _EPSILON_S):
                    found = mark
        if found is None:
            return ""
        with self._lock:
            self._move()
            self.position = self._within(found[0])
        return found[1]

    # -- inside

    @property
    def _whole_s(self) -> float:
        return max(self.ended - self.began, 1e-9)

    def _marks(self, replay: Replay, since: float, until: float | None) -> Iterator[tuple[float, str]]:
        """Yield when something new was there, and what."""
        before: set[Hashable] | None = None
        for frame in replay.recording.frames(since, until):
            judged = replay.judged(frame)
            messages: dict[Hashable, str] = {
                death.id: f"{death.role} {death.pid} {certificate(death, judged)}" for death in judged.deaths
            }
            messages |= {each.key: title(each) for each in judged.findings if each.severity != "note"}
            if before is None:
                before = set() if since == self.began else set(messages)
            new = messages.keys() - before
            if new:
                yield time_of(frame), "; ".join(messages[key] for key in reversed(messages) if key in new)
            before = set(messages)

    def _move(self) -> None:
        now = self._now()
        if self.playing:
            self.position = self._within(self.position + (now - self._moved_s) * self.speed)
            self.playing = self.position < self.ended
        self._moved_s = now

    def _within(self, moment: float) -> float:
        return min(max(moment, self.began), self.ended)

    def _frame_at(self, moment: float) -> Frame:
        """Return the frame of that time. The frames that come next are kept, for they are asked for soon."""
        if not (self._window and time_of(self._window[0]) <= moment <= self._window_to):
            self._window = list(self._replay.recording.frames(moment, moment + _AHEAD_S))
            self._window_to = moment + _AHEAD_S
            if not self._window:
                self._window = [self._replay.recording.at(moment)]
        found = self._window[0]
        for frame in self._window:
            if time_of(frame) > moment:
                break
            found = frame
        return found
