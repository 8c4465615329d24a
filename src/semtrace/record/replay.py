"""A recording in the place of a server: its snapshots with what the rules find in them now."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from semtrace.errors import UsageError
from semtrace.model import CODES, Finding, Snapshot
from semtrace.record.groups import Frame
from semtrace.record.head import NotARecording
from semtrace.record.moments import Moment
from semtrace.record.reader import Recording, nothing_in
from semtrace.rules import Limits, with_findings, worst_first
from semtrace.rules.passing import passed
from semtrace.text import size


class Replay:
    """One recording, as seen with these limits. In the end `tell` gets a sentence if a part of it is damaged."""

    def __init__(self, path: Path, limits: Limits, tell: Callable[[str], object] | None = None) -> None:
        self.path = path
        self._tell = tell
        self.recording = Recording(path)
        self._limits = replace(limits, ignore=limits.ignore | frozenset(self.recording.head.ignore))

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self.recording.close()
        if self._tell is not None and self.recording.lost:
            self._tell(damage_text(self.path, self.recording.lost))

    def at(self, moment: Moment | None) -> Snapshot:
        """Return the snapshot of that time, by default the last one."""
        with values_that_no_server_has(self.path):
            time = self.recording.span()[1] if moment is None else self.recording.resolve(moment)
            return self.judged(self.recording.at(time))

    def between(self, since: Moment | None, until: Moment | None) -> Iterator[Snapshot]:
        """Yield the snapshots of that time, by default all, with `watched_s` as the recorder knew it."""
        with values_that_no_server_has(self.path):
            for frame in self.recording.frames(*self._bounds(since, until)):
                yield self.judged(frame)

    def examined(self, since: Moment | None, until: Moment | None) -> tuple[Snapshot, int]:
        """Return the last snapshot of that time with what passed by before it, and how many there were."""
        with values_that_no_server_has(self.path):
            seen: dict[Hashable, tuple[float, Finding]] = {}
            first = last = None
            count = 0
            for last in self.between(since, until):
                first = first or last
                count += 1
                passing = (finding for finding in last.findings if CODES[finding.code].passes)
                seen |= {finding.key: (last.monotonic_s, finding) for finding in passing}
            if first is None or last is None:
                raise nothing_in(self.path)
            found = worst_first((*last.findings, *passed(seen, last)))
            return replace(last, findings=found, watched_s=last.monotonic_s - first.monotonic_s), count

    def _bounds(self, since: Moment | None, until: Moment | None) -> tuple[float | None, float | None]:
        begin, end = (None if each is None else self.recording.resolve(each) for each in (since, until))
        if begin is not None and end is not None and begin > end:
            raise UsageError("--from is later than --to", "exchange them")
        return begin, end

    def judged(self, frame: Frame) -> Snapshot:
        """Return the snapshot with its findings; those of a last picture are of the time before, and stay."""
        ids = {lock.id for lock in frame.snapshot.locks}
        if not all(ids.issuperset((*each.holds, *each.waits_on)) for each in frame.snapshot.processes):
            raise LookupError("a process holds, or waits for, a lock that is not there")
        return with_findings(frame.snapshot, self._limits) if frame.snapshot.alive else frame.snapshot


def damage_text(path: Path, lost: int) -> str:
    return f"{size(lost)} of {path} are damaged: snapshots are missing there"


@contextmanager
def values_that_no_server_has(path: Path | str) -> Iterator[None]:
    """Turn failures inside into NotARecording. A file can hold a snapshot of the right types that contradicts itself,
    such as a waiter of a process that is not there.
    """
    try:
        yield
    except (LookupError, ArithmeticError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, UnicodeError):
            raise
        raise NotARecording(
            f"{path} holds a snapshot that contradicts itself ({type(error).__name__})",
            "it is damaged, or was not written by semtrace",
        ) from error
