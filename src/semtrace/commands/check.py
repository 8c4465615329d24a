"""Answers in one line whether servers move: `semtrace check`, for probes."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Mapping, Sequence
from itertools import repeat

from semtrace.commands.options import Parser, add_ignore, add_long, add_pid, limits
from semtrace.console.printing import emit
from semtrace.errors import EXIT_FINDINGS, EXIT_NOT_PERMITTED, EXIT_OK, NoServer
from semtrace.lazydata import dataclass
from semtrace.model import FindingCode, Server, Snapshot
from semtrace.observe.history.resting import KNOWN_AFTER_S, Thread, resting, still_resting
from semtrace.observe.observer import LONG_SEARCH_BUDGET_S, Observer
from semtrace.present.headline import headline_text
from semtrace.rules import Limits
from semtrace.rules.dying import may_be_dying
from semtrace.rules.headline import Headline, headline
from semtrace.servers import discovery
from semtrace.text import clean, clip
from semtrace.waits.workers import serving_waits_by_worker

# Two snapshots suffice for a server that moves. Where a worker has waited for long, a proof is under way, or
# nobody knows for how long a thread has slept, more are taken.
_LEAST_SAMPLES = 2
_PAUSE_S = 0.02
_PATIENCE_S = 3.0
_NAMES_S = 1.0  # a name does not change the answer: it only says where to look
_LONG_S = 1.0

# An error in how locks are made is there from the beginning: the server moves, and a restart does not help.
_DESIGN = (FindingCode.UNSHARED_LOCK, FindingCode.PRIVATE_LOCK)

_LONGEST = 200
_MOST_AT_ONCE = 16


@dataclass(frozen=True)
class Answer:
    """The line for one server, and the exit code that follows."""

    server: Server
    line: Headline
    exit_code: int
    open: bool = False


def configure(command: Parser) -> None:
    command.explain(
        "Says in one line whether the server moves. Exits with 3 if it is stuck, deadlocked or keeps all its workers "
        "waiting, or if a lock is orphaned. Without PID it checks all gunicorns of this machine.",
        "semtrace check  for cron and probes: a line and an exit code",
        "semtrace check 4321  of one server",
    )
    add_pid(command)
    add_long(command)
    add_ignore(command)


def run(options: argparse.Namespace) -> int:
    gc.disable()  # in a process of half a second the collector finds nothing, and takes a tenth of the time
    try:
        line, code = check(options.pid, limits(options))
        emit([line])
        return code
    finally:
        gc.freeze()  # nor does it at the end, where Python calls it all the same


def check(pid: int | None, limits: Limits) -> tuple[str, int]:
    """Return the line about the server of that process, or about the worst of all gunicorns, and the exit code."""
    if pid is not None:
        answers = [answer_for(discovery.server_of(pid), limits)]
    else:
        answers = _of_all(discovery.gunicorns(), limits)
    if not answers:
        raise NoServer("no gunicorn is running on this machine", "give the PID of the server to check")
    worst = max(answers, key=lambda answer: (EXIT_OK, EXIT_NOT_PERMITTED, EXIT_FINDINGS).index(answer.exit_code))
    line = headline_text(worst.line)
    if len(answers) > 1:
        fine = sum(answer.exit_code == EXIT_OK for answer in answers)
        line = f"{line} (PID {worst.server.pid}; {fine} of {len(answers)} servers are fine)"
    return clip(clean(line), _LONGEST), worst.exit_code


def _of_all(servers: Sequence[Server], limits: Limits) -> list[Answer]:
    """Return the answers for those that do not end meanwhile. They wait for their evidence at the same time."""
    if len(servers) < 2:
        found = map(_answer_or_none, servers, repeat(limits))
        return [answer for answer in found if answer is not None]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        return [answer for answer in pool.map(_answer_or_none, servers, repeat(limits)) if answer is not None]


def _answer_or_none(server: Server, limits: Limits) -> Answer | None:
    try:
        return answer_for(server, limits)
    except NoServer:
        return None


def answer_for(server: Server, limits: Limits, patience_s: float = _PATIENCE_S) -> Answer:
    """Return the answer after at most `patience_s` of watching, more or less; it is `open` if that was too short."""
    observer = Observer(server, search_budget_s=LONG_SEARCH_BUDGET_S, limits=limits, names_at_once=False)
    try:
        snapshot, is_open = _decided(observer, patience_s)
        snapshot = _named(observer, snapshot)
    finally:
        observer.close()
    if not snapshot.alive:
        raise NoServer(f"process {server.pid} has ended", "`semtrace ps` lists the servers of this machine")
    line = headline(snapshot)
    return Answer(server, line, _exit_code(line, snapshot), is_open)


def _decided(observer: Observer, patience_s: float) -> tuple[Snapshot, bool]:
    """Return the snapshot to judge by, and whether more of them could still change the answer."""
    deadline_s = time.monotonic() + patience_s
    snapshot, samples = observer.snapshot(), 1
    at_rest = resting(snapshot)
    while snapshot.alive and (samples < _LEAST_SAMPLES or _may_change(observer, snapshot, at_rest)):
        if samples >= _LEAST_SAMPLES and time.monotonic() > deadline_s:
            return snapshot, True
        time.sleep(_PAUSE_S)
        snapshot, samples = observer.snapshot(), samples + 1
        at_rest = still_resting(at_rest)
    return snapshot, False


def _named(observer: Observer, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot, or a later one in which the locks that the line is about have their names."""
    deadline_s = time.monotonic() + _NAMES_S
    while snapshot.alive and _lacks_names(snapshot) and observer.unread() and time.monotonic() < deadline_s:
        time.sleep(_PAUSE_S)
        snapshot = observer.snapshot()
    return snapshot


def _lacks_names(snapshot: Snapshot) -> bool:
    line = headline(snapshot)
    about = {target.semaphore for target in line.targets}
    about |= {lock.id for lock in line.finding.locks} if line.finding is not None else set()
    return any(lock.id in about and lock.name is None and lock.part_of is None for lock in snapshot.semaphores)


def _may_change(observer: Observer, snapshot: Snapshot, resting: Mapping[Thread, int]) -> bool:
    """Return True if a server that seems to move may still be found to be stuck, or the reason is still unknown."""
    line = headline(snapshot)
    if _exit_code(line, snapshot) == EXIT_FINDINGS:
        return False
    serving = (wait for waits in serving_waits_by_worker(snapshot).values() for wait in waits)
    waits = any((wait.asleep_s or 0.0) >= _LONG_S for wait in serving)
    if may_be_dying(snapshot) or observer.deciding() or (waits and observer.undecided()):
        return True
    return (waits or bool(resting)) and snapshot.watched_s < KNOWN_AFTER_S


def _exit_code(line: Headline, snapshot: Snapshot) -> int:
    if any(each.severity == "error" and each.over_s is None and each.code not in _DESIGN for each in snapshot.findings):
        return EXIT_FINDINGS
    return EXIT_NOT_PERMITTED if line.verdict == "unknown" else EXIT_OK
