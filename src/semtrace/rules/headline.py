"""The one line that answers whether a server moves. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semtrace.model import CODES, Finding, FindingCode, Snapshot, Target
from semtrace.waits.workers import Workers, serving_waits, worker_states

Verdict = Literal["stuck", "deadlock", "orphaned", "error", "waiting", "warning", "ok", "unknown", "ended"]

_WORDS: dict[FindingCode, Verdict] = {
    FindingCode.STUCK: "stuck",
    FindingCode.WORKER_DIED: "stuck",
    FindingCode.DEADLOCK: "deadlock",
    FindingCode.ORPHANED_LOCK: "orphaned",
}


@dataclass(frozen=True, slots=True)
class Headline:
    """`verdict` in a word, and `workers` by their state. `finding` is the worst one where the verdict comes from it.

    `blocked` workers wait for `target`, the thing that most of them wait for; since `since_at`, in seconds since the
    epoch.
    """

    verdict: Verdict
    workers: Workers
    finding: Finding | None = None
    blocked: int = 0
    target: Target | None = None
    since_at: float | None = None


def headline(snapshot: Snapshot) -> Headline:
    """Return the answer: what is proven stuck first, then what is an error, then what the workers do."""
    states = worker_states(snapshot)
    if not snapshot.alive:
        return Headline("ended", states)
    errors = [finding for finding in snapshot.findings if finding.severity == "error" and finding.over_s is None]
    worst = next((finding for finding in errors if finding.code in _WORDS), errors[0] if errors else None)
    warned = next((each for each in snapshot.findings if _is_warning(each)), None)
    blocked, target = _blocked(snapshot)
    since = None if worst is None or worst.since_s is None else snapshot.taken_at - worst.since_s
    if worst is not None:
        word = _WORDS.get(worst.code)
        return Headline(word, states, worst, blocked, target, since) if word else Headline("error", states, worst)
    if blocked and blocked == len(states):
        return Headline("waiting", states, None, blocked, target)
    if warned is not None:
        return Headline("warning", states, warned)
    blind = {problem.process for problem in snapshot.problems if problem.process}
    if blind and blind.issuperset(process.id for process in snapshot.processes):
        return Headline("unknown", states)
    return Headline("ok", states)


def _is_warning(finding: Finding) -> bool:
    """Return False for what concerns other programs: it says nothing about this server."""
    return finding.severity != "note" and finding.over_s is None and not CODES[finding.code].in_brief


def _blocked(snapshot: Snapshot) -> tuple[int, Target | None]:
    """Return how many workers are kept from their work, and by what most of them."""
    processes = {process.id: process for process in snapshot.processes}
    targets: dict[Target, int] = {}
    blocked = 0
    for worker in worker_states(snapshot).states:
        waits = [wait for wait in snapshot.waits.waits if wait.thread.process == worker]
        serving = serving_waits(processes[worker], waits)
        blocked += bool(serving)
        for target in {wait.target for wait in serving}:
            targets[target] = targets.get(target, 0) + 1
    return blocked, max(targets, key=lambda target: targets[target], default=None)
