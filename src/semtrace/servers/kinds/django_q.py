"""django-q2's cluster: a sentinel, which the first process forks, forks workers, a monitor and a pusher.

django_q/cluster.py, worker.py, monitor.py, pusher.py (1.11). Titles are there with setproctitle only; without them
they all look alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from semtrace.model import Role
from semtrace.servers.kinds.kind import Family, Form, Kind, Relative

_TITLE = re.compile(r"qcluster \S+ (idle|processing|monitor|pusher)\b")
_ROLES: dict[str, Role] = {"idle": "worker", "processing": "worker", "monitor": "monitor", "pusher": "pusher"}


def _role(process: Relative, family: Family) -> Role:
    if family.of_root:
        return "supervisor"
    found = _TITLE.match(process.title)
    return _ROLES[found[1]] if found and family.parent_role == "supervisor" else "process"


def _serves(arguments: Sequence[str]) -> bool:
    return tuple(arguments[:1]) == ("qcluster",)


DJANGO_Q = Kind(
    name="django-q",
    distribution="django-q2",
    forms=(Form(frozenset({"manage.py", "django-admin"}), frozenset({"django"}), _serves),),
    title=re.compile(r"qcluster MainProcess "),
    role=_role,
)
