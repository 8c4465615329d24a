"""huey's consumer with `-k process`: it forks the scheduler first, then `-w` workers.

huey/consumer.py, Consumer.start and check_worker_health (3.5). Dead ones are replaced, so the order of age shows
the scheduler only while all were started together.
"""

from __future__ import annotations

from collections.abc import Sequence

from semtrace.linux.process import TICKS_PER_S
from semtrace.model import Role
from semtrace.servers.commandline import first_word, number, option
from semtrace.servers.kinds.kind import Family, Form, Kind, Relative

_SCRIPTS = frozenset({"huey_consumer", "huey_consumer.py"})
_MODULES = frozenset({"huey.bin.huey_consumer"})
_DJANGO = frozenset({"manage.py", "django-admin"})

# Replacing begins with a check of health, a second or more after the start (`-c`).
_TOGETHER_TICKS = TICKS_PER_S // 2


def _several(arguments: Sequence[str]) -> bool:
    return option(arguments, "-k", "--worker-type") == "process"


def _role(process: Relative, family: Family) -> Role:
    if not family.of_root or not family.siblings:
        return "process"
    oldest, newest = family.siblings[0], family.siblings[-1]
    workers = number(family.root.command, "-w", "--workers") or 1
    together = newest.start_ticks - oldest.start_ticks <= _TOGETHER_TICKS
    if len(family.siblings) != workers + 1 or not together:
        return "process"
    return "scheduler" if process.id == oldest else "worker"


def _application(arguments: Sequence[str]) -> str | None:
    word = first_word(arguments, ("-w", "--workers", "-k", "--worker-type", "-l", "--logfile"))
    return None if word == "run_huey" else word


HUEY = Kind(
    name="huey",
    distribution="huey",
    forms=(
        Form(_SCRIPTS, _MODULES),
        Form(_DJANGO, frozenset({"django"}), lambda arguments: arguments[:1] == ("run_huey",)),
    ),
    role=_role,
    several=_several,
    application=_application,
)
