"""The findings as text for people and as JSON: what `semtrace doctor` prints. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from semtrace.model import SEM_VALUE_MAX, Finding, Severity, Snapshot
from semtrace.reports.dump import problems
from semtrace.reports.schema import SCHEMA, finding_json, problem_json, server_json
from semtrace.text import WIDTH, age, clean, counted, is_command, iso, label, wrapped

_OF_THE_MACHINE = ("leaked-name", "shm-full")  # and not of this server

_COLOURS: dict[Severity, str] = {"error": "1;31", "warning": "33", "info": "36"}


def doctor_text(snapshot: Snapshot, looks: int, *, colour: bool = False, width: int = WIDTH) -> Iterator[str]:
    """The worst first; if nothing is wrong with the locks, one sentence that says what was looked at."""
    parts = [list(_finding(finding, colour, width)) for finding in snapshot.findings]
    if all(finding.code in _OF_THE_MACHINE for finding in snapshot.findings):
        parts.append([_nothing_wrong(snapshot, looks)])
    if snapshot.problems:
        parts.append(list(problems(snapshot.problems)))
    for number, part in enumerate(parts):
        if number:
            yield ""
        yield from part


def doctor_json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "taken_at": iso(snapshot.taken_at),
        "server": server_json(snapshot.server),
        "watched_s": round(snapshot.watched_s, 3),
        "findings": [finding_json(finding) for finding in snapshot.findings],
        "problems": [problem_json(problem) for problem in snapshot.problems],
        "alive": snapshot.alive,
    }


_UNREAD = "The private locks (threading, asyncio), and deadlocks through them, were not looked at"


def _finding(finding: Finding, colour: bool, width: int) -> Iterator[str]:
    word = finding.severity.upper()
    said = f"\x1b[{_COLOURS[finding.severity]}m{word}\x1b[0m" if colour else word
    yield f"{said}  {finding.title}  [{finding.code}]"
    for fact in finding.evidence:
        yield from wrapped(fact, width, "    - ", "      ")
    for line in remedy_lines(finding.remedy):
        if is_command(line):
            yield f"      {line}"  # alone and whole, to be pasted: `> ` before it would be a redirection
        else:
            yield from wrapped(line, width, "    > ", "      ")


def remedy_lines(remedy: str) -> list[str]:
    """Its lines, each a command or prose."""
    return [line.strip() for line in remedy.split("\n") if line.strip()]


def _nothing_wrong(snapshot: Snapshot, looks: int) -> str:
    locks = [lock for lock in snapshot.locks if not lock.signal]
    states = Counter(lock.state for lock in locks)
    told = f" ({', '.join(f'{count} {state}' for state, count in states.most_common())})" if states else ""
    private = f" and {counted(len(snapshot.thread_locks), 'private lock')}" if snapshot.thread_locks else ""
    ended = "" if snapshot.alive else " The server has ended meanwhile."
    blind = {problem.process for problem in snapshot.problems if problem.process}
    if blind.issuperset(process.id for process in snapshot.processes) and blind:
        return f"Nothing can be said: not one process of {clean(snapshot.server.title)} can be read."
    if blind:
        ended += f" {counted(len(blind), 'process')} of these could not be read."
    ended += _undecided(snapshot)
    nothing = "Nothing else wrong" if snapshot.findings else "Nothing wrong"
    if unread := snapshot.unread("private-locks"):
        # First, for it is no small print: what is wrong may be just there.
        nothing = f"{_UNREAD}: {clean(unread.error)}. Of the shared locks, {nothing.lower()}"
    return (
        f"{nothing} was seen in {looks} looks over {age(snapshot.watched_s)} at "
        f"{clean(snapshot.server.title)} (PID {snapshot.server.pid}): {counted(len(snapshot.processes), 'process')}, "
        f"{counted(len(locks), 'lock')}{told}{private}{'' if snapshot.findings else _shared_memory(snapshot)}.{ended}"
    )


def _shared_memory(snapshot: Snapshot) -> str:
    """No more than was looked at: of some names in it nobody may be able to tell whether they are used."""
    if snapshot.shared_memory is None or snapshot.shared_memory.leaked is None:
        return ""
    doubtful = any("/dev/shm" in problem.what for problem in snapshot.problems)
    return ", and what could be asked of /dev/shm" if doubtful else ", and /dev/shm"


def _undecided(snapshot: Snapshot) -> str:
    """Waiting of which only the program knows whether it is as it should be."""
    empty = [
        lock
        for lock in snapshot.locks
        if lock.maximum == SEM_VALUE_MAX and lock.value == 0 and lock.waiters and not lock.signal
    ]
    if not empty:
        return _unclaimed(snapshot)
    threads = sum(len(lock.waiters) for lock in empty)
    names = ", ".join(label(lock) for lock in empty[:3]) + (", ..." if len(empty) > 3 else "")
    return (
        f" Whether it is right that {counted(threads, 'thread waits', 'threads wait')} for "
        f"{counted(len(empty), 'Semaphore')} without a unit left ({names}) semtrace cannot tell: a Semaphore may be a "
        f"signal that is still to come, or a lock whose holder is gone.{_unclaimed(snapshot)}"
    )


def _unclaimed(snapshot: Snapshot) -> str:
    """Locks for which threads wait, of which nobody knows who has them."""
    unknown = [lock for lock in snapshot.locks if lock.state == "unknown" and lock.waiters and not lock.signal]
    told = [f" Who has {label(lock)} is not known: {clean(lock.reason)}." for lock in unknown if lock.reason]
    return "".join(told[:3])
