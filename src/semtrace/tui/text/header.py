"""The lines around the panes: the header, the titles, the banner, the keys. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from semtrace.errors import SemtraceError
from semtrace.lazydata import dataclass
from semtrace.model import Lock, LockState, Server, Severity, Snapshot
from semtrace.present.headline import headline_text
from semtrace.rules.headline import Headline
from semtrace.text import age, clean, counted
from semtrace.tui.state import ViewState
from semtrace.tui.text.line import Item, Line, Span, clip, spread, width_of
from semtrace.tui.text.marks import MARK_SIGNS, Marks
from semtrace.tui.text.rows import Shown
from semtrace.tui.text.signs import ENDED, LOCK_SIGNS, PAUSED, VERDICTS, WARNING, lock_sign
from semtrace.waits.workers import Workers, WorkerState

GAP = 2
SEVERITIES: dict[Severity, str] = {"error": "bad", "warning": "warning", "note": "dim"}

_WORKING = ("worker", "dirty-worker", "process")
# Each with when it gives way, the highest first.
_STATES: tuple[tuple[WorkerState, int, str], ...] = (
    ("stuck", 0, "bad"),
    ("stopped", 1, "bad"),
    ("waiting", 2, "waiting"),
    ("busy", 3, "dim"),
    ("idle", 3, "dim"),
)
_STATE_ORDER: dict[LockState, int] = {
    "orphaned": 0,
    "unknown": 2,
    "contended": 3,
    "exhausted": 4,
    "held": 5,
    "free": 6,
}


@dataclass(frozen=True)
class Gauge:
    """Load and pace of the view itself."""

    interval_s: float
    rate: float | None = None
    cpu_percent: float | None = None
    paused: bool = False
    replay: str = ""  # that it is a recording, or recorded


def headline_line(answer: Headline, server: Server, snapshot: Snapshot, gauge: Gauge, width: int, alone: bool) -> Line:
    """Return the first line: the verdict on the server. If it is `alone`, also its name, as far as there is room."""
    alerts = _alerts(snapshot, gauge)
    paused = alerts[: gauge.paused]
    right = [*paused, *(item._replace(order=1) for item in alerts[len(paused) :])]
    if alone:
        name, pid = _identity(server, snapshot)[1:3]
        right += [name._replace(order=2), pid._replace(order=3), Item(4, _rate(gauge))]
    room = width - GAP - 2 - sum(width_of(item.line) + GAP for item in paused)
    verdict = clip(headline_text(answer), max(room, 0))
    return spread([Item(0, (Span(verdict, f"{VERDICTS[answer.verdict]} @findings"),))], right, width, GAP)


def verdict_line(answer: Headline, server: Server, snapshot: Snapshot, width: int) -> Line:
    """Return the verdict with the server's name and PID, for the screens that show no more about it.

    A long verdict is cut for the PID, which commands ask for; the name has to go.
    """
    name, pid = _identity(server, snapshot)[1:3]
    room = max(width - GAP - 2 - width_of(pid.line), 0)
    verdict = Span(clip(headline_text(answer), room), f"{VERDICTS[answer.verdict]} @findings")
    return spread([Item(0, (verdict,))], [name._replace(order=2), pid._replace(order=1)], width, GAP)


def header_line(server: Server, snapshot: Snapshot | None, gauge: Gauge, width: int, alone: bool = True) -> Line:
    """Return the server and the load of the view; if the line is `alone`, also alerts."""
    right = [Item(0, _rate(gauge)), *_usage(snapshot, gauge)]
    if alone:
        right = [*_alerts(snapshot, gauge), *right]
    return spread(_identity(server, snapshot), right, width)


def workers_title(snapshot: Snapshot, states: Workers) -> list[Item]:
    items = [_name("Processes" if snapshot.server.kind == "python" else "Workers"), _count(_how_many(snapshot, states))]
    for state, order, style in _STATES:
        if states.count(state):
            sign = f"{WARNING} " if state == "stuck" else ""
            items.append(Item(order, (Span(f"{sign}{states.count(state)} {state}", style),)))
    if snapshot.ended:
        items.append(Item(4, (Span(f"{len(snapshot.ended)} defunct", "dim"),)))
    return items


def _how_many(snapshot: Snapshot, states: Workers) -> str:
    """Return `4 and the master`; of other trees how many of the processes are the workers that the states are of."""
    if snapshot.server.kind == "python":
        count = len(snapshot.processes)
        return f"{count}" if len(states) == count else f"{count}, {counted(len(states), 'worker')}"
    workers = sum(process.role in _WORKING for process in snapshot.processes)
    others = [process.role for process in snapshot.processes if process.role not in _WORKING]
    extra = {0: "", 1: f" and the {others[0]}" if others else ""}.get(len(others), f" and {len(others)} others")
    return f"{workers}{extra}"


def locks_title(shown: Shown, marks: Marks) -> list[Item]:
    """Return the title of the locks' pane, with the number of rows in each state."""
    found = [marks.of_lock(lock) for lock in shown.locks]
    marked = Counter(found)
    counts = Counter(lock.state for lock, mark in zip(shown.locks, found, strict=True) if mark is None)
    items = [_name("Locks"), _count(str(len(shown.locks)))]
    for mark, sign_text in MARK_SIGNS.items():
        if marked[mark]:
            items.append(Item(0, (Span(f"{sign_text} {marked[mark]} {mark}", "bad"),)))
    for state in LOCK_SIGNS:
        if counts[state]:
            sign = lock_sign(state)
            items.append(Item(_STATE_ORDER[state], (Span(f"{sign.sign} {counts[state]} {state}", sign.style),)))
    if shown.hidden:
        items.append(Item(1, (Span(f"{counted(shown.hidden, 'signal')} hidden (a)", "dim @signals"),)))
    return items


def private_title(snapshot: Snapshot, count: int) -> list[Item]:
    each = "worker" if snapshot.server.kind == "gunicorn" else "process"
    return [_name(f"Private to each {each}"), _count(str(count))]


def servers_title(count: int) -> list[Item]:
    return [_name("Servers"), _count(f"{count} run on this machine: which one?")]


def bare_title(name: str) -> list[Item]:
    return [_name(name)]


# `[2026-11-28 10:58:06 +0000] [13909] [ERROR] `, which would leave no room for what was written.
_LOG_PREFIX = re.compile(r"(\[[^\]]*\] ?)+")


def ended_banner(snapshot: Snapshot) -> str:
    ran = age(snapshot.taken_at - snapshot.server.started_at)
    return f"{ENDED} Server ended at {clock(snapshot)}: its last snapshot. It ran {ran}{_left_behind(snapshot.locks)}."


def failed_child(view_state: ViewState) -> str:
    """Return how a server that semtrace started failed; nothing of any other, and of one that ended well."""
    child = view_state.child
    if child is None or child.running or not child.exit_code:
        return ""
    output = clean(view_state.last_output)
    last = f". Its last line: {_LOG_PREFIX.sub('', output) or output}" if output else ""
    return f"{ENDED} The server ended with exit code {child.exit_code}{last}"


def state_banner(view_state: ViewState, shows_pause: bool) -> tuple[str, str]:
    """Return the banner about the picture that is shown, and its style; nothing if the picture is current."""
    shown, newest = view_state.snapshot, view_state.newest
    if shown is not None and not shown.alive:
        return failed_child(view_state) or ended_banner(shown), "banner"
    parts = []
    if shown is not None and view_state.paused and shows_pause:
        ended = "; the server has ended meanwhile" if newest and not newest.alive else ", collecting goes on"
        parts.append(f"{PAUSED} PAUSED: the snapshot of {clock(shown)} stands still{ended}.")
    if shown is not None and view_state.trouble is not None:
        parts.append(failed_banner(view_state.trouble))
    return " ".join(parts), "badge" if parts and view_state.trouble is None else "banner" if parts else ""


def clock(snapshot: Snapshot) -> str:
    """The time is the reader's own local one: that of its wall clock."""
    return datetime.fromtimestamp(snapshot.taken_at).strftime("%H:%M:%S")


def failed_banner(error: SemtraceError) -> str:
    remedy = f" {error.remedy}" if error.remedy else ""
    return f"{WARNING} {clean(str(error))}.{remedy}"


def _name(text: str) -> Item:
    return Item(0, (Span(text, "title"),))


def _count(text: str) -> Item:
    return Item(0, (Span(text, "dim"),))


def _identity(server: Server, snapshot: Snapshot | None) -> list[Item]:
    version = f" {server.version}" if server.version else ""
    items = [
        Item(4, (Span("semtrace", "brand"),)),
        Item(0, (Span(clean(server.application or server.title), "name"),)),
        Item(1, (Span(f"pid {server.pid}"),)),
        Item(3, (Span(f"{server.kind}{version}"),)),
    ]
    if server.bind:
        items.append(Item(7, (Span(clean(" ".join(server.bind)), "dim"),)))
    if server.timeout_s is not None:
        items.append(Item(8, (Span(f"timeout {server.timeout_s:g}s", "dim"),)))
    if snapshot is not None:
        items.append(Item(6, (Span(f"up {age(snapshot.taken_at - server.started_at)}", "dim"),)))
    return items


def _alerts(snapshot: Snapshot | None, gauge: Gauge) -> list[Item]:
    """Return what wants attention: the picture stands still, findings, problems."""
    items = [Item(0, (Span(f" {PAUSED} PAUSED ", "badge"),))] if gauge.paused else []
    if snapshot and snapshot.findings:
        worst = snapshot.findings[0].severity
        these = sum(finding.severity == worst for finding in snapshot.findings)
        items.append(Item(0, (Span(f"{counted(these, worst)} (f)", f"{SEVERITIES[worst]} @findings"),)))
    if snapshot and snapshot.problems:
        count = counted(len(snapshot.problems), "problem")
        items.append(Item(0, (Span(f"{WARNING} {count} (p)", "warning @problems"),)))
    return items


def _rate(gauge: Gauge) -> Line:
    """The interval; and what really comes through where that is clearly less."""
    if gauge.replay:
        return (Span(gauge.replay, "badge"),)
    line = (Span(f"every {gauge.interval_s:g}s"),)
    if gauge.rate is not None and not gauge.paused and gauge.rate < 0.75 / gauge.interval_s:
        return (*line, Span(f", shown {gauge.rate:.1f}/s", "warning"))
    return line


def _usage(snapshot: Snapshot | None, gauge: Gauge) -> list[Item]:
    items = []
    if snapshot is not None:
        items.append(Item(9, (Span(f"read {1000 * snapshot.cost_s:.1f}ms", "dim"),)))
    if gauge.cpu_percent is not None:
        items.append(Item(5, (Span(f"semtrace's cpu {gauge.cpu_percent:.0f}%", "dim"),)))
    return items


def _left_behind(locks: Sequence[Lock]) -> str:
    taken = sum(bool(lock.holders) for lock in locks)
    return f", {counted(taken, 'lock')} held then" if taken else ""
