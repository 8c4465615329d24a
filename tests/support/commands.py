"""The command line in a process of its own, as this user or as another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import semtrace

SOURCE = str(Path(semtrace.__file__).parents[1])
NOBODY = 65534


def run(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "semtrace", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": SOURCE, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


# All is imported before the change of user: the other user may not be let in to where this Python is installed.
AS_USER = """
import contextlib, ctypes, importlib, io, json, os, pkgutil, sys
sys.path.insert(0, sys.argv[2])
import semtrace
for found in pkgutil.walk_packages(semtrace.__path__, "semtrace."):
    if ".tui" not in found.name and "__main__" not in found.name:
        importlib.import_module(found.name)
from semtrace.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    main(["dump", str(os.getpid())]), main(["dump", str(os.getpid()), "--json"])
user = int(sys.argv[1])
os.setgroups([]); os.setgid(user); os.setuid(user)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
sys.exit(main(sys.argv[3:]))
"""


def run_as(user: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AS_USER, str(user), SOURCE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
