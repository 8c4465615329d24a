"""The kinds of servers that are known, one file each. Any other Python is of the kind "python"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from semtrace.servers.kinds.celery import CELERY
from semtrace.servers.kinds.django_q import DJANGO_Q
from semtrace.servers.kinds.dramatiq import DRAMATIQ
from semtrace.servers.kinds.granian import GRANIAN
from semtrace.servers.kinds.gunicorn import GUNICORN
from semtrace.servers.kinds.huey import HUEY
from semtrace.servers.kinds.hypercorn import HYPERCORN
from semtrace.servers.kinds.kind import Kind
from semtrace.servers.kinds.rq import RQ
from semtrace.servers.kinds.uvicorn import UVICORN
from semtrace.servers.kinds.uwsgi import UWSGI

# In the order in which they are asked. gunicorn is the first: it knows its masters by their handlers.
KINDS: tuple[Kind, ...] = (
    GUNICORN,
    UWSGI,
    UVICORN,
    HYPERCORN,
    GRANIAN,
    CELERY,
    DRAMATIQ,
    HUEY,
    RQ,
    DJANGO_Q,
)
BY_NAME = {kind.name: kind for kind in KINDS}

# A command line without any of these words starts none of them: asked of every process of the machine.
_WORDS = re.compile(rb"uwsgi|uvicorn|hypercorn|granian|celery|dramatiq|huey|\brq|qcluster", re.IGNORECASE)


def may_name_one(raw: bytes) -> bool:
    """Return False for what cannot be a command line, or the name, of a server other than gunicorn."""
    return _WORDS.search(raw) is not None


def named_by(command: Sequence[str]) -> Kind | None:
    """Return the kind that a command line starts, or that a root is called by."""
    return next((kind for kind in KINDS if kind.arguments(command) is not None), None)
