"""`semtrace [attach] [PID]`: the live view of a server that runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from semtrace.commands.options import Parser, add_audit, add_ignore, add_pid, add_view
from semtrace.model import Server


def configure(command: Parser) -> None:
    command.explain(
        "The live view of a running server. Without PID of the only one, else of one that you choose.",
        "semtrace 4321  the server that this process belongs to",
        "semtrace  the only one, or a choice",
    )
    add_pid(command)
    add_view(command)
    add_ignore(command)
    add_audit(command)
    # For `serve`: the view of one page, which may only look, or act as well.
    command.add_argument("--browser", choices=("look", "act"), help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    from semtrace.commands import live
    from semtrace.servers import discovery
    from semtrace.tui import app

    if options.browser is None:
        live.need_terminal(f"semtrace dump --watch 1{' ' + str(options.pid) if options.pid else ''}")
    settings = live.settings_of(options)

    def find() -> Sequence[Server]:
        return discovery.find_servers() if options.pid is None else (discovery.server_of(options.pid),)

    with live.recording(settings) as recorder, live.releasing(options.audit) as release_it:
        tools = live.tools(settings, release_it, recorder)
        return app.run(
            lambda: find() or (discovery.choose(options.pid),),
            live.following(settings),
            settings=settings,
            tools=live.in_browser(tools, options.browser) if options.browser else tools,
            remembered=None if options.browser else live.remembered(settings),
        )
