"""rq: a worker forks a horse for each job, and its scheduler; a pool starts workers.

rq/worker/base.py setup_work_horse_signals, scheduler.py, worker_pool.py (3.0). What does the work is the horse, so it
is the worker here, as in all other servers. Titles are there with setproctitle only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from signal import Signals

from semtrace.model import Role
from semtrace.servers.commandline import first_word
from semtrace.servers.kinds.kind import Family, Form, Kind, Relative

_SUPERVISOR = re.compile(r"rq:worker:[^ ]+: ")


def _role(process: Relative, family: Family) -> Role:
    pool = "worker-pool" in family.root.command
    if pool and family.of_root:
        return "supervisor"
    if family.parent_role not in ("master", "supervisor"):
        return "process"
    handles = process.catches(Signals.SIGINT), process.catches(Signals.SIGTERM)
    if not any(handles):
        return "worker"
    return "scheduler" if all(handles) and process.settled else "process"


def _serves(arguments: Sequence[str]) -> bool:
    return first_word(arguments) in ("worker", "worker-pool")


RQ = Kind(
    name="rq",
    distribution="rq",
    forms=(
        Form(frozenset({"rq"}), frozenset({"rq", "rq.cli"}), _serves),
        Form(frozenset({"rqworker"})),
    ),
    title=_SUPERVISOR,
    role=_role,
    alone=True,
)
