"""Make the manual page: `python docs/manpage.py` writes man/semtrace.1 from the parser of the command line.

It needs argparse-manpage, which the dev extra has. The file is committed, so that a build needs nothing more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from semtrace import __version__
from semtrace.commands.parsing import command_line

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "man" / "semtrace.1"
MORE = ROOT / "man" / "more.h2m"
TODAY = r"1970\-01\-01"  # what the epoch gives: the page must not change from day to day


def parser() -> argparse.ArgumentParser:
    """Return what argparse-manpage asks for."""
    return command_line()[0]


def page() -> str:
    """Return the page. The width of its usage lines does not depend on the terminal."""
    command = ["--pyfile", __file__, "--function", "parser", "--project-name", f"semtrace {__version__}"]
    command += ["--prog", "semtrace", "--manual-title", "User Commands", "--format", "single-commands-section"]
    command += ["--description", "show which worker of a pre-forked server holds which lock", "--include", str(MORE)]
    done = subprocess.run(
        [sys.executable, "-c", "from argparse_manpage.cli import main; main()", *command],
        env={**os.environ, "COLUMNS": "80", "SOURCE_DATE_EPOCH": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.replace(TODAY, "").replace("[PID] semtrace COMMAND", "[PID]\n.br\n.B semtrace\nCOMMAND")


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)}  {PAGE.stat().st_size / 1024:.0f} KB")
