"""The findings as text for people and as JSON: what `semtrace doctor` prints. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any

from semtrace.model import CODES, SEVERITIES, Finding, Severity, Snapshot
from semtrace.present.coverage import not_checked_text
from semtrace.present.findings import advice, command, evidence, title
from semtrace.present.headline import headline_text
from semtrace.reports.dump import problem_lines, problems
from semtrace.reports.schema import SCHEMA, finding_json, problem_json, server_json
from semtrace.rules.coverage import not_checked
from semtrace.rules.headline import headline
from semtrace.text import WIDTH, age, clean, counted, iso, wrapped

_COLOURS: dict[Severity, str] = {"error": "1;31", "warning": "33", "note": "36"}


def doctor_text(snapshot: Snapshot, samples: int, *, colour: bool = False, width: int = WIDTH) -> Iterator[str]:
    """The worst first; if nothing is wrong with the locks, what was checked, and what was not. Of what concerns other
    programs a line at the end.
    """
    found = [finding for finding in snapshot.findings if not CODES[finding.code].in_brief]
    parts = [list(wrapped(headline_text(headline(snapshot)), width, "", "    "))]
    parts += [list(_finding(finding, colour, width)) for finding in found]
    if all(CODES[finding.code].of_the_machine for finding in found):
        parts.append(list(_nothing_wrong(snapshot, samples, bool(found), width)))
    if snapshot.problems:
        parts.append(list(problems(snapshot.problems)))
    parts += [[_in_brief(finding, colour)] for finding in snapshot.findings if CODES[finding.code].in_brief]
    for number, part in enumerate(parts):
        if number:
            yield ""
        yield from part


def doctor_brief(snapshot: Snapshot, *, at: bool = False) -> Iterator[str]:
    """The headline, and one line for each finding: for monitoring. `at` puts the time before each."""
    time = f"{iso(snapshot.taken_at)} " if at else ""
    yield f"{time}{headline_text(headline(snapshot))}"
    for finding in snapshot.findings:
        yield f"{time}{finding.severity.upper()} {finding.code}: {title(finding)}"
    for line, _ in problem_lines(snapshot.problems):
        yield f"{time}NOT SEEN: {line}"


def as_severe_as(limit: str, snapshot: Snapshot) -> bool:
    """Return True if there is a finding that is at least so severe; nothing is as severe as "nothing"."""
    return any(SEVERITIES.index(finding.severity) <= _FAILS_UP_TO[limit] for finding in snapshot.findings)


_FAILS_UP_TO: dict[str, int] = {"nothing": -1} | {severity: place for place, severity in enumerate(SEVERITIES)}


def is_news(before: Snapshot, now: Snapshot) -> bool:
    """Return True if other things are wrong now, or something has passed since, or the server has ended."""

    def present(snapshot: Snapshot) -> set[tuple[Hashable, Severity]]:
        return {(each.key, each.severity) for each in snapshot.findings if each.over_s is None}

    over = any(finding.over_s is not None for finding in now.findings)
    return over or present(before) != present(now) or before.alive != now.alive


def doctor_json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "taken_at": iso(snapshot.taken_at),
        "server": server_json(snapshot.server),
        "watched_s": round(snapshot.watched_s, 3),
        "findings": [finding_json(finding) for finding in snapshot.findings],
        "problems": [problem_json(problem) for problem in snapshot.problems],
        "not_checked": [{"what": str(gap.what), "text": not_checked_text(gap)} for gap in not_checked(snapshot)],
        "alive": snapshot.alive,
    }


def _finding(finding: Finding, colour: bool, width: int) -> Iterator[str]:
    word = finding.severity.upper()
    first, *more = wrapped(f"{title(finding)}  [{finding.code}]", width, f"{word}  ", "      ")
    yield f"{_word(finding.severity, colour)}{first.removeprefix(word)}"
    yield from more
    for fact in evidence(finding):
        yield from wrapped(fact, width, "    - ", "      ")
    yield from wrapped(advice(finding), width, "    > ", "      ")
    if pasted := command(finding):
        yield f"      {pasted}"  # alone and whole, to be pasted: `> ` before it would be a redirection


def _in_brief(finding: Finding, colour: bool) -> str:
    more = f": {command(finding)}" if finding.remedy.command else ""
    return f"{_word(finding.severity, colour)}  {title(finding)}{more}  [{finding.code}]"


def _word(severity: Severity, colour: bool) -> str:
    word = severity.upper()
    return f"\x1b[{_COLOURS[severity]}m{word}\x1b[0m" if colour else word


def _nothing_wrong(snapshot: Snapshot, samples: int, other: bool, width: int) -> Iterator[str]:
    """Say no more than was checked, and name what was not."""
    blind = {problem.process for problem in snapshot.problems if problem.process}
    if blind and blind.issuperset(process.id for process in snapshot.processes):
        yield f"Nothing is known: no process of {clean(snapshot.server.title)} can be read."
        return
    nothing = "Nothing else wrong" if other else "Nothing wrong"
    if snapshot.unread("private-locks"):
        nothing = f"Of the shared locks, {nothing.lower()}"  # first, so that it is not overlooked
    ended = "" if snapshot.alive else " The server has ended meanwhile."
    yield (
        f"{nothing} was seen in {counted(samples, 'sample')} over {age(snapshot.watched_s)} at "
        f"{clean(snapshot.server.title)} (PID {snapshot.server.pid}). Checked: {', '.join(_checked(snapshot))}.{ended}"
    )
    yield "Not checked:"
    for gap in not_checked(snapshot):
        yield from wrapped(not_checked_text(gap), width, "    - ", "      ")


def _checked(snapshot: Snapshot) -> Iterator[str]:
    locks = [lock for lock in snapshot.semaphores if not lock.signal]
    states = Counter(lock.state for lock in locks)
    by_state = f" ({', '.join(f'{count} {state}' for state, count in states.most_common())})" if states else ""
    blind = {problem.process for problem in snapshot.problems if problem.process}
    yield counted(len([each for each in snapshot.processes if each.id not in blind]), "process")
    yield f"{counted(len(locks), 'shared lock')}{by_state}"
    files = len(snapshot.locks) - len(snapshot.semaphores)
    if files:
        yield counted(files, "file lock")
    if snapshot.thread_locks:
        yield counted(len(snapshot.thread_locks), "private lock")
    if snapshot.shared_memory is not None and snapshot.shared_memory.leaked is not None:
        yield "/dev/shm"
