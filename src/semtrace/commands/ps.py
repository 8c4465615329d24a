"""`semtrace ps`: the servers of this machine, how each fares, and their processes, as a table for people or as JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TimedOut  # another class than the built-in one up to Python 3.10
from dataclasses import replace
from typing import Any

from semtrace import text
from semtrace.commands.check import Answer, answer_for
from semtrace.commands.options import Parser
from semtrace.console.printing import emit
from semtrace.errors import EXIT_OK, SemtraceError
from semtrace.lazydata import dataclass
from semtrace.model import Process, ProcessId, Server
from semtrace.present.headline import headline_text
from semtrace.present.servers import kind_text
from semtrace.reports.schema import SCHEMA, process_json, server_json, states_json
from semtrace.rules import USUAL
from semtrace.servers import discovery, gunicornctl, processes
from semtrace.servers.kinds.gunicorn import control_socket
from semtrace.servers.tree import Member, Tree

CPU_INTERVAL_S = 0.2

# How long each server is watched for its health, and until when the last one has to have its turn.
_PATIENCE_S = 0.1
_HEALTH_S = 2.0
_AT_ONCE = 2


@dataclass(frozen=True)
class Listing:
    """One server with its processes, root first. `health` is None if it could not be checked in time."""

    server: Server
    processes: tuple[Process, ...]
    health: Answer | None = None


def configure(command: Parser) -> None:
    command.explain(
        "Lists the servers: gunicorn, uWSGI, uvicorn, hypercorn, granian, celery, dramatiq, huey, rq, django-q, and "
        "other Python programs in which at least two processes share a semaphore. Health comes from a short check: "
        "semtrace check PID checks for longer.",
        "semtrace ps  each with its workers, as a table",
        "semtrace ps --json  for programs",
    )
    command.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    emit(ps(options.json))
    return EXIT_OK


def ps(as_json: bool) -> Iterator[str]:
    """Yield the lines of `semtrace ps`. CPU is that of the last 0.2 s, from two samples: a kernel tick shows as 5 %.

    Control sockets are asked for settings that no command line shows, for at most 0.3 s each. The health of the servers
    is checked meanwhile.
    """
    taken_at = time.time()
    listings = _listings(discovery.find_servers())
    if as_json:
        yield from json.dumps(document(listings, taken_at), indent=2).split("\n")
    else:
        yield from lines(listings, taken_at)


def listing_of(server: Server) -> Listing:
    """Return the listing of one server, as `ps` shows it."""
    return _listings([server])[0]


def _listings(found: Sequence[Server]) -> tuple[Listing, ...]:
    if not found:
        return ()
    trees = [Tree(server) for server in found]
    handles = {member.id: processes.opened(member.id) for tree in trees for member in tree.refresh()}
    began = time.monotonic()
    health = _healths(found)
    servers = [_completed(tree.server) for tree in trees]
    time.sleep(max(CPU_INTERVAL_S - (time.monotonic() - began), 0))
    members = [(*tree.refresh(), *tree.trackers()) for tree in trees]
    return tuple(
        Listing(server, tuple(_process(member, handles.get(member.id)) for member in now), health.get(server.id))
        for server, tree, now in zip(servers, trees, members, strict=True)
        if tree.alive
    )


def _completed(server: Server) -> Server:
    return gunicornctl.completed(server, control_socket(server)) if server.kind == "gunicorn" else server


def _healths(servers: Sequence[Server]) -> Mapping[ProcessId, Answer]:
    """Check each server for a moment: that is enough to see what is stuck for certain. A server whose turn does not
    come in time is left out.
    """

    def ask(server: Server) -> Answer:
        return answer_for(server, USUAL, _PATIENCE_S)

    began = time.monotonic()
    pool = ThreadPoolExecutor(min(_AT_ONCE, len(servers)))
    asked = {server.id: pool.submit(ask, server) for server in servers}
    found = {}
    for process, future in asked.items():
        answer = _answer(future, max(_HEALTH_S - (time.monotonic() - began), 0))
        if answer is not None:
            found[process] = answer
    pool.shutdown(cancel_futures=True)
    return found


def _answer(future: Future[Answer], left_s: float) -> Answer | None:
    try:
        return future.result(left_s)
    except (SemtraceError, TimedOut):
        return None


def _process(member: Member, handle: processes.Handle | None) -> Process:
    process = member.process()
    used = processes.usage(handle) if handle else None
    if used is None:  # it came or went in the meantime
        return process
    return replace(process, state=used.state, cpu_percent=used.cpu_percent, rss=used.rss, threads=used.threads)


def lines(listings: Sequence[Listing], now: float) -> Iterator[str]:
    """Yield lines for people: each server with its kind, settings and health, and its processes below."""
    if not listings:
        yield "No pre-forked Python server is running on this machine."
    for number, listing in enumerate(listings):
        if number:
            yield ""
        yield from _server_lines(listing, now)
        yield from text.table(_rows(listing.processes, now), "><<>>>>>")


def _server_lines(listing: Listing, now: float) -> Iterator[str]:
    server = listing.server
    up = text.age(now - server.started_at)
    yield f"{kind_text(server)}, pid {server.pid}, user {text.clean(server.user)}, up {up}"
    yield f"  {text.clip(text.clean(server.title), 78)}"
    yield from _wrapped([f"{name} {text.clean(value or text.UNKNOWN)}" for name, value in _facts(listing)], 80)
    yield f"  {text.clip(text.clean(health_text(listing.health)), 78)}"


def _facts(listing: Listing) -> list[tuple[str, str | None]]:
    """Return all settings of a gunicorn, of others those that are known. Workers are counted if any are known."""
    server = listing.server
    workers = sum(process.role == "worker" for process in listing.processes)
    facts: list[tuple[str, str | None]] = [("application", server.application), ("bind", " ".join(server.bind) or None)]
    if server.kind == "gunicorn":
        facts.append(("worker class", server.worker_class))
        facts.append(("timeout", None if server.timeout_s is None else f"{server.timeout_s:g}s"))
        return [*facts, ("workers", str(workers))]
    known = [each for each in facts if each[1] is not None]
    return [*known, ("workers", str(workers))] if workers else known


def health_text(health: Answer | None) -> str:
    """Return `health: STUCK: …` or `health: 4 workers, 1 idle, 3 busy`: a moment is too short for `OK`, or to find that
    workers which wait are stuck.
    """
    if health is None:
        return "health: not checked"
    headline = headline_text(health.line).removeprefix("OK: ")
    unsure = health.open and health.line.workers.count("waiting")
    more = f"; not decided yet: semtrace check {health.server.pid}" if unsure else ""
    return f"health: {headline}{more}"


def _wrapped(facts: Sequence[str], width: int) -> Iterator[str]:
    """Yield the facts, separated by commas, in as few indented lines as they fit in. A fact is never broken."""
    line = ""
    for fact in facts:
        if line and len(line) + len(fact) + 5 > width:
            yield f"  {line},"
            line = fact
        else:
            line = f"{line}, {fact}" if line else fact
    if line:
        yield f"  {line}"


def _rows(processes: Sequence[Process], now: float) -> list[list[str]]:
    rows = [["PID", "ROLE", "STATE", "CPU%", "MEM", "THREADS", "AGE", "BEAT"]]
    rows += [
        [
            str(process.pid),
            process.role,
            process.state,
            text.percent(process.cpu_percent),
            text.size(process.rss),
            str(process.threads),
            text.age(now - process.started_at),
            text.age(process.last_heartbeat_s),
        ]
        for process in processes
    ]
    return rows


def document(listings: Sequence[Listing], taken_at: float) -> dict[str, Any]:
    """Return the JSON for programs, schema 1. Unmeasured values are null, also `holds` and `waits_on`: see `dump`."""
    return {
        "schema": SCHEMA,
        "taken_at": text.iso(taken_at),
        "servers": [_server_document(listing) for listing in listings],
        "problems": [],
    }


def _server_document(listing: Listing) -> dict[str, Any]:
    processes = [{**process_json(process), "holds": None, "waits_on": None} for process in listing.processes]
    return {**server_json(listing.server), "processes": processes, "health": _health_document(listing.health)}


def _health_document(health: Answer | None) -> dict[str, Any] | None:
    """`verdict` is `ok` only for a server that was watched for long enough; otherwise null."""
    if health is None:
        return None
    line = health.line
    settled = line.verdict != "ok" or not health.open
    return {
        "verdict": line.verdict if settled else None,
        "text": health_text(health).removeprefix("health: "),
        "finding": str(line.finding.code) if line.finding else None,
        **states_json(line.workers),
    }
