"""hypercorn: its first process starts each worker by multiprocessing, one or more (hypercorn/run.py, 0.18)."""

from __future__ import annotations

from collections.abc import Sequence
from signal import Signals

from semtrace.servers.commandline import application_in, option
from semtrace.servers.kinds.kind import Form, Kind, Relative


def _several(arguments: Sequence[str]) -> bool:
    """Return False for `--workers 0`: then the first process serves by itself."""
    return option(arguments, "-w", "--workers") != "0"


def _works(process: Relative) -> bool:
    """It is spawned, and has inherited that INT is ignored (hypercorn/run.py, run)."""
    return not process.forked and not process.catches(Signals.SIGINT)


HYPERCORN = Kind(
    name="hypercorn",
    distribution="hypercorn",
    forms=(Form(frozenset({"hypercorn"}), frozenset({"hypercorn"})),),
    several=_several,
    application=application_in,
    listens=True,
    leads=(("/hypercorn/run.py", "run"),),
    works=_works,
)
