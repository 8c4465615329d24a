"""A recording that is read: opened, searched for a moment, and gone through, whatever state its file is in."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from semtrace.errors import SemtraceError
from semtrace.linux import safefile
from semtrace.record.chunks import SYNC, Chunk, ChunkKind, chunk_at, walk
from semtrace.record.groups import Frame, GroupReader
from semtrace.record.head import NotARecording, decode_head, schema
from semtrace.record.moments import Moment
from semtrace.record.numbers import Damaged

_WINDOW = 1 << 18
_MOST_LOSSES = 1 << 17
# Events are recorded so long after they happened, at most.
_LATE_NS = 2_000_000_000


class Recording:
    """One file, as large as it was when it was opened. `close` gives it back.

    `lost` is how many bytes could not be read so far: what is damaged, with the rest of its group. Chunks that are cut
    off at the end of the file do not count: a recording that is still written ends so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lost: dict[int, int] = {}
        self._fd = _opened(path)
        try:
            self._size = os.fstat(self._fd).st_size
            self._window, self._window_at = b"", 0
            head = chunk_at(self._read, 0)
            if head is None and self._read(0, len(SYNC)) == SYNC:
                remedy = "ask again if the recording has only begun, else copy the file again"
                raise NotARecording(f"the head of {path} is damaged or cut off", remedy)
            self.head, self._reader = decode_head(head, schema())
            self._first = head.size if head else 0
            self._span: tuple[float, float] | None = None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    @property
    def lost(self) -> int:
        return sum(self._lost.values())

    def _lose(self, place: int, size: int) -> None:
        """Count what is met again, in another search, once."""
        if len(self._lost) < _MOST_LOSSES:
            self._lost[place] = size

    # -- snapshots

    def frames(self, since: float | None = None, until: float | None = None) -> Iterator[Frame]:
        """Yield the snapshots from the last one at or before `since` to the last one at or before `until`, both in
        seconds since the epoch.
        """
        before: Frame | None = None
        for frame in self._frames(self._first if since is None else self._group_before(since)):
            if until is not None and time_of(frame) > until:
                break
            if since is None or time_of(frame) > since:
                if before is not None:
                    yield before
                    before = None
                yield frame
            else:
                before = frame
        if before is not None:
            yield before

    def at(self, moment: float) -> Frame:
        """Return the last snapshot at or before that time, else the first one. Raises NotARecording."""
        found = _last(self.frames(moment, moment)) or next(self.frames(), None)
        if found is None:
            raise nothing_in(self.path)
        return found

    def span(self) -> tuple[float, float]:
        """Return the times of the first and the last snapshot. Raises NotARecording if it has none."""
        if self._span is None:
            first = next(self._frames(self._first), None)
            if first is None:
                raise nothing_in(self.path)
            last = _last(self._frames(self._last_group())) or first
            self._span = (time_of(first), max(time_of(first), time_of(last)))
        return self._span

    def resolve(self, moment: Moment) -> float:
        return moment.within(*self.span())

    def _frames(self, at: int) -> Iterator[Frame]:
        groups = GroupReader(self._reader)
        expected = at
        for place, chunk in walk(self._read, at, self._size):
            if place != expected:
                self._lose(expected, place - expected)
                groups.lose()
            expected = place + chunk.size
            if chunk.kind not in (ChunkKind.GROUP, ChunkKind.NEXT):
                continue
            try:
                frame = groups.frame(chunk)
            except Damaged:
                frame = None
            if frame is None:
                self._lose(place, chunk.size)
            else:
                yield frame

    # -- other chunks

    def chunks(self) -> Iterator[Chunk]:
        """Yield all whole chunks behind the head."""
        for _, chunk in walk(self._read, self._first, self._size):
            yield chunk

    def event_chunks(self, since: float, until_ns: int) -> Iterator[Chunk]:
        """Yield the chunks of events from the group of that time (since the epoch) to CLOCK_MONOTONIC `until_ns`."""
        for _, chunk in walk(self._read, self._group_before(since), self._size):
            if chunk.kind == ChunkKind.EVENTS:
                if chunk.first_ns <= until_ns:
                    yield chunk
            elif chunk.first_ns > until_ns + _LATE_NS:
                break

    def near(self, moment: float) -> Frame | None:
        """Return the first snapshot of the group of that time: a quick `at`, up to a group too early."""
        found = self._group_from(self._group_before(moment), self._size)
        return found[1] if found else None

    # -- where a moment is

    def _group_before(self, moment: float) -> int:
        """Return where the last group begins whose first snapshot is not after that time, by halving the file."""
        low, high = self._first, self._size
        while high - low > _WINDOW // 4:
            middle = (low + high) // 2
            found = self._group_from(middle, high)
            if found is None or time_of(found[1]) > moment:
                high = middle
            else:
                low = found[0]
        best = low
        at = low
        while (found := self._group_from(at, self._size)) is not None and time_of(found[1]) <= moment:
            best, at = found[0], found[0] + 1
        return best

    def _last_group(self) -> int:
        """Return where the last group begins."""
        size = _WINDOW
        while True:
            at = max(self._first, self._size - size)
            walked = walk(self._read, at, self._size, ChunkKind.GROUP)
            found = [place for place, chunk in walked if chunk.kind == ChunkKind.GROUP]
            if found or at == self._first:
                return found[-1] if found else self._first
            size *= 4

    def _group_from(self, at: int, end: int) -> tuple[int, Frame] | None:
        """Return the first whole group that begins between the two places."""
        while at < end:
            found = next(walk(self._read, at, end, ChunkKind.GROUP), None)
            if found is None:
                return None
            place, chunk = found
            with suppress(Damaged):
                frame = GroupReader(self._reader).frame(chunk)
                if frame is not None:
                    return place, frame
            at = place + 1
        return None

    def _read(self, at: int, size: int) -> bytes:
        """Return a piece of the file, what there is of it. A window of it is kept, for chunks are small."""
        size = min(size, self._size - at)
        if size <= 0:
            return b""
        begin = at - self._window_at
        if begin < 0 or begin + size > len(self._window):
            self._window, self._window_at, begin = os.pread(self._fd, max(size, _WINDOW), at), at, 0
        return self._window[begin : begin + size]


def _last(frames: Iterable[Frame]) -> Frame | None:
    newest = deque(frames, maxlen=1)
    return newest[0] if newest else None


def time_of(frame: Frame) -> float:
    """Return when a snapshot was taken, in seconds since the epoch as the clock of the machine showed then. For a
    server's last picture return when it was found to have ended.
    """
    snapshot = frame.snapshot
    since_s = 0.0 if snapshot.alive else max(frame.at_ns / 1e9 - snapshot.monotonic_s, 0.0)
    return snapshot.taken_at + since_s


def nothing_in(path: Path) -> NotARecording:
    return NotARecording(f"{path} has no whole snapshot", "it was cut off right after its start")


def _opened(path: Path) -> int:
    try:
        return safefile.regular(str(path), os.O_RDONLY, follow=True)
    except OSError as error:
        raise SemtraceError(f"cannot open {path}: {error.strerror}", "give the file of a recording") from error
