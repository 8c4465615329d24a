"""granian: its first process starts each worker by multiprocessing, one or more.

granian/server/mp.py and common.py (2.8): with setproctitle it is called `granian asgi HOST:PORT APP`, and a
worker the same with `worker-1`.
"""

from __future__ import annotations

import re
from signal import Signals

from semtrace.servers.commandline import application_in
from semtrace.servers.kinds.kind import Form, Kind, Relative

_WORKER = re.compile(r" worker-\d+\Z")


def _works(process: Relative) -> bool:
    """It has its title, or its event loop handles TERM (granian/_signals.py, set_loop_signals)."""
    return process.catches(Signals.SIGTERM) or _WORKER.search(process.title) is not None


GRANIAN = Kind(
    name="granian",
    distribution="granian",
    forms=(Form(frozenset({"granian"}), frozenset({"granian"})),),
    title=re.compile(r"granian (?:asgi|asginl|rsgi|wsgi) (?!.* worker-\d+\Z)(?P<arguments>.*)"),
    application=application_in,
    listens=True,
    leads=(("/granian/server/common.py", "_serve_loop"), ("/granian/server/common.py", "_serve_with_reloader")),
    works=_works,
)
