"""The one line that answers whether a server moves. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from semtrace.model import CODES, Finding, FindingCode, NotChecked, Snapshot, Target, Unchecked, Wait
from semtrace.rules.coverage import not_checked
from semtrace.waits.workers import Workers, serving_waits, worker_states

Verdict = Literal["stuck", "deadlock", "orphaned", "error", "waiting", "warning", "ok", "unknown", "ended"]

_WORDS: dict[FindingCode, Verdict] = {
    FindingCode.STUCK: "stuck",
    FindingCode.WORKER_DIED: "stuck",
    FindingCode.DEADLOCK: "deadlock",
    FindingCode.ORPHANED_LOCK: "orphaned",
}

# Without these "OK" would be an answer to a smaller question.
_LARGE = (Unchecked.PROCESSES, Unchecked.PRIVATE_LOCKS)


@dataclass(frozen=True, slots=True)
class Headline:
    """`verdict` in a word, and `workers` by their state. `finding` is the worst one where the verdict comes from it.

    `blocked` workers are kept from their work, by what the finding is about where there is one; `on_target` of them
    wait for `target`, no other thing keeps more. `since_at` is in seconds since the epoch. `gaps` are large parts of
    the server that were not checked.
    """

    verdict: Verdict
    workers: Workers
    finding: Finding | None = None
    blocked: int = 0
    on_target: int = 0
    target: Target | None = None
    since_at: float | None = None
    gaps: tuple[NotChecked, ...] = ()


def headline(snapshot: Snapshot) -> Headline:
    """Return the answer: what is proven stuck first, then what is an error, then what the workers do."""
    states = worker_states(snapshot)
    if not snapshot.alive:
        return Headline("ended", states)
    errors = [finding for finding in snapshot.findings if finding.severity == "error" and finding.over_s is None]
    worst = next((finding for finding in errors if finding.code in _WORDS), errors[0] if errors else None)
    warned = next((each for each in snapshot.findings if _warns(each)), None)
    since = None if worst is None or worst.since_s is None else snapshot.taken_at - worst.since_s
    if worst is not None:
        word = _WORDS.get(worst.code)
        if word is None:
            return Headline("error", states, worst)
        return Headline(word, states, worst, *_blocked(snapshot, worst), since)
    blocked, on_target, target = _blocked(snapshot)
    if blocked and blocked == len(states):
        return Headline("waiting", states, None, blocked, on_target, target)
    if warned is not None:
        return Headline("warning", states, warned)
    blind = {problem.process for problem in snapshot.problems if problem.process}
    if blind and blind.issuperset(process.id for process in snapshot.processes):
        return Headline("unknown", states)
    gaps = tuple(gap for gap in not_checked(snapshot) if gap.what in _LARGE)
    return Headline("ok", states, gaps=gaps)


def _warns(finding: Finding) -> bool:
    """Return False for what is over, for notes, and for what other programs left on the machine."""
    return finding.severity != "note" and finding.over_s is None and not CODES[finding.code].in_brief


def _blocked(snapshot: Snapshot, finding: Finding | None = None) -> tuple[int, int, Target | None]:
    """Return how many workers are kept from their work, and by what most of them and how many: all workers, or those
    that the finding is about.
    """
    processes = {process.id: process for process in snapshot.processes}
    targets: dict[Target, int] = {}
    blocked = 0
    for worker in worker_states(snapshot).states:
        waits = [wait for wait in snapshot.waits.waits if wait.thread.process == worker]
        serving = _concerned(serving_waits(processes[worker], waits), finding)
        blocked += bool(serving)
        for target in {wait.target for wait in serving}:
            targets[target] = targets.get(target, 0) + 1
    most = max(targets, key=lambda target: targets[target], default=None)
    return blocked, targets[most] if most is not None else 0, most


def _concerned(waits: Iterable[Wait], finding: Finding | None) -> list[Wait]:
    if finding is None:
        return list(waits)
    threads = {(each.process, each.tid) for each in finding.threads}
    locks = {lock.id for lock in finding.locks if lock.id is not None}
    return [
        wait for wait in waits if wait.target.semaphore in locks or (wait.thread.process, wait.thread.tid) in threads
    ]
