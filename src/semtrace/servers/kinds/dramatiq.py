"""dramatiq: its first process starts `--processes` workers, and after them the forks that middlewares ask for.

dramatiq/cli.py, main (2.2). No worker is ever replaced: where one ends unasked, all are stopped.
"""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.model import Role
from semtrace.servers.commandline import first_word, number
from semtrace.servers.kinds.kind import Family, Form, Kind, Relative

_NAMES = frozenset({"dramatiq", "dramatiq-gevent"})
# The options before the broker that take a value.
_VALUED = ("--processes", "-p", "--threads", "-t", "--path", "-P", "--queues", "-Q", "--pid-file", "--log-file")


def _role(process: Relative, family: Family) -> Role:
    if not family.of_root:
        return "process"
    count = number(family.root.command, "-p", "--processes")
    if count is None:  # as many as there are processors, where it was started
        return "process"
    return "worker" if process.id in family.siblings[:count] else "process"


def _application(arguments: Sequence[str]) -> str | None:
    return first_word(arguments, _VALUED)


DRAMATIQ = Kind(
    name="dramatiq",
    distribution="dramatiq",
    forms=(Form(_NAMES, _NAMES),),
    role=_role,
    application=_application,
)
