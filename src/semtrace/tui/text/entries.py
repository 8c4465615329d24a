"""Known facts about one process or lock, as the labelled lines of a sheet. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from semtrace.model import (
    ChildEnded,
    Death,
    Doubt,
    EndedChild,
    Finding,
    FindingCode,
    Frame,
    Lock,
    MayStillWake,
    Overlap,
    Problem,
    Process,
    ProcessId,
    SemId,
    Snapshot,
    Surroundings,
    ThreadLock,
    ThreadLockUse,
    VerdictReason,
    Wait,
)
from semtrace.present.deaths import certificate
from semtrace.present.facts import fact_lines
from semtrace.present.findings import evidence, remedy, title
from semtrace.present.places import place_text
from semtrace.present.waits import target_text, wait_place
from semtrace.text import UNKNOWN, age, clean, percent, size
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.marks import MARK_MEANINGS, mark_text, stuck_processes
from semtrace.tui.text.rows import pids, wanted_holds
from semtrace.tui.text.sentences import for_age, holder_phrase, names_of
from semtrace.tui.text.signs import WARNING, process_sign

Stacks = Mapping[tuple[ProcessId, int], tuple[Frame, ...]]
NO_STACKS: Stacks = {}
MOST_EVENTS = 8
MOST_DEATHS = 5
NOBODY = "no living process can end this wait"


def death_entries(title: str, deaths: Iterable[Death], snapshot: Snapshot) -> Iterator[Entry]:
    """The last certificates, the newest first, each with what the process held."""
    newest = sorted(deaths, key=lambda each: each.ended_s)
    for place, death in enumerate(newest[:MOST_DEATHS]):
        yield Entry("" if place else title, f"{death.pid} {certificate(death, snapshot)}, {age(death.ended_s)} ago")
        for each in death.held:
            at = f" at {place_text(each.place)}" if each.place is not None else ""
            yield Entry("", f"- it held {clean(each.name)}{at}", "dim")
    if len(newest) > MOST_DEATHS:
        yield Entry("", f"and {len(newest) - MOST_DEATHS} before", "dim")


def finding_entries(findings: Iterable[Finding], shown: str | None = None) -> Iterator[Entry]:
    """Yield findings, with the evidence of an orphaned lock, which is only here. The reason `shown` is left out."""
    for finding in findings:
        yield Entry(finding.severity, title(finding), "bad" if finding.severity == "error" else "warning")
        if finding.code == FindingCode.ORPHANED_LOCK:
            facts = tuple(
                fact for fact in finding.facts if not (isinstance(fact, VerdictReason) and fact.reason == shown)
            )
            for fact in evidence(replace(finding, facts=facts)):
                yield Entry("", f"- {fact}")
        yield Entry("", remedy(finding), "dim")


def process_entries(process: Process, snapshot: Snapshot, surroundings: Surroundings | None = None) -> Iterator[Entry]:
    locks = {lock.id: lock for lock in snapshot.locks}
    sign = process_sign(process.state)
    started = datetime.fromtimestamp(process.started_at).strftime("%Y-%m-%d %H:%M:%S")
    yield Entry("pid", f"{process.pid}, child of {process.ppid}", "strong")
    yield Entry("role", process.role)
    if process.id in stuck_processes(snapshot):
        yield Entry("state", mark_text("stuck"), "bad")
        yield Entry("", MARK_MEANINGS["stuck"], "dim")
    else:
        yield Entry("state", f"{sign.sign} {process.state}", sign.style)
        if sign.meaning:
            yield Entry("", sign.meaning, "dim")
    yield Entry("started", f"{started}, {age(snapshot.taken_at - process.started_at)} ago")
    yield Entry("cpu", f"{percent(process.cpu_percent)} % of a core")
    yield Entry("memory", f"{size(process.rss)} resident")
    yield Entry("threads", str(process.threads))
    if process.role != "process" or process.last_heartbeat_s is not None:
        yield Entry("heartbeat", _heartbeat(process, snapshot.server.timeout_s))
    holds, waits = ("holds", "waits for") if snapshot.alive else ("held then", "waited for")
    held = [_hold_entry(each, process.id, locks) for each in process.holds]
    held += [Entry("", name, "held") for name in wanted_holds(snapshot.waits).get(process.id, ())]
    yield from section(holds, held, "nothing")
    mine = [wait for wait in snapshot.waits.waits if wait.thread.process == process.id]
    yield from section(waits, (_wait_entry(wait, locks, snapshot) for wait in _not_idle(mine)), _no_wait(mine))
    yield from finding_entries(each for each in snapshot.findings if process.pid in each.pids)
    if process.id == snapshot.server.id:
        yield from death_entries("deaths", snapshot.deaths, snapshot)
    if surroundings is not None:
        yield from _surroundings_entries(surroundings)
    for problem in snapshot.problems:
        if problem.process == process.id:
            yield from problem_entries((problem,))


def _surroundings_entries(surroundings: Surroundings) -> Iterator[Entry]:
    command = surroundings.command
    yield Entry("command", clean(shlex.join(command)) if command else "not readable")
    yield Entry("directory", clean(surroundings.directory or "not readable: run semtrace as root, or as its user"))
    yield Entry("user", clean(surroundings.user or "not readable"))
    if surroundings.namespace_pid is not None:
        yield Entry("own pid", f"{surroundings.namespace_pid}, in its own pid namespace")


def ended_entries(child: EndedChild) -> Iterator[Entry]:
    yield Entry("pid", f"{child.pid}, child of {child.parent}", "strong")
    (ended,) = fact_lines(ChildEnded(child.id, child.parent, child.exit_code, child.ended_s))
    yield Entry("state", f"{process_sign('zombie').sign} {ended}")
    yield Entry("", process_sign("zombie").meaning, "dim")


def private_entries(lock: ThreadLock, snapshot: Snapshot) -> Iterator[Entry]:
    yield Entry("name", clean(lock.name), "strong")
    kind = lock.kind if lock.kind.startswith("asyncio.") else f"threading {lock.kind}"
    yield Entry("kind", f"{kind}: each process has its own copy, so it does not protect across processes")
    yield from finding_entries(each for each in snapshot.findings if each.name == lock.name and each.lock is None)
    if lock.overlap is not None:
        yield from _overlap_entries(lock.overlap)
    of: dict[ProcessId, list[Wait]] = {}
    for wait in snapshot.waits.waits:
        if wait.target.semaphore is None and wait.target.process is not None and wait.target.name == lock.name:
            of.setdefault(wait.target.process, []).append(wait)
    for use in lock.processes:
        yield Entry(str(use.process.pid), _use(use), "held" if use.locked else "dim")
        for wait in _not_idle(of.get(use.process, [])):
            stuck = wait.thread in snapshot.waits.stuck
            place = wait_place(wait)
            at = f" at {place}" if place else ""
            text = f"thread {wait.thread.tid} {'is stuck' if stuck else 'waits'}{for_age(wait.for_s, wait.evidence)}"
            yield Entry("", f"{text}{at}", "bad" if stuck else "waiting")


def _use(use: ThreadLockUse) -> str:
    if not use.locked:
        return "free"
    since_fork = ", most likely since the fork" if use.inherited else ""
    if use.holder is None:
        return f"locked{since_fork}"
    thread = f" by thread {use.holder.tid}" if use.holder.tid is not None else ""
    return f"locked{thread}{for_age(use.holder.since_s, use.holder.evidence)}{at_site(use.holder.site)}{since_fork}"


def _overlap_entries(overlap: Overlap) -> Iterator[Entry]:
    yield Entry("seen", f"{overlap.most} processes held their own copy at once, in {overlap.times} samples", "warning")
    yield Entry("", f"first at {clock(overlap.first_at)}, last at {clock(overlap.last_at)}: {pids(overlap.processes)}")


def clock(epoch_s: float, form: str = "%H:%M:%S") -> str:
    return datetime.fromtimestamp(epoch_s).strftime(form)


def problem_entries(problems: Sequence[Problem]) -> Iterator[Entry]:
    for problem in problems:
        whose = f"pid {problem.process.pid}" if problem.process else "server"
        yield Entry(whose, f"{clean(problem.what)}: {clean(problem.error)}", "warning")
        if problem.remedy:
            yield Entry("", clean(problem.remedy))


def section(title: str, entries: Iterable[Entry], nothing: str) -> Iterator[Entry]:
    empty = True
    for entry in entries:
        yield Entry(title if empty else "", entry.value, entry.style)
        empty = False
    if empty:
        yield Entry(title, nothing, "dim")


def _hold_entry(each: SemId, process: ProcessId, locks: Mapping[SemId, Lock]) -> Entry:
    lock = locks.get(each)
    mine = [holder for holder in lock.holders if holder.process == process] if lock else []
    times = ",".join(for_age(holder.since_s, holder.evidence) for holder in mine)
    return Entry("", f"{names_of((each,), locks)}{times}", "held")


def _not_idle(waits: Sequence[Wait]) -> list[Wait]:
    """Return the waits that are not for work, the longest first."""
    return sorted((wait for wait in waits if not wait.idle), key=lambda wait: (-(wait.for_s or 0.0), wait.thread))


def _no_wait(waits: Sequence[Wait]) -> str:
    return "nothing but work" if waits else "nothing"


def _wait_entry(wait: Wait, locks: Mapping[SemId, Lock], snapshot: Snapshot) -> Entry:
    """Say what a thread waits for, and below it where, and who could end that."""
    process, tid = wait.thread
    thread = "" if tid == process.pid else f", thread {tid}"
    times = for_age(wait.for_s, wait.evidence)
    stuck = wait.thread in snapshot.waits.stuck
    place = wait_place(wait) or clean(wait.site or "")
    lines = [f"{target_text(wait.target)}{thread}{times}{holder_phrase((wait,), locks)}"]
    lines += [f"at {place}"] if place else []
    lines += list(_enders(wait, stuck, snapshot))
    return Entry("", "\n   ".join(lines), "bad" if stuck else "waiting")


def _enders(wait: Wait, stuck: bool, snapshot: Snapshot) -> Iterator[str]:
    """Say who could end a wait, and why it is not known whether they will."""
    able = sorted({*(each.process for each in wait.wakers.threads), *wait.wakers.processes})
    if wait.bound and wait.holders:
        able = sorted({holder.process for holder in wait.holders})
    lot = len(able) > 1 and len(able) >= len(snapshot.processes)
    who = f"{len(able)} processes" if lot else f"PID {pids(able)}"
    if stuck:
        too = f"only {who} could end this wait, and {'it waits' if len(able) == 1 else 'all of them wait'} too"
        yield f"{WARNING} stuck: {too if able else NOBODY}"
        return
    if able:
        yield f"{'any of ' if len(able) > 1 else ''}{who} can end this wait"
    if wait.wakers.doubt not in (None, Doubt.UNASKED):
        yield from fact_lines(MayStillWake(wait.wakers.doubt, wait.wakers.pids))


def at_site(site: str | None) -> str:
    return f" at {clean(site)}" if site else ""


def _heartbeat(process: Process, timeout_s: float | None) -> str:
    """Return the age of the last heartbeat, with the timeout that gunicorn applies to it."""
    beat = process.last_heartbeat_s
    if beat is None:
        return f"{UNKNOWN} (none seen)"
    limit = f"; after {age(timeout_s)} without one gunicorn kills it" if timeout_s and process.role == "worker" else ""
    return f"{age(beat)} ago{limit}"
