"""A snapshot as plain text for people: `semtrace dump`. Pure: yields lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from semtrace.model import (
    SEM_VALUE_MAX,
    Death,
    EndedChild,
    Holder,
    Lock,
    Overlap,
    Problem,
    Process,
    ProcessId,
    SemId,
    Snapshot,
    Statistics,
    Wait,
    Waiter,
)
from semtrace.observe.names.separate import combine
from semtrace.present.deaths import certificate
from semtrace.present.files import file_text
from semtrace.present.findings import title
from semtrace.present.headline import headline_text
from semtrace.present.servers import kind_text
from semtrace.present.waits import target_text
from semtrace.reports.stacks import stack_report
from semtrace.rules.headline import headline
from semtrace.text import UNKNOWN, age, clean, counted, exact, iso, percent, size, table
from semtrace.waits.workers import waits_by_process

# SGR codes for what deserves the eye, on a terminal that wants colour.
_COLOURS = {"contended": "33", "exhausted": "33", "orphaned": "1;31", "held": "32", "unknown": "35"}
_FEW = 6


def report(snapshot: Snapshot, *, colour: bool = False, signals: bool = False) -> Iterator[str]:
    """The whole picture; `signals` shows the semaphores inside Condition, Event and Queue too."""
    yield headline_text(headline(snapshot))
    yield from _heading(snapshot)
    yield ""
    yield from _processes(snapshot)
    yield ""
    yield from _locks(snapshot, colour, signals)
    if snapshot.thread_locks:
        yield ""
        yield from _thread_locks(snapshot)
    stacks = list(stack_report(snapshot))
    if stacks:
        yield from ("", "STACKS", *(f"  {line}" for line in stacks))
    if snapshot.findings:
        yield from ("", "FINDINGS (semtrace doctor says more)")
        yield from (f"  {finding.severity}: {title(finding)}" for finding in snapshot.findings)
    if snapshot.problems:
        yield ""
        yield from problems(snapshot.problems)


def _heading(snapshot: Snapshot) -> Iterator[str]:
    server = snapshot.server
    ended = "" if snapshot.alive else "   ENDED: this is its last snapshot"
    yield f"{kind_text(server)}  PID {server.pid}  {clean(server.title)}{ended}"
    yield f"{iso(snapshot.taken_at)}  up {age(snapshot.taken_at - server.started_at)}  user {clean(server.user)}"


def _processes(snapshot: Snapshot) -> Iterator[str]:
    labels = {lock.id: clean(lock.label) for lock in snapshot.locks}
    rows = [["PID", "ROLE", "STATE", "CPU%", "MEM", "THREADS", "AGE", "BEAT", "HOLDS", "WAITS FOR"]]
    waits = waits_by_process(snapshot.waits)
    rows += [_process(process, snapshot.taken_at, labels, waits) for process in snapshot.processes]
    rows += [_ended(child) for child in snapshot.ended]
    rows += [_dead(death, snapshot) for death in snapshot.deaths[-_FEW:]]
    return table(rows, "><<>>>>><<")


def _ended(child: EndedChild) -> list[str]:
    code = "" if child.exit_code is None else f" ({child.exit_code})"
    ago = f" {age(child.ended_s)} ago" if child.ended_s is not None else ""
    return [str(child.pid), "child", f"defunct{code}", "", "", "", "", "", f"ended{ago}", ""]


def _dead(death: Death, snapshot: Snapshot) -> list[str]:
    """A process that is gone: how it ended, what it held, and who has been stuck since."""
    how = certificate(death, snapshot)
    held = _few([clean(each.name) for each in death.held])
    return [str(death.pid), death.role, "gone", "", "", "", age(death.ended_s), age(death.silent_s), held, how]


def _process(
    process: Process, now: float, labels: dict[SemId, str], waits: Mapping[ProcessId, Sequence[Wait]]
) -> list[str]:
    return [
        str(process.pid),
        process.role,
        process.state,
        percent(process.cpu_percent),
        size(process.rss),
        str(process.threads),
        age(now - process.started_at),
        age(process.last_heartbeat_s),
        _few([labels[lock] for lock in process.holds]),
        _few(list(dict.fromkeys(target_text(wait.target) for wait in waits.get(process.id, ())))),
    ]


def _locks(snapshot: Snapshot, colour: bool, signals: bool) -> Iterator[str]:
    shown = combine(lock for lock in snapshot.locks if signals or not lock.signal)
    hidden = 0 if signals else sum(lock.signal for lock in snapshot.locks)
    if shown:
        rows = [["LOCK", "KIND", "STATE", "VALUE", "HELD BY", "FOR", "WAITERS", "MAPPED"]]
        everyone = tuple(process.id for process in snapshot.processes)
        rows += [_lock(lock, everyone) for lock in shown]
        heading, *lines = table(rows, "<<<><><<")
        yield heading
        for lock, line in zip(shown, lines, strict=True):
            yield _coloured(line, _COLOURS.get(lock.state)) if colour else line
            yield from _notes(lock)
    elif not hidden:
        yield _no_locks(snapshot)
    if hidden:
        yield f"{counted(hidden, 'signal')} inside Condition, Event or Queue not shown (--all shows all)"


def _no_locks(snapshot: Snapshot) -> str:
    if any(problem.process for problem in snapshot.problems):
        return "No locks can be seen: see the problems below."
    return "No semaphores are mapped: the server has made no multiprocessing lock (so far)."


def _lock(lock: Lock, everyone: tuple[ProcessId, ...]) -> list[str]:
    longest = max(lock.holders, key=lambda holder: holder.since_s or 0.0, default=None)
    return [
        clean(lock.label),
        lock.kind,
        lock.state,
        _value(lock),
        _few([_held_by(holder) for holder in lock.holders]),
        _time(longest.since_s, longest.evidence) if longest else UNKNOWN,
        _waiting(lock.waiters),
        "all" if lock.mapped_by == everyone else _pids(lock.mapped_by),
    ]


def _value(lock: Lock) -> str:
    if lock.value is None:
        return UNKNOWN
    bounded = lock.maximum is not None and 1 < lock.maximum < SEM_VALUE_MAX
    return f"{lock.value}/{lock.maximum}" if bounded else str(lock.value)


def _thread_locks(snapshot: Snapshot) -> Iterator[str]:
    locks, now = snapshot.thread_locks, snapshot.taken_at
    each = "WORKER" if snapshot.server.kind == "gunicorn" else "PROCESS"
    rows = [[f"PRIVATE TO EACH {each}", "KIND", "LOCKED NOW IN"]]
    rows += [[clean(lock.name), lock.kind, _pids([u.process for u in lock.processes if u.locked])] for lock in locks]
    heading, *lines = table(rows, "<<<")
    yield heading
    for lock, line in zip(locks, lines, strict=True):
        yield line
        if lock.overlap is not None:
            yield f"    excludes nobody: {_overlap(lock.overlap, now)}"


def _overlap(overlap: Overlap, now: float) -> str:
    often = "" if overlap.times == 1 else f"seen {overlap.times} times in {age(now - overlap.first_at)}, last "
    return f"{overlap.most} processes were inside at once; {often}PID {_pids(overlap.processes)}"


def _held_by(holder: Holder) -> str:
    thread = f"/{holder.tid}" if holder.tid not in (None, holder.pid) else ""
    depth = f"×{holder.count}" if holder.count > 1 else ""
    return f"{holder.pid}{thread}{depth}{'' if holder.certain else '?'}"


def _waiting(waiters: Sequence[Waiter]) -> str:
    """Return the waiters in the order in which they were first seen; the first has waited the longest."""
    names = [str(w.pid) if w.tid == w.pid else f"{w.pid}/{w.tid}" for w in waiters]
    if waiters and waiters[0].for_s:
        names[0] += f" {_time(waiters[0].for_s, waiters[0].evidence)}"
    return _few(names)


def _time(seconds: float | None, evidence: str) -> str:
    """Sampling knows a lower bound only."""
    if evidence == "events":
        return exact(seconds)
    return f"≥{age(seconds)}" if seconds else UNKNOWN


def _notes(lock: Lock) -> Iterator[str]:
    if lock.statistics is not None and lock.statistics.acquired:
        yield f"    {_counts(lock.statistics)}"
    known = lock.signal or (lock.name or "").startswith(lock.part_of or "")
    part = "" if known else f"part of {lock.part_of}"
    file = file_text(lock.file) if lock.file else ""
    note = "; ".join(filter(None, [part, file, lock.reason]))
    if note:
        yield f"    {clean(note)}"


def _counts(statistics: Statistics) -> str:
    """Return the counters of a traced lock, in one line."""
    wait, hold = statistics.wait, statistics.hold
    contention = f", {100 * (statistics.contention or 0.0):.0f} % had to wait"
    waited = f" {exact(wait.mean_s)} on average, {exact(wait.max_s)} at most" if wait.count else ""
    held = f"; held {exact(hold.mean_s)} on average, {exact(hold.max_s)} at most" if hold.count else ""
    failed = f"; {counted(statistics.failed, 'attempt')} failed" if statistics.failed else ""
    return f"acquired {counted(statistics.acquired, 'time')}{contention}{waited}{held}{failed}"


def problems(found: Iterable[Problem]) -> Iterator[str]:
    """Yield what could not be seen, the same for several processes in one line, each with its remedy."""
    yield "PROBLEMS"
    for line, remedy in problem_lines(found):
        yield f"  {line}"
        yield f"    {remedy}"


def problem_lines(found: Iterable[Problem]) -> Iterator[tuple[str, str]]:
    """Yield what could not be seen, and the remedy: the same for several processes once."""
    alike: dict[tuple[str, str], list[Problem]] = {}
    for problem in found:
        alike.setdefault((problem.what, problem.error), []).append(problem)
    for (what, error), these in alike.items():
        who = _pids([p.process for p in these if p.process])
        yield f"{'PID ' + who + ': ' if who != UNKNOWN else ''}cannot {what}: {error}", these[0].remedy


def _pids(processes: Sequence[ProcessId]) -> str:
    """A few in full, of many the first and how many more, in their order."""
    numbers = [str(pid) for pid in sorted(process.pid for process in processes)]
    if len(numbers) > _FEW:
        return f"{' '.join(numbers[: _FEW - 1])} +{len(numbers) - _FEW + 1}"
    return " ".join(numbers) or UNKNOWN


def _few(items: Sequence[str]) -> str:
    if len(items) > _FEW:
        return f"{', '.join(items[: _FEW - 1])} +{len(items) - _FEW + 1}"
    return ", ".join(items) or UNKNOWN


def _coloured(line: str, sgr: str | None) -> str:
    return f"\x1b[{sgr}m{line}\x1b[0m" if sgr else line
