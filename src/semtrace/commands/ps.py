"""`semtrace ps`: the gunicorns of this machine and their processes, as a table for people or as JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from semtrace import text
from semtrace.commands.options import Parser
from semtrace.console.printing import emit
from semtrace.errors import EXIT_OK
from semtrace.lazydata import dataclass
from semtrace.model import Process, Server
from semtrace.servers import gunicorn, gunicornctl, processes
from semtrace.servers.tree import Member, Tree

CPU_INTERVAL_S = 0.2

Json = dict[str, object]


@dataclass(frozen=True)
class Listing:
    """One server with its processes, root first."""

    server: Server
    processes: tuple[Process, ...]


def configure(command: Parser) -> None:
    command.explain(
        "Lists the gunicorns.", "semtrace ps  each with its workers, as a table", "semtrace ps --json  for programs"
    )
    command.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    emit(ps(options.json))
    return EXIT_OK


def ps(as_json: bool) -> Iterator[str]:
    """The lines of `semtrace ps`. CPU is that of the last 0.2 s, from two readings: a kernel tick shows as 5 %.

    Settings that no command line shows are asked of the control sockets, for at most 0.3 s each.
    """
    taken_at = time.time()
    listings = _listings()
    if as_json:
        yield from json.dumps(document(listings, taken_at), indent=2).split("\n")
    else:
        yield from lines(listings, taken_at)


def _listings() -> tuple[Listing, ...]:
    trees = [Tree(server) for server in gunicorn.find_servers()]
    handles = {member.id: processes.opened(member.id) for tree in trees for member in tree.refresh()}
    began = time.monotonic()
    servers = [gunicornctl.completed(tree.server, gunicorn.control_socket(tree.server)) for tree in trees]
    time.sleep(max(CPU_INTERVAL_S - (time.monotonic() - began), 0))
    members = [tree.refresh() for tree in trees]
    return tuple(
        Listing(server, tuple(_process(member, handles.get(member.id)) for member in now))
        for server, tree, now in zip(servers, trees, members, strict=True)
        if tree.alive
    )


def _process(member: Member, handle: processes.Handle | None) -> Process:
    process = member.process()
    used = processes.usage(handle) if handle else None
    if used is None:  # it came or went in the meantime
        return process
    return replace(process, state=used.state, cpu_percent=used.cpu_percent, rss=used.rss, threads=used.threads)


def lines(listings: Sequence[Listing], now: float) -> Iterator[str]:
    """For people: each server with a line of what it is, one of how it is set, and its processes below."""
    if not listings:
        yield "No gunicorn is running on this machine."
    for number, listing in enumerate(listings):
        if number:
            yield ""
        yield from _server_lines(listing, now)
        yield from text.table(_rows(listing.processes, now), "><<>>>>>")


def _server_lines(listing: Listing, now: float) -> Iterator[str]:
    server = listing.server
    workers = sum(process.role == "worker" for process in listing.processes)
    version = f" {server.version}" if server.version else ""
    yield f"gunicorn{version}, pid {server.pid}, user {text.clean(server.user)}, up {text.age(now - server.started_at)}"
    yield f"  {text.clip(text.clean(server.title), 78)}"
    facts = [
        ("application", server.application),
        ("bind", " ".join(server.bind) or None),
        ("worker class", server.worker_class),
        ("timeout", None if server.timeout_s is None else f"{server.timeout_s:g}s"),
        ("workers", str(workers)),
    ]
    yield from _wrapped([f"{name} {text.clean(value or text.UNKNOWN)}" for name, value in facts], 80)


def _wrapped(facts: Sequence[str], width: int) -> Iterator[str]:
    """The facts, separated by commas, in as few indented lines as they fit in; none is ever broken."""
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
    rows = [["PID", "ROLE", "STATE", "CPU%", "MEMORY", "THREADS", "AGE", "HEARTBEAT"]]
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


def document(listings: Sequence[Listing], taken_at: float) -> Json:
    """For programs: schema 1. What was not measured is null, `holds` and `waits_on` among it: `dump` tells those."""
    return {
        "schema": 1,
        "taken_at": text.iso(taken_at),
        "servers": [_server_document(listing) for listing in listings],
        "problems": [],
    }


def _server_document(listing: Listing) -> Json:
    server = listing.server
    return {
        "kind": server.kind,
        "pid": server.pid,
        "title": server.title,
        "version": server.version,
        "user": server.user,
        "application": server.application,
        "bind": list(server.bind),
        "worker_class": server.worker_class,
        "timeout_s": server.timeout_s,
        "started_at": text.iso(server.started_at),
        "processes": [_process_document(process) for process in listing.processes],
    }


def _process_document(process: Process) -> Json:
    return {
        "pid": process.pid,
        "ppid": process.ppid,
        "role": process.role,
        "state": process.state,
        "cpu_percent": None if process.cpu_percent is None else round(process.cpu_percent, 1),
        "rss": process.rss,
        "threads": process.threads,
        "started_at": text.iso(process.started_at),
        "last_heartbeat_s": None if process.last_heartbeat_s is None else round(process.last_heartbeat_s, 3),
        "holds": None,
        "waits_on": None,
    }
