"""A gunicorn's settings as its master goes by them, out of its memory: no command line or configuration file need
tell them."""

from __future__ import annotations

from dataclasses import replace

from semtrace.cpython.arbiter import read_arbiter
from semtrace.linux.memory import Memory
from semtrace.linux.process import still
from semtrace.model import Server
from semtrace.servers.gunicorn_options import short_class


def effective(server: Server) -> Server:
    """The server with what its master says itself, which is more than what it was started with; unchanged where that
    cannot be read. Some milliseconds."""
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
    )


def _spelled(told: str | None, found: str | None) -> str | None:
    """A class goes by the path by which it was asked for, which need not be where it was made."""
    if found is None:
        return told
    same = told is not None and told.rpartition(".")[2] == found.rpartition(".")[2]
    return told if same else short_class(found)
