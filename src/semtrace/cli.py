"""The entry point: reads the command line, gives up the rights that the command does not need, and runs it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from semtrace import commands
from semtrace.commands.parsing import parse
from semtrace.console.printing import lenient, tell
from semtrace.errors import EXIT_OK, SemtraceError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    lenient()
    typed = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(typed)
    if arguments is not None or getattr(options, "headless", False):  # then semtrace becomes the server
        return _run(options, typed)
    from semtrace.console.supervising import supervised

    # A second `run` would start a second server, a second `release --yes` may have acted already, and a page does not
    # understand a second live view.
    once = options.name in ("run", "record") or getattr(options, "yes", False) or getattr(options, "browser", None)
    left = "the server that it started runs on: `semtrace ps`, or ps, has its PID" if options.name == "run" else ""
    return supervised(lambda: _with_least_rights(options, typed), again=not once, left=left)


def _with_least_rights(options: argparse.Namespace, typed: Sequence[str]) -> int:
    """Run it without the rights that it does not need; the server that `run` starts keeps all of them."""
    from semtrace.linux import privileges

    kept = {"run": None, "serve": privileges.TO_SERVE, "metrics": privileges.TO_EXPORT}
    kept |= dict.fromkeys(("ps", "dump", "check"), privileges.TO_LOOK)
    if (rights := kept.get(options.name, privileges.TO_ACT)) is not None:
        privileges.drop_all_but(rights)
    return _run(options, typed)


def _run(options: argparse.Namespace, typed: Sequence[str]) -> int:
    from semtrace.linux.rights import started_with

    try:
        _refuse_other_systems()
        if options.name != "run" and not getattr(options, "browser", None):
            started_with(typed)  # one more server would be no help, and what `serve` starts nobody has typed
        return commands.load(options.name).run(options)
    except SemtraceError as error:
        return tell(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `semtrace dump | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def _refuse_other_systems() -> None:
    if sys.platform != "linux":
        raise SemtraceError(
            f"semtrace reads /proc as Linux has it; this is {sys.platform}", "run it on the server's machine"
        )
