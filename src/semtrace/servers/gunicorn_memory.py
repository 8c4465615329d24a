"""Settings in force of a gunicorn, read from its master's memory: no command line or configuration file is needed."""

from __future__ import annotations

from dataclasses import replace

from semtrace.cpython.arbiter import read_arbiter
from semtrace.linux.memory import Memory
from semtrace.linux.process import still
from semtrace.model import Server
from semtrace.servers.gunicorn_options import short_class


def effective(server: Server) -> Server:
    """Return the server with the settings from its master's memory, which may differ from those on its command line.

    Return it unchanged if the memory cannot be read. This takes some milliseconds.
    """
    if server.kind != "gunicorn":
        return server
    try:
        with Memory(server.pid) as memory:
            found = read_arbiter(server.pid, memory)
    except OSError:
        return server
    if found is None or not still(server.id):
        return server
    return replace(
        server,
        timeout_s=server.timeout_s if found.timeout_s is None else found.timeout_s,
        worker_class=_spelled(server.worker_class, found.worker_class),
        threads=found.threads,
    )


def _spelled(asked: str | None, found: str | None) -> str | None:
    """Return the name of the class as the user asked for it: its module may have another path."""
    if found is None:
        return asked
    same = asked is not None and asked.rpartition(".")[2] == found.rpartition(".")[2]
    return asked if same else short_class(found)
