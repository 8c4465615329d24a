"""Answers in one line whether servers move: `semtrace check`, for probes."""

from __future__ import annotations

import time

from semtrace.errors import EXIT_FINDINGS, EXIT_NOT_PERMITTED, EXIT_OK, NoServer
from semtrace.lazydata import dataclass
from semtrace.model import FindingCode, Server, Snapshot
from semtrace.observe.observer import LONG_SEARCH_BUDGET_S, Observer
from semtrace.present.headline import headline_text
from semtrace.rules import Limits
from semtrace.rules.headline import Headline, headline
from semtrace.servers import gunicorn
from semtrace.text import clean, clip

# Two snapshots suffice for a server that moves. Where a worker waits, or a proof is under way, more are taken.
_LEAST_LOOKS = 2
_PAUSE_S = 0.02
_PATIENCE_S = 3.0

# An error in how locks are made is there from the beginning: the server moves, and a restart does not help.
_DESIGN = (FindingCode.UNSHARED_LOCK, FindingCode.PRIVATE_LOCK)

_LONGEST = 200


@dataclass(frozen=True)
class Answer:
    """What is said of one server, and the exit code that follows."""

    server: Server
    line: Headline
    exit_code: int


def check(pid: int | None, limits: Limits) -> tuple[str, int]:
    """Return the line about the server of that process, or about the worst of all gunicorns, and the exit code."""
    servers = (gunicorn.server_of(pid),) if pid is not None else gunicorn.find_servers()
    if not servers:
        raise NoServer("no gunicorn is running on this machine", "give the PID of the server to check")
    answers = [answer_for(server, limits) for server in servers]
    worst = max(answers, key=lambda answer: (EXIT_OK, EXIT_NOT_PERMITTED, EXIT_FINDINGS).index(answer.exit_code))
    line = headline_text(worst.line)
    if len(answers) > 1:
        fine = sum(answer.exit_code == EXIT_OK for answer in answers)
        line = f"{line} (PID {worst.server.pid}; {fine} of {len(answers)} servers are fine)"
    return clip(clean(line), _LONGEST), worst.exit_code


def answer_for(server: Server, limits: Limits) -> Answer:
    observer = Observer(server, search_budget_s=LONG_SEARCH_BUDGET_S, limits=limits)
    try:
        snapshot = _decided(observer)
    finally:
        observer.close()
    if not snapshot.alive:
        raise NoServer(f"process {server.pid} has ended", "`semtrace ps` lists the gunicorns of this machine")
    line = headline(snapshot)
    return Answer(server, line, _exit_code(line, snapshot))


def _decided(observer: Observer) -> Snapshot:
    deadline_s = time.monotonic() + _PATIENCE_S
    snapshot, looks = observer.snapshot(), 1
    while snapshot.alive and (looks < _LEAST_LOOKS or _may_change(observer, snapshot)):
        if time.monotonic() > deadline_s:
            break
        time.sleep(_PAUSE_S)
        snapshot, looks = observer.snapshot(), looks + 1
    return snapshot


def _may_change(observer: Observer, snapshot: Snapshot) -> bool:
    """Return True if a server that seems to move may still be found to be stuck, or the reason is still unknown."""
    line = headline(snapshot)
    if _exit_code(line, snapshot) == EXIT_FINDINGS:
        return False
    waits = line.workers.count("waiting") + line.workers.count("stuck")
    return observer.deciding() or (waits > 0 and observer.undecided())


def _exit_code(line: Headline, snapshot: Snapshot) -> int:
    if any(each.severity == "error" and each.over_s is None and each.code not in _DESIGN for each in snapshot.findings):
        return EXIT_FINDINGS
    return EXIT_NOT_PERMITTED if line.verdict == "unknown" else EXIT_OK
