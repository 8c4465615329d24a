"""uvicorn with `--workers` or `--reload`: its supervisor spawns each worker by multiprocessing.

uvicorn/main.py, supervisors/multiprocess.py, basereload.py (0.54). The supervisor runs no application, except in a
script that calls `uvicorn.run`.
"""

from __future__ import annotations

from collections.abc import Sequence
from signal import Signals

from semtrace.servers.commandline import application_in, number
from semtrace.servers.kinds.kind import Form, Kind, Relative


def _several(arguments: Sequence[str]) -> bool:
    return (number(arguments, "--workers") or 1) > 1 or "--reload" in arguments


def _works(process: Relative) -> bool:
    """It is spawned, and handles TERM (uvicorn/server.py)."""
    return not process.forked and process.catches(Signals.SIGTERM)


UVICORN = Kind(
    name="uvicorn",
    distribution="uvicorn",
    forms=(Form(frozenset({"uvicorn"}), frozenset({"uvicorn", "uvicorn.main"})),),
    several=_several,
    application=application_in,
    listens=True,
    leads=(("/uvicorn/supervisors/multiprocess.py", "run"), ("/uvicorn/supervisors/basereload.py", "run")),
    works=_works,
)
