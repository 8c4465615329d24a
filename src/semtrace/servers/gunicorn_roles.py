"""Roles of a gunicorn's processes: by the heartbeat file, else by the title, else by the signals that it handles."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from signal import Signals

from semtrace.linux.descriptors import OpenFile
from semtrace.linux.process import TICKS_PER_S, Stat
from semtrace.linux.program import Status, read_status
from semtrace.model import ProcessId, Role, Server
from semtrace.servers.heartbeat import heartbeat_files, owners
from semtrace.servers.processes import cmdline

# gunicorn/arbiter.py, init_signals, the same from 20.1 to 27.0. A worker puts HUP, USR2 and CHLD back to the default.
_MASTER_SIGNALS = (
    Signals.SIGHUP,
    Signals.SIGQUIT,
    Signals.SIGINT,
    Signals.SIGTERM,
    Signals.SIGTTIN,
    Signals.SIGTTOU,
    Signals.SIGUSR1,
    Signals.SIGUSR2,
    Signals.SIGWINCH,
    Signals.SIGCHLD,
)
# gunicorn/dirty/arbiter.py, init_signals: the master's without USR2
_DIRTY_ARBITER_SIGNALS = (Signals.SIGHUP, Signals.SIGTERM, Signals.SIGTTIN, Signals.SIGTTOU, Signals.SIGCHLD)

# gunicorn/arbiter.py, dirty/arbiter.py: _setproctitle, followed by ` [name]` or by nothing
_TITLES: dict[str, Role] = {
    "gunicorn: worker": "worker",
    "gunicorn: dirty-arbiter": "dirty-arbiter",
    "gunicorn: dirty-worker": "dirty-worker",
}

# A process that was just forked looks like its parent until it has set itself up, which imports may delay.
_SETTLING_S = 10.0


def handles_like_master(status: Status) -> bool:
    """Return True for a master, and for a child of it that has not set its own handlers, as a multiprocessing child."""
    return status.catches(*_MASTER_SIGNALS)


class GunicornRoles:
    """The roles of one server's processes: decided once for each, tried again while a young one is undecided."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._roles: dict[ProcessId, Role] = {}
        self._files: dict[ProcessId, OpenFile] = {}
        self.unsettled = False

    def of(self, process: ProcessId) -> tuple[Role, OpenFile | None]:
        """Return its role and its heartbeat file. A "process" has no part in gunicorn's own machinery."""
        return self._roles.get(process, "process"), self._files.get(process)

    def assign(self, members: Mapping[ProcessId, Stat]) -> None:
        """Decide about the members that are new, forget those that are gone."""
        self._roles = {process: role for process, role in self._roles.items() if process in members}
        self._files = {process: file for process, file in self._files.items() if process in members}
        self.unsettled = False
        self._roles[self._server.id] = "master"
        self._assign_children(self._server.id, "worker", members)
        for arbiter in [process for process, role in self._roles.items() if role == "dirty-arbiter"]:
            self._assign_children(arbiter, "dirty-worker", members)

    def _assign_children(self, parent: ProcessId, beating: Role, members: Mapping[ProcessId, Stat]) -> None:
        new = [s for s in members.values() if s.ppid == parent.pid and s.forked and s.id not in self._roles]
        statuses = {stat.id: read_status(stat.id.pid) for stat in new}
        # A process that still handles signals as the master does is not a worker, or not yet.
        settled = [stat for stat in new if (status := statuses[stat.id]) and not handles_like_master(status)]
        if settled:
            self._files.update(owners(settled, self._free_files(parent, settled)))
        for stat in settled:
            role = beating if stat.id in self._files else _other_role(statuses[stat.id], stat, beating)
            if role is not None:
                self._roles[stat.id] = role
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.unsettled |= any(
            stat.id not in self._roles and uptime - stat.id.start_ticks / TICKS_PER_S < _SETTLING_S for stat in new
        )

    def _free_files(self, parent: ProcessId, new: Sequence[Stat]) -> dict[ProcessId, list[OpenFile]]:
        """The heartbeat files of the new processes, without those that are another's or that the parent has closed."""
        held = {stat.id: heartbeat_files(stat.id.pid) or [] for stat in new}
        # Afterwards: the parent has opened a worker's file before there was the worker.
        opened = {file.inode for file in heartbeat_files(parent.pid) or []}
        usable = opened - {file.inode for file in self._files.values()}
        return {process: [file for file in files if file.inode in usable] for process, files in held.items()}


def _other_role(status: Status | None, stat: Stat, beating: Role) -> Role | None:
    """Return the role of a process whose heartbeat file was not found, None if nothing shows it."""
    titled = _TITLES.get(" ".join(cmdline(stat.id.pid)).partition(" [")[0].rstrip())
    if titled is not None:
        return titled
    if status is None or status.catches(Signals.SIGUSR2):
        return None
    if beating == "worker" and status.catches(*_DIRTY_ARBITER_SIGNALS):
        return "dirty-arbiter"
    # gunicorn/workers/base.py and dirty/worker.py, init_signals: the master ends a worker that hangs by ABRT.
    return beating if status.catches(Signals.SIGABRT) else None
