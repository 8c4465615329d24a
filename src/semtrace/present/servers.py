"""A kind of server, in words."""

from __future__ import annotations

from semtrace.model import Server
from semtrace.text import clean


def kind_text(server: Server) -> str:
    """Return `gunicorn 27.0.1`, `celery`, `Python 3.11`."""
    name = "Python" if server.kind == "python" else server.kind
    return f"{name} {clean(server.version)}" if server.version else name
