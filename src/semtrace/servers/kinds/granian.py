"""granian: its first process starts each worker by multiprocessing, one or more.

granian/server/mp.py and common.py (2.8): with setproctitle it is called `granian asgi HOST:PORT APP`, and a
worker the same with `worker-1`.
"""

from __future__ import annotations

import re

from semtrace.servers.commandline import application_in
from semtrace.servers.kinds.kind import Form, Kind

GRANIAN = Kind(
    name="granian",
    distribution="granian",
    forms=(Form(frozenset({"granian"}), frozenset({"granian"})),),
    title=re.compile(r"granian (?:asgi|asginl|rsgi|wsgi) (?!.* worker-\d+\Z)(?P<arguments>.*)"),
    application=application_in,
    listens=True,
)
