"""`semtrace doctor PID|FILE`: watches a server for a while, then reports what is wrong with it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from semtrace.commands.options import Parser, add_ignore, add_long, add_source, limits, only_one_time, seconds
from semtrace.console.printing import emit, emit_json, say, wants_colour, width, working
from semtrace.errors import EXIT_FINDINGS, EXIT_NOT_PERMITTED, EXIT_OK
from semtrace.lazydata import dataclass
from semtrace.model import CODES, Finding, Problem, SemId, Server, Snapshot
from semtrace.observe.observer import LONG_SEARCH_BUDGET_S, Observer
from semtrace.observe.pyspy import confirmed, with_stacks
from semtrace.record.replay import Replay, values_that_no_server_has
from semtrace.repairs.leaks import leaks
from semtrace.reports.diagnosis import as_severe_as, doctor_brief, doctor_json, doctor_text, is_news
from semtrace.rules import Limits, with_findings, worst_first
from semtrace.rules.coverage import nothing_seen
from semtrace.rules.memory import nearly_full
from semtrace.rules.passing import passed
from semtrace.servers import discovery
from semtrace.text import iso
from semtrace.tracing.follower import Follower

WATCH_S = 1.5

# A proof, a walk for names or a search that is under way at the end gets so much longer.
_PATIENCE_S = 12.0
# The same while a proof waits for the search of large memory on a machine that computes.
_SEARCH_PATIENCE_S = 30.0
_PAUSE_S = 0.05
# What becomes known late, as the names of private locks, is watched for so long at least: that two copies are held at
# once may be true for moments only.
_KNOWN_S = 1.0


def configure(command: Parser) -> None:
    command.explain(
        "Watches for a while and says what is wrong.",
        "semtrace doctor 4321  what is wrong now",
        "semtrace doctor --watch 4321  whenever that changes, until the server ends",
        "semtrace doctor --brief --fail-on warning 4321  one line a finding, for monitoring",
    )
    add_source(command)
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--brief", action="store_true", help="one line for each finding, without evidence and remedy")
    command.add_argument(
        "--for",
        dest="seconds",
        type=seconds,
        default=WATCH_S,
        metavar="SECONDS",
        help=f"watch for this long before judging (default: {WATCH_S})",
    )
    add_long(command)
    command.add_argument(
        "--watch", action="store_true", help="go on, and report whenever the findings change, until the server ends"
    )
    command.add_argument(
        "--fail-on",
        choices=("error", "warning", "note", "nothing"),
        default="error",
        metavar="SEVERITY",
        help="exit with 3 on findings as severe as this: error (the default), warning, note, or nothing",
    )
    add_ignore(command)


def run(options: argparse.Namespace) -> int:
    """Judge once; with `--watch` again whenever that changes. On a recording, judge what was seen."""
    if isinstance(options.pid, Path):
        return _recorded(options)
    patient = Doctor(discovery.choose(options.pid), limits(options))
    try:
        with working(f"watching the server of PID {patient.server.pid}"):  # one line for all rounds: else it blinks
            snapshot = _examine(patient, options)
            failed = as_severe_as(options.fail_on, snapshot)
            while options.watch and snapshot.alive:
                patient.forget_passed()
                snapshot = _examine(patient, options, partial(is_news, snapshot))
                failed |= as_severe_as(options.fail_on, snapshot)
    finally:
        patient.close()
    return _exit_code(failed, snapshot)


def _recorded(options: argparse.Namespace) -> int:
    """Judge the whole recording, a part of it, or one snapshot."""
    only_one_time(options)
    with Replay(options.pid, limits(options), say) as replay, values_that_no_server_has(options.pid):
        if options.at is not None:
            snapshot, samples = replay.at(options.at), 1
        else:
            snapshot, samples = replay.examined(options.since, options.until)
        _report(snapshot, samples, options)
    return _exit_code(as_severe_as(options.fail_on, snapshot), snapshot)


def _examine(
    patient: Doctor, options: argparse.Namespace, worth_it: Callable[[Snapshot], bool] = lambda snapshot: True
) -> Snapshot:
    """Watch once, and print what there is if that is `worth_it`."""
    diagnosis = patient.watch(options.seconds)
    if worth_it(diagnosis.snapshot):
        _report(diagnosis.snapshot, diagnosis.samples, options)
    return diagnosis.snapshot


def _exit_code(failed: bool, snapshot: Snapshot) -> int:
    if failed:
        return EXIT_FINDINGS
    return EXIT_NOT_PERMITTED if nothing_seen(snapshot) else EXIT_OK


def _report(snapshot: Snapshot, samples: int, options: argparse.Namespace) -> None:
    if options.json:
        emit_json(json.dumps(doctor_json(snapshot), indent=None if options.watch else 2), flush=options.watch)
    elif options.brief:
        emit(doctor_brief(snapshot, at=options.watch), flush=options.watch)
    else:
        lines = doctor_text(snapshot, samples, colour=wants_colour(), width=width())
        emit([f"At {iso(snapshot.taken_at)}:", "", *lines, ""] if options.watch else lines, flush=options.watch)


@dataclass(frozen=True)
class Diagnosis:
    """The last snapshot, with all that was found, and the number of samples."""

    snapshot: Snapshot
    samples: int


class Doctor:
    """Sample one server again and again, and keep findings that pass. It follows the events of traced locks."""

    def __init__(self, server: Server, limits: Limits, *, stacks: bool = True) -> None:
        self._observer = Observer(server, search_budget_s=LONG_SEARCH_BUDGET_S, trace_source=Follower(), limits=limits)
        self._limits = limits
        self._stacks = stacks
        self._seen: dict[Hashable, tuple[float, Finding]] = {}
        self._samples = 0

    def close(self) -> None:
        self._observer.close()

    def watch(self, seconds: float = WATCH_S) -> Diagnosis:
        """Sample for so long, a little longer if a decision is near, and judge."""
        began = known = time.monotonic()
        snapshot = self._sample()
        while snapshot.alive and self._goes_on(time.monotonic() - began, seconds, time.monotonic() - known):
            time.sleep(_PAUSE_S)
            unread = self._observer.unread()
            snapshot = self._sample()
            known = time.monotonic() if unread else known
        return Diagnosis(self._judge(snapshot), self._samples)

    @property
    def server(self) -> Server:
        return self._observer.server

    def forget_passed(self) -> None:
        """Clear the findings so far, so that the next judgement does not report them again."""
        self._seen.clear()

    def _goes_on(self, passed_s: float, seconds: float, known_s: float) -> bool:
        if passed_s < seconds + _PATIENCE_S:
            late = known_s < min(seconds, _KNOWN_S) or self._observer.undecided() or self._observer.unnamed()
            return passed_s < seconds or late
        return passed_s < seconds + _SEARCH_PATIENCE_S and self._observer.searches_for_proof()

    def _sample(self) -> Snapshot:
        self._samples += 1
        snapshot = self._observer.snapshot()
        passing = [finding for finding in snapshot.findings if CODES[finding.code].passes]
        if new := [finding for finding in passing if finding.key not in self._seen]:
            snapshot = self._with_stacks(snapshot, new)  # now, for soon it may be over
        for finding in snapshot.findings:
            if CODES[finding.code].passes:
                self._seen[finding.key] = (snapshot.monotonic_s, self._better(finding))
        return snapshot

    def _better(self, finding: Finding) -> Finding:
        """Return the one with the stack, which only the first has."""
        _, before = self._seen.get(finding.key, (0.0, finding))
        return before if _located(before) > _located(finding) else finding

    def _judge(self, snapshot: Snapshot) -> Snapshot:
        server = snapshot.server
        room = snapshot.shared_memory
        doubts: tuple[Problem, ...] = ()
        if snapshot.alive and room is not None:
            found = leaks(server.pid, young=nearly_full(room))
            snapshot, doubts = replace(snapshot, shared_memory=replace(room, leaked=found.names)), found.problems
        if snapshot.alive and self._observer.unread():
            doubts = (*doubts, _UNREAD)
        if snapshot.alive and self._stacks:
            snapshot = self._snapshot_with_stacks(snapshot)
        snapshot = with_findings(snapshot, self._limits)
        return replace(
            snapshot,
            findings=worst_first((*snapshot.findings, *passed(self._seen, snapshot))),
            problems=(*snapshot.problems, *unknown_timeout(server), *doubts),
        )

    def _with_stacks(self, snapshot: Snapshot, new: Iterable[Finding]) -> Snapshot:
        locks = [lock.id for finding in new for lock in finding.locks if lock.id is not None]
        if not self._stacks or not locks:
            return snapshot
        return with_findings(self._snapshot_with_stacks(snapshot, locks), self._limits)

    def _snapshot_with_stacks(self, snapshot: Snapshot, locks: Iterable[SemId] | None = None) -> Snapshot:
        """Return it with stacks. These are taken a little later, and the thread may have gone on meanwhile."""
        stacked = with_stacks(snapshot, locks)
        return stacked if stacked is snapshot else confirmed(stacked, self._observer.snapshot())


_UNREAD = Problem(
    "read all of its memory",
    "the reading had not ended when doctor did",
    "names, owners and findings may be missing: give doctor a longer --for",
    unread="memory",
)


def unknown_timeout(server: Server) -> Iterator[Problem]:
    """Yield a problem if gunicorn's --timeout is unknown: doctor cannot warn then before a worker is killed."""
    if server.kind == "gunicorn" and server.timeout_s is None:
        yield Problem(
            "tell gunicorn's --timeout",
            "neither its command line nor its memory shows it",
            "so findings do not show which worker gunicorn is about to kill, or has killed",
            unread="timeout",
        )


def _located(finding: Finding) -> int:
    return sum(thread.place is not None for thread in finding.threads)
