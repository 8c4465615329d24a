"""Points in time as people type them: `--at`, `--from`, `--to`. Pure."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta

from semtrace.lazydata import dataclass

_OFFSET = re.compile(r"([+-])(\d+(?:\.\d+)?)(ms|s|m|h|d)?\Z")
_FRACTION = re.compile(r"\.(\d+)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Moment:
    """A point in time: seconds since the epoch (`at`), since the start (`after`) or before the end (`before`) of a
    recording, or a time of the day (`clock`).
    """

    at: float | None = None
    after: float | None = None
    before: float | None = None
    clock: time | None = None

    def within(self, began_at: float, ended_at: float) -> float:
        """Return it in seconds since the epoch, for a recording of this time. A time of the day is the last such
        before the end.
        """
        if self.after is not None:
            return began_at + self.after
        if self.before is not None:
            return ended_at - self.before
        if self.clock is None:
            return self.at or 0.0
        end = datetime.fromtimestamp(ended_at).astimezone()
        found = datetime.combine(end.date(), self.clock, end.tzinfo)
        if found > end + timedelta(seconds=1):
            found -= timedelta(days=1)
        return found.timestamp()


def parse_moment(text: str) -> Moment:
    """Raises ValueError for what is not a time. Without a zone it is local time."""
    if offset := _OFFSET.match(text):
        seconds = float(offset[2]) * _UNITS[offset[3] or "s"]
        return Moment(after=seconds) if offset[1] == "+" else Moment(before=seconds)
    if re.match(r"\d{1,2}:\d\d(:\d\d(\.\d+)?)?\Z", text):
        return Moment(clock=time.fromisoformat(_padded(text)))
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        raise ValueError(text)
    found = datetime.fromisoformat(_FRACTION.sub(_six, text).replace("Z", "+00:00"))
    if found.year < date(1971, 1, 1).year:
        raise ValueError(text)
    return Moment(at=found.timestamp())


def _padded(text: str) -> str:
    """Return it as `fromisoformat` of Python 3.10 reads it: two digits for the hour, six behind the point."""
    return _FRACTION.sub(_six, text if len(text.partition(":")[0]) == 2 else f"0{text}")


def _six(found: re.Match[str]) -> str:
    return f".{found[1][:6]:0<6}"
