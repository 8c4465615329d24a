"""`semtrace metrics`: samples servers and exports what it finds, until a signal ends it."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from semtrace.commands.options import Parser, add_ignore, add_long, limits, pid, seconds
from semtrace.console.printing import say
from semtrace.console.signals import ending_on_signals
from semtrace.errors import NoServer, SemtraceError, UsageError
from semtrace.linux import files
from semtrace.linux.heap import Heap
from semtrace.servers import discovery

if TYPE_CHECKING:
    from semtrace.metrics.fleet import Fleet
    from semtrace.metrics.page import Pages

# How often all processes of the machine are asked whether they are a server.
_DISCOVER_S = 5.0
_TICK_S = 1.0
# Many servers are sampled one after another; a page for each would cost more than sampling.
_LEAST_GAP_S = 0.25
_SHARE = 0.05  # of a processor, for pages
_STALE_S = 30.0  # without a page for so long the command is not healthy
# A scrape needs the interpreter of the listener alone, but discovery and rendering should not wait for samplers.
_SWITCH_S = 0.001

Put = Callable[["Fleet", "Pages"], None]


def configure(command: Parser) -> None:
    command.explain(
        "Exports metrics of servers, for Prometheus to scrape or for node_exporter's textfile collector.",
        "semtrace metrics  of all gunicorns, at http://127.0.0.1:9877/metrics",
        "semtrace metrics --textfile /var/lib/node_exporter/semtrace.prom  for node_exporter",
    )
    command.add_argument("pid", nargs="*", type=pid, metavar="PID", help="watch only the servers of these processes")
    command.add_argument("--all", action="store_true", help="watch all gunicorns, as they come and go (the default)")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--listen", metavar="ADDRESS", help="listen there (default: 127.0.0.1:9877, this machine alone)")
    where.add_argument("--textfile", metavar="FILE", help="write them to this file instead; its name ends with .prom")
    command.add_argument(
        "--interval", type=seconds, default=2.0, metavar="SECONDS", help="between two samples (default: 2)"
    )
    command.add_argument("--tls-cert", metavar="FILE", help="serve HTTPS with this certificate (PEM)")
    command.add_argument("--tls-key", metavar="FILE", help="its key, if the certificate's file does not have it")
    command.add_argument("--tls-client-ca", metavar="FILE", help="ask clients for a certificate of this authority")
    command.add_argument("--auth-file", metavar="FILE", help="ask clients for the USER:PASSWORD in this file")
    add_long(command)
    add_ignore(command)


def run(options: argparse.Namespace) -> int:
    """Return when all servers that were named have ended."""
    if find_spec("prometheus_client") is None:
        raise SemtraceError("metrics needs the package prometheus-client", "pip install 'semtrace[metrics]'")
    from semtrace.metrics.fleet import Fleet, of_pids
    from semtrace.metrics.page import Pages
    from semtrace.metrics.watch import Watch

    if options.all and options.pid:
        raise UsageError("--all and PIDs exclude each other", "leave out one of them")
    find = of_pids(options.pid) if options.pid else discovery.gunicorns
    judged_by = limits(options)
    sys.setswitchinterval(_SWITCH_S)
    files.allow_many()
    changed = threading.Event()
    with ending_on_signals(), _exporter(options) as put:
        fleet = Fleet(find, lambda server: Watch(server, options.interval, judged_by, changed.set, say))
        try:
            _follow(fleet, Pages(), put, changed, options)
        finally:
            fleet.stop()
    return 0


def _follow(fleet: Fleet, pages: Pages, put: Put, changed: threading.Event, options: argparse.Namespace) -> None:
    """Look for servers and hand over pages. Without a server there is a page, too, which says so."""
    discover_s = page_s = 0.0
    heap = Heap()
    refused = 0
    while True:
        now_s = time.monotonic()
        if now_s >= discover_s:
            fleet.scan()
            discover_s = now_s + _DISCOVER_S
            if fleet.refused and not refused:
                say(f"{fleet.refused} more servers are not watched")
            refused = fleet.refused
        if options.pid and not len(fleet):
            raise NoServer("the servers that were named have ended", "without PIDs all gunicorns are watched")
        gap_s = 0.0
        if changed.is_set() or now_s - page_s > _DISCOVER_S:
            changed.clear()
            page_s, began_s = now_s, time.thread_time()
            put(fleet, pages)
            costly_s = min((time.thread_time() - began_s) / _SHARE, _DISCOVER_S)
            gap_s = max(_LEAST_GAP_S, options.interval / 2, costly_s)
        heap.tidy()
        time.sleep(gap_s)
        changed.wait(_TICK_S)


@contextmanager
def _exporter(options: argparse.Namespace) -> Iterator[Put]:
    if options.textfile is None:
        with _listening(options) as put:
            yield put
        return
    from semtrace.metrics import textfile

    path = Path(options.textfile)
    if any((options.tls_cert, options.tls_key, options.tls_client_ca, options.auth_file)):
        raise UsageError("a file has no TLS and no password", "give them with --listen")
    textfile.check(path)
    writer = textfile.Writer(path, say)
    try:
        yield lambda fleet, pages: writer.write(pages.plain(fleet.readings()))
    finally:
        textfile.remove(path)


@contextmanager
def _listening(options: argparse.Namespace) -> Iterator[Put]:
    from semtrace.metrics import access, listener

    host, port = access.parse(options.listen or access.DEFAULT)
    tls = access.tls_context(options.tls_cert, options.tls_key, options.tls_client_ca)
    entrance = access.Access(tls, access.authorization(options.auth_file))
    listening = access.listen(host, port)
    port = listening.getsockname()[1]
    if not access.is_loopback(host) and entrance.authorization is None and options.tls_client_ca is None:
        say("everybody who reaches this machine can read the metrics: --auth-file and --tls-client-ca limit that")
    stale_s = max(_STALE_S, 5 * options.interval)
    with listener.started(listening, entrance, stale_s) as server:
        shown = f"[{host}]" if ":" in host else host or "*"
        say(f"metrics are at http{'s' if tls else ''}://{shown}:{port}/metrics")

        def put(fleet: Fleet, pages: Pages) -> None:
            server.check()
            readings = fleet.readings()
            if server.wants_openmetrics():
                page = pages.render(readings)
                server.put(page.plain, page.openmetrics)
            else:
                server.put(pages.plain(readings), None)

        yield put
