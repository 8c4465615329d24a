"""Helpers that multiprocessing starts below any server: the process of a Manager, and a forkserver."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from signal import Signals

from semtrace.linux.process import TICKS_PER_S, Stat
from semtrace.linux.program import is_forkserver, read_status
from semtrace.model import ProcessId, Role
from semtrace.servers.firstthread import Function, runs_any
from semtrace.servers.processes import cmdline

# Lib/multiprocessing/managers.py Server.serve_forever, 3.8 to 3.15; `multiprocess` has a copy.
_SERVES: tuple[Function, ...] = (("/managers.py", "serve_forever"),)
# Its first thread waits for the end, another accepts connections.
_LEAST_THREADS = 2

# A young process is asked again: it may still be importing what a Manager is made of.
_SETTLED_S = 10.0
_PAUSE_S = 1.0
# One pass asks for so long; the others have their turn in the next.
_BUDGET_S = 0.05
_NEVER = float("inf")


class Helpers:
    """Roles of helpers, asked of members other than the root. `unsettled`: ask again."""

    def __init__(self, root: ProcessId) -> None:
        self._root = root
        self._roles: dict[ProcessId, Role] = {}
        self._due_s: dict[ProcessId, float] = {}  # when to ask again, for those that had none
        self.unsettled = False

    def of(self, process: ProcessId) -> Role | None:
        return self._roles.get(process)

    def assign(self, members: Mapping[ProcessId, Stat]) -> None:
        self._roles = {process: role for process, role in self._roles.items() if process in members}
        self._due_s = {process: due for process, due in self._due_s.items() if process in members}
        self._ask([stat for stat in members.values() if stat.id != self._root and stat.id not in self._roles])

    def _ask(self, stats: Iterable[Stat]) -> None:
        self.unsettled = False
        now_s, uptime_s = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
        for stat in stats:
            young = uptime_s - stat.id.start_ticks / TICKS_PER_S < _SETTLED_S
            due_s = self._due_s.get(stat.id, now_s)
            if due_s <= now_s and time.monotonic() - now_s < _BUDGET_S:
                role = _role(stat)
                if role is not None:
                    self._roles[stat.id] = role
                    continue
                due_s = self._due_s[stat.id] = now_s + _PAUSE_S if young else _NEVER
            self.unsettled |= due_s < _NEVER


def _role(stat: Stat) -> Role | None:
    if not stat.forked and is_forkserver(cmdline(stat.id.pid)):
        return "forkserver"
    return "manager" if _may_be_manager(stat) and runs_any(stat.id.pid, _SERVES) else None


def _may_be_manager(stat: Stat) -> bool:
    """Lib/multiprocessing/managers.py BaseManager._run_server: it ignores INT, which any other Python handles."""
    if stat.threads < _LEAST_THREADS:
        return False
    status = read_status(stat.id.pid)
    return status is not None and not status.catches(Signals.SIGINT)
