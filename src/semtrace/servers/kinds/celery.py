"""A celery worker with its prefork pool, and its beat.

celery/concurrency/prefork.py process_initializer, beat.py EmbeddedService,
platforms.py set_mp_process_title (5.7). Titles are there with setproctitle only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from signal import Signals

from semtrace.model import Role
from semtrace.servers.commandline import first_word, option
from semtrace.servers.kinds.kind import Family, Form, Kind, Relative

# celery/bin/celery.py: the options that come before the command.
_VALUED = ("-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir")
_POOLS_OF_ONE = ("solo", "threads", "thread", "gevent", "eventlet")

_POOL_WORKER = re.compile(r"\[celeryd: [^]]*:\w*PoolWorker-\d+\]")
# `-active- (…)` is added once it runs, with the arguments that it was started with.
_MASTER = re.compile(r"\[celeryd: [^]]*:MainProcess\](?: -\w+-)?(?: \((?P<arguments>.*)\)\Z)?")
_BEAT = re.compile(r"(?:^|\s)(?:-B|--beat)(?:\s|\)|\Z)")


def _serves(arguments: Sequence[str]) -> bool:
    return first_word(arguments, _VALUED) == "worker"


def _several(arguments: Sequence[str]) -> bool:
    return option(arguments, "-P", "--pool") not in _POOLS_OF_ONE


def _role(process: Relative, family: Family) -> Role:
    """A worker ignores INT and puts TERM back to the default; beat handles both."""
    if not family.of_root:
        return "process"
    if _POOL_WORKER.match(process.title):
        return "worker"
    if process.title.startswith("[celery beat]"):
        return "beat"
    if _MASTER.match(process.title):
        return "process"  # its own title is still to come
    if process.catches(Signals.SIGINT):
        return "beat" if process.settled and _BEAT.search(family.root.title) else "process"
    return "worker"


def _application(arguments: Sequence[str]) -> str | None:
    return option(arguments, "-A", "--app")


CELERY = Kind(
    name="celery",
    distribution="celery",
    forms=(Form(frozenset({"celery"}), frozenset({"celery"}), _serves),),
    title=_MASTER,
    role=_role,
    several=_several,
    application=_application,
)
