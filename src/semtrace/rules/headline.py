"""The one line that answers whether a server moves. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Literal

from semtrace.lazydata import dataclass
from semtrace.model import CODES, Elapsed, Finding, FindingCode, NotChecked, Snapshot, Target, ThreadId, Unchecked, Wait
from semtrace.rules.coverage import not_checked
from semtrace.waits.workers import Workers, serving_waits_by_worker, worker_states

Verdict = Literal["stuck", "deadlock", "orphaned", "error", "waiting", "warning", "ok", "unknown", "ended"]

_WORDS: dict[FindingCode, Verdict] = {
    FindingCode.STUCK: "stuck",
    FindingCode.WORKER_DIED: "stuck",
    FindingCode.DEADLOCK: "deadlock",
    FindingCode.ORPHANED_LOCK: "orphaned",
}

# From then on the time of day is given in minutes, unless events know it exactly.
_OLD_S = 60.0

# Without these "OK" would be an answer to a smaller question.
_LARGE = (Unchecked.PROCESSES, Unchecked.PRIVATE_LOCKS, Unchecked.MEMORY, Unchecked.ASYNC_TASKS)


@dataclass(frozen=True)
class Headline:
    """`verdict` in a word, and `workers` by their state. `finding` is the worst one where the verdict comes from it.

    `blocked` workers are kept from their work, by what the finding is about where there is one. They wait for
    `targets`, the most wanted first; since `since_at`, in seconds since the epoch. `about`: that is a lower bound of an
    old wait, which two snapshots give a little differently. `gaps` are large parts of the server that were not checked.
    """

    verdict: Verdict
    workers: Workers
    finding: Finding | None = None
    blocked: int = 0
    targets: tuple[Target, ...] = ()
    since_at: float | None = None
    about: bool = False
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
        return Headline(word, states, worst, *_blocked(snapshot, worst), since, _is_rough(worst.since))
    blocked, targets = _blocked(snapshot)
    if blocked and blocked == len(states):
        return Headline("waiting", states, None, blocked, targets)
    if warned is not None:
        return Headline("warning", states, warned)
    blind = {problem.process for problem in snapshot.problems if problem.process}
    unread = snapshot.unread("private-locks") is not None  # a deadlock through them would not be seen
    if unread or (blind and blind.issuperset(process.id for process in snapshot.processes)):
        return Headline("unknown", states)
    gaps = tuple(gap for gap in not_checked(snapshot) if gap.what in _LARGE)
    return Headline("ok", states, gaps=gaps)


def _is_rough(since: Elapsed | None) -> bool:
    """Return True where the scheduler's clock, which shows how long a thread has slept, may differ by seconds."""
    return since is not None and since.measure != "exact" and since.seconds >= _OLD_S


def _warns(finding: Finding) -> bool:
    """Return False for what is over, for notes, and for what other programs left on the machine."""
    return finding.severity != "note" and finding.over_s is None and not CODES[finding.code].in_brief


def _blocked(snapshot: Snapshot, finding: Finding | None = None) -> tuple[int, tuple[Target, ...]]:
    """Return how many workers are kept from their work, and by what: of all workers, or of those that the finding is
    about.
    """
    targets: Counter[Target] = Counter()
    threads = set() if finding is None else _threads(finding, snapshot)
    blocked = 0
    for waits in serving_waits_by_worker(snapshot).values():
        serving = _concerned(waits, finding, threads)
        blocked += bool(serving)
        targets.update(dict.fromkeys((wait.target for wait in serving), 1))
    return blocked, tuple(target for target, _ in targets.most_common())


def _threads(finding: Finding, snapshot: Snapshot) -> set[ThreadId]:
    """Return the threads that the finding is about, and all that wait behind them."""
    whole = {each.process for each in finding.threads if each.tid is None}
    known = {ThreadId(each.process, each.tid) for each in finding.threads if each.tid is not None}
    known |= {wait.thread for wait in snapshot.waits.waits if wait.thread.process in whole}
    roots = [root for root in snapshot.waits.roots if any(wait.thread in known for wait in root.waits)]
    return known | {wait.thread for root in roots for wait in (*root.waits, *root.behind)}


def _concerned(waits: list[Wait], finding: Finding | None, threads: Collection[ThreadId]) -> list[Wait]:
    if finding is None:
        return waits
    return [wait for wait in waits if wait.thread in threads or _is_about(finding, wait.target)]


def _is_about(finding: Finding, target: Target) -> bool:
    return target.semaphore is not None and finding.concerns(target.semaphore)
