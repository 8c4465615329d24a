"""hypercorn: its first process starts each worker by multiprocessing, one or more (hypercorn/run.py, 0.18)."""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.servers.commandline import application_in, option
from semtrace.servers.kinds.kind import Form, Kind


def _several(arguments: Sequence[str]) -> bool:
    """Return False for `--workers 0`: then the first process serves by itself."""
    return option(arguments, "-w", "--workers") != "0"


HYPERCORN = Kind(
    name="hypercorn",
    distribution="hypercorn",
    forms=(Form(frozenset({"hypercorn"}), frozenset({"hypercorn"})),),
    several=_several,
    application=application_in,
    listens=True,
)
