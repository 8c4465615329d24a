"""`semtrace serve`: the live view in browsers, until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

from semtrace.errors import SemtraceError
from semtrace.linux import files
from semtrace.printing import emit, say
from semtrace.servers import discovery
from semtrace.showing import settings_of


def serve(options: argparse.Namespace) -> int:
    """Says what is wrong before it listens: whoever opens the page then could do nothing about it."""
    if find_spec("textual_serve") is None:
        raise SemtraceError("serve needs the package textual-serve", "pip install 'semtrace[serve]'")
    from semtrace.web import complaints, gate, invitation, server, session

    if options.pid is not None or not discovery.find_servers():
        discovery.choose(options.pid)
    settings_of(options)
    files.allow_many()
    with server.listen(options.host, options.port) as listening:
        host, port = listening.getsockname()[:2]
        entrance = gate.gate_for(host, invitation.names())
        site = server.Site(entrance, session.command([*_arguments_of_a_page(options)]), say)
        address = gate.address(host, port, entrance.token)
        out = sys.stdout

        def ready() -> None:
            with redirect_stdout(out):
                emit(invitation.lines(address, host, port, options.allow_release))

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
