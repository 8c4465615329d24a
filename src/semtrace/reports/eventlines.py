"""Acts of traced locks as lines: for people, in columns, and for programs, as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath

from semtrace.model import ProcessId, TracedEvent
from semtrace.reports.schema import event_json
from semtrace.text import clean, clip_start, exact

_LOCK_ACTS = ("wait", "acquired", "released", "failed")
_COLOURS = {"wait": "33", "acquired": "32", "failed": "31", "released": "2", "lost": "1;31"}

# The columns: PID/TID of seven digits each (PID_MAX_LIMIT, include/linux/threads.h), the longest act, name and time.
_WHO, _ACT, _NAME, _DETAIL = 15, 8, 30, 14

Batch = tuple[list[TracedEvent], dict[ProcessId, int]]


def json_lines(found: Iterable[Batch]) -> Iterator[str]:
    for events, lost in found:
        for event in events:
            if event.event in _LOCK_ACTS:
                yield json.dumps(event_json(event))
        for process, count in lost.items():
            yield json.dumps(lost_json(process, count))


def text_lines(found: Iterable[Batch], colour: bool, began: float | None = None) -> Iterator[str]:
    """Format events in fixed columns: a long name shows its end, JSON has all of it. `began` is the wall clock when
    CLOCK_MONOTONIC was 0, by default this machine's.
    """
    paint: Callable[[str, str], str] = painted if colour else lambda line, _: line
    began = time.time() - time.monotonic() if began is None else began
    for events, lost in found:
        for event in events:
            who = str(event.process.pid) if event.tid in (0, event.process.pid) else f"{event.process.pid}/{event.tid}"
            name = clip_start(clean(event.name or (str(event.lock) if event.lock else "")), _NAME)
            acted = f"{who:{_WHO}}  {event.event:{_ACT}}  {name:{_NAME}}  {_detail(event):{_DETAIL}}"
            line = f"{_clock(began + event.t_s)}  {acted}  {short(event.site)}"
            yield paint(line.rstrip(), event.event)
        for process, count in lost.items():
            yield paint(f"{count} events of {process.pid} were lost: they came faster than they were read", "lost")


def _detail(event: TracedEvent) -> str:
    if event.event == "acquired":
        return f"waited {exact(event.wait_s)}" if event.wait_s else "at once"
    if event.event == "released":
        return f"held {exact(event.held_s)}" if event.held_s is not None else ""
    return f"after {exact(event.wait_s)}" if event.event == "failed" and event.wait_s else ""


def short(site: str | None) -> str:
    """The last two parts of the path, and the line."""
    return clean("/".join(PurePath(site).parts[-2:]).lstrip("/")) if site else ""


def _clock(epoch_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(epoch_s)) + f".{int(epoch_s % 1 * 1e6):06d}"


def painted(line: str, event: str) -> str:
    sgr = _COLOURS.get(event)
    return f"\x1b[{sgr}m{line}\x1b[0m" if sgr else line


def lost_json(process: ProcessId, count: int) -> dict[str, object]:
    return {"event": "lost", "pid": process.pid, "count": count}
