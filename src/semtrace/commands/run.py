"""`semtrace run -- COMMAND`: a server of our own, traced, with the live view next to it or in our place."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from semtrace.commands.options import Parser, add_view
from semtrace.errors import UsageError
from semtrace.model import Server


def configure(command: Parser) -> None:
    command.explain(
        "Starts a server, traced, and the live view next to it.",
        "semtrace run -- gunicorn -w 4 --preload shop:app  with exact times of each lock",
    )
    command.add_argument("--headless", action="store_true", help="no live view: semtrace becomes the server")
    command.add_argument("--record", type=Path, metavar="FILE", help="also record it into this new file, with events")
    add_view(command)
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="-- gunicorn …", help="the server's command")


def run(options: argparse.Namespace) -> int:
    """Return the server's exit code once it has ended."""
    from semtrace.launch import launched

    if options.headless:
        if options.record is not None:
            raise UsageError("--record does not go with --headless", "use: semtrace record PID -o FILE --also-events")
        launched.replace_by(options.command)
    launched.check(options.command)
    return _with_view(options)


def _with_view(options: argparse.Namespace) -> int:
    from semtrace.commands import live
    from semtrace.console.printing import emit, pass_on, say
    from semtrace.console.signals import ending_on_signals
    from semtrace.launch.launched import Launched
    from semtrace.record import child
    from semtrace.tui import app

    live.need_terminal("semtrace run --headless -- …")
    settings = live.settings_of(options)
    if options.record is not None:
        child.check(options.record)
    with ending_on_signals(), live.recording(settings) as recorder, live.releasing(None) as release_it:
        launched = Launched(options.command)

        def find() -> Sequence[Server]:
            server = launched.server()
            if options.record is not None and recorder.path is None:
                recorder.start(server.pid, True, options.record)
            return (server,)

        try:
            code = app.run(
                find,
                live.following(settings),
                settings=settings,
                child=launched,
                tools=live.tools(settings, release_it, recorder),
                remembered=live.remembered(settings),
            )
        except BaseException:
            launched.stop(say)
            launched.forget()
            raise
    if launched.leave and launched.running:
        goes_on = f"process {launched.pid} runs on; its output goes to {launched.log}"
        emit([goes_on, "  a later `semtrace run` removes that file once the server has ended"])
        return code
    by_itself = not launched.running
    ended = launched.stop(say)
    if by_itself and ended:
        pass_on(launched.last_lines())  # they were in a pane, and go with it
    launched.forget()
    return ended
