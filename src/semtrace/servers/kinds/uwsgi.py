"""uWSGI, a program in C that has Python in it. Its first process forks workers, mules, spoolers and routers.

core/master_utils.c:711 (2.0.31): a worker handles WINCH. Mules, spoolers and gateways do not. Titles
are there with --auto-procname only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from signal import Signals

from semtrace.model import Role
from semtrace.servers.commandline import option
from semtrace.servers.kinds.kind import Family, Form, Kind, Relative

_NAMES = frozenset({"uwsgi", "uwsgi-core", "uwsgi_python3", "pyuwsgi"})
_TITLE = re.compile(r"uWSGI (worker|mule|spooler|http|https|fastrouter|master)\b")
_ROLES: dict[str, Role] = {
    "worker": "worker",
    "mule": "mule",
    "spooler": "spooler",
    "http": "router",
    "https": "router",
    "fastrouter": "router",
}


def _role(process: Relative, family: Family) -> Role:
    if not family.of_root:
        return "process"
    found = _TITLE.match(process.title)
    if found and found[1] in _ROLES:
        return _ROLES[found[1]]
    return "worker" if process.catches(Signals.SIGWINCH) else "process"


def _is_master(root: Relative) -> bool:
    """Without `--master` the first process is a worker, too (core/master.c master_loop, uwsgi_unix_signal)."""
    return root.catches(Signals.SIGTSTP)


def _application(arguments: Sequence[str]) -> str | None:
    return option(arguments, "--wsgi-file", "--file", "-w", "--module", "--wsgi")


UWSGI = Kind(
    name="uwsgi",
    distribution="uwsgi",
    forms=(Form(_NAMES),),
    title=re.compile(r"uWSGI master\b"),
    role=_role,
    application=_application,
    listens=True,
    program="uwsgi",
    master=_is_master,
)
