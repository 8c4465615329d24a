"""`semtrace serve`: the live view in browsers, until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

from semtrace.commands.options import Parser, add_audit, add_pid, add_view, port
from semtrace.console.printing import emit, say
from semtrace.errors import SemtraceError
from semtrace.linux import files
from semtrace.servers import discovery


def configure(command: Parser) -> None:
    command.explain(
        "Serves the live view to browsers, at an address that nobody can guess. Anyone who has it can watch.",
        "semtrace serve 4321  prints the address to open",
    )
    add_pid(command)
    command.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="listen there (default: 127.0.0.1, this machine alone)"
    )
    command.add_argument(
        "--port", type=port, default=8321, metavar="PORT", help="listen there (default: 8321; 0: any that is free)"
    )
    command.add_argument("--allow-release", action="store_true", help="anyone with the address can release locks, too")
    add_view(command)
    add_audit(command)


def run(options: argparse.Namespace) -> int:
    """Report what is wrong before listening: a user of the page could do nothing about it."""
    if find_spec("textual_serve") is None:
        raise SemtraceError("serve needs the package textual-serve", "pip install 'semtrace[serve]'")
    from semtrace.commands.live import settings_of
    from semtrace.web import complaints, gate, invitation, server, view_process

    if options.pid is not None or not discovery.find_servers():
        discovery.choose(options.pid)
    settings_of(options)
    files.allow_many()
    with server.listen(options.host, options.port) as listening:
        host, number = listening.getsockname()[:2]
        entrance = gate.gate_for(host, invitation.names())
        site = server.Site(entrance, view_process.command([*_arguments_of_a_page(options)]), say)
        address = gate.address(host, number, entrance.token)
        out = sys.stdout

        def ready() -> None:
            with redirect_stdout(out):
                emit(invitation.lines(address, host, number, options.allow_release))

        complained = complaints.Complaints(say)
        # textual-serve prints what a live view says in its last moments.
        with complaints.heard(complained), redirect_stdout(complaints.Stream(complained)):
            return asyncio.run(server.serve(site, listening, ready))


def _arguments_of_a_page(options: argparse.Namespace) -> Iterator[str]:
    yield "attach"
    if options.pid is not None:
        yield str(options.pid)
    yield f"--browser={'act' if options.allow_release else 'look'}"
    if options.interval is not None:
        yield f"--interval={options.interval}"
    if options.ascii:
        yield "--ascii"
    if options.audit is not None:
        yield f"--audit={Path(options.audit).absolute()}"
