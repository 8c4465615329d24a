"""The one line that answers whether a server moves, in words. Pure."""

from __future__ import annotations

from datetime import datetime

from semtrace.model import Unchecked
from semtrace.present.titles import title
from semtrace.present.waits import target_text
from semtrace.rules.headline import Headline
from semtrace.text import counted
from semtrace.waits.workers import Workers, WorkerState

_FEW = 3
_ORDER: tuple[WorkerState, ...] = ("stuck", "stopped", "waiting", "busy", "idle")


def headline_text(line: Headline) -> str:
    """Return `STUCK: 3 of 3 workers wait for shop.lock, since 09:09:12`, or `OK: 4 workers, 1 idle, 3 busy`."""
    return f"{line.verdict.upper()}: {_answer(line)}"


def _answer(line: Headline) -> str:
    if line.finding is not None:
        since = f", since {_clock(line.since_at, line.about)}" if line.since_at is not None else ""
        if line.verdict != "warning" and line.blocked and line.targets and len(line.workers) > 1:
            return f"{_blocked(line)}{since}"
        return f"{title(line.finding)}{since}"
    if line.verdict == "waiting":
        return _blocked(line)
    if line.verdict == "unknown":
        return "no process of the server can be read"
    return f"{states_text(line.workers)}{_gaps(line)}"


def workers_text(workers: Workers) -> str:
    return counted(len(workers), "worker")


def states_text(workers: Workers) -> str:
    """Return `4 workers, 1 idle, 3 busy`."""
    states = (f"{workers.count(state)} {state}" for state in _ORDER if workers.count(state))
    return ", ".join((workers_text(workers), *states))


def _blocked(line: Headline) -> str:
    many = f"{line.blocked} of {workers_text(line.workers)} {'waits' if line.blocked == 1 else 'wait'}"
    names = list(dict.fromkeys(map(target_text, line.targets)))
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f"{many} for {', '.join(names[:_FEW])}{more}"


_GAPS = {
    Unchecked.PRIVATE_LOCKS: "private locks",
    Unchecked.MEMORY: "memory that was still being read",
    Unchecked.ASYNC_TASKS: "asyncio tasks",
}


def _gaps(line: Headline) -> str:
    parts = [counted(gap.count, "process") if gap.what is Unchecked.PROCESSES else _GAPS[gap.what] for gap in line.gaps]
    return f"; not checked: {', '.join(parts)}" if parts else ""


def _clock(epoch_s: float, about: bool) -> str:
    """Return the time of day as the reader's own clock shows it: `09:09:12`, `about 09:09`."""
    return datetime.fromtimestamp(epoch_s).strftime("about %H:%M" if about else "%H:%M:%S")
