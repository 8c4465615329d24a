"""uvicorn with `--workers` or `--reload`: its supervisor spawns each worker by multiprocessing.

uvicorn/main.py, supervisors/multiprocess.py, basereload.py (0.54). The supervisor runs no application.
"""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.servers.commandline import application_in, number
from semtrace.servers.kinds.kind import Form, Kind


def _several(arguments: Sequence[str]) -> bool:
    return (number(arguments, "--workers") or 1) > 1 or "--reload" in arguments


UVICORN = Kind(
    name="uvicorn",
    distribution="uvicorn",
    forms=(Form(frozenset({"uvicorn"}), frozenset({"uvicorn", "uvicorn.main"})),),
    several=_several,
    application=application_in,
    listens=True,
)
