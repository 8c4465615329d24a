"""`semtrace open FILE`: the live view of a recording."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from semtrace.commands.options import FORMS, Parser, add_ignore, add_view, moment


def configure(command: Parser) -> None:
    command.explain(
        "The live view of a recording: it plays, stands, goes by steps, and to the next finding.",
        "semtrace open shop.semrec  as if it were now",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a recording")
    command.add_argument("--at", type=moment, metavar="TIME", help=f"begin then, {FORMS}")
    add_view(command)
    add_ignore(command)


def run(options: argparse.Namespace) -> int:
    from semtrace.commands import live
    from semtrace.record.player import Player
    from semtrace.rules import Limits
    from semtrace.tui import app
    from semtrace.tui.state import Tools

    live.need_terminal(f"semtrace dump {options.file}")
    settings = live.settings_of(options)
    player = Player(options.file, Limits(ignore=frozenset(settings.ignore)), options.at)
    server = player.snapshot().server
    tools = Tools(folder=settings.saves_in, player=player)
    threading.Thread(target=player.prepare, name="semtrace-overview", daemon=True).start()
    return app.run(
        lambda: (server,), lambda _: player, settings=settings, tools=tools, remembered=live.remembered(settings)
    )
