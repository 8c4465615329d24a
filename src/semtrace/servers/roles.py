"""Roles of a server's processes, as its kind defines them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from semtrace.linux.descriptors import OpenFile
from semtrace.linux.process import TICKS_PER_S, Stat
from semtrace.linux.program import is_forkserver, read_status
from semtrace.model import ProcessId, Role, Server
from semtrace.servers.gunicorn_roles import GunicornRoles
from semtrace.servers.helpers import Helpers
from semtrace.servers.kinds import BY_NAME
from semtrace.servers.kinds.kind import Family, Kind, Relative
from semtrace.servers.processes import cmdline

# A process that was just forked looks like its parent until it has set itself up, which imports may delay.
_SETTLING_S = 10.0
# So long after the fork its handlers and its title are its own.
_SETTLED_S = 2.0
_MOST_DEPTH = 16


class Roles(Protocol):
    """The roles of one server's processes, decided for the members that are new. `unsettled`: ask again."""

    unsettled: bool

    def of(self, process: ProcessId) -> tuple[Role, OpenFile | None]:
        """Return its role and its heartbeat file."""

    def assign(self, members: Mapping[ProcessId, Stat]) -> None:
        """Decide about the members that are new, forget those that are gone."""


def roles_of(server: Server) -> Roles:
    known = GunicornRoles(server) if server.kind == "gunicorn" else KindRoles(server, BY_NAME.get(server.kind))
    return _WithHelpers(known, Helpers(server.id))


class _WithHelpers:
    """Roles of a server's kind, and below any server those of what multiprocessing starts to help."""

    def __init__(self, known: Roles, helpers: Helpers) -> None:
        self._known = known
        self._helpers = helpers
        self.unsettled = False

    def of(self, process: ProcessId) -> tuple[Role, OpenFile | None]:
        role, file = self._known.of(process)
        return (role if file else self._helpers.of(process) or role), file

    def assign(self, members: Mapping[ProcessId, Stat]) -> None:
        self._known.assign(members)
        self._helpers.assign(members)
        self.unsettled = self._known.unsettled or self._helpers.unsettled


class KindRoles:
    """Find roles by titles, handlers and descent; in any Python those of multiprocessing."""

    def __init__(self, server: Server, kind: Kind | None) -> None:
        self._server = server
        self._kind = kind
        self._roles: dict[ProcessId, Role] = {}
        self._settled: dict[ProcessId, Relative] = {}
        self.unsettled = False

    def of(self, process: ProcessId) -> tuple[Role, OpenFile | None]:
        return self._roles.get(process, "process"), None

    def assign(self, members: Mapping[ProcessId, Stat]) -> None:
        """Decide about all members again: in some kinds the end of a sibling changes a role."""
        self._settled = {process: each for process, each in self._settled.items() if process in members}
        self._roles = {}
        root = members.get(self._server.id)
        if root is not None:
            children = _children(members.values())
            self._roles[root.id] = self._role_of_root(root, alone=len(members) == 1)
            self._descend(root, root, children)
        self.unsettled = self._settled.keys() != members.keys()

    def _role_of_root(self, root: Stat, alone: bool) -> Role:
        """Return "process" for a root that works by itself: it has no workers now, or will never have any."""
        kind, process = self._kind, self._relative(root)
        if kind is None or (alone and not kind.alone):
            return "process"
        arguments = kind.arguments(process.command)
        if arguments is not None and not kind.several(arguments):
            return "process"
        return "master" if kind.master(process) else "process"

    def _descend(self, parent: Stat, leader: Stat, children: Mapping[int, Sequence[Stat]], depth: int = 0) -> None:
        """Decide about the children of `parent`, for which a forkserver forks the children of its `leader`."""
        below = children.get(parent.id.pid, ()) if depth < _MOST_DEPTH else ()
        siblings = tuple(stat.id for stat in below)
        for stat in below:
            role = self._role(stat, leader, siblings)
            self._roles[stat.id] = role
            self._descend(stat, leader if role == "forkserver" else stat, children, depth + 1)

    def _role(self, stat: Stat, leader: Stat, siblings: tuple[ProcessId, ...]) -> Role:
        process = self._relative(stat)
        if not stat.forked and is_forkserver(process.command):
            return "forkserver"
        root = self._settled.get(self._server.id)
        if self._kind is None or root is None or self._roles[self._server.id] != "master":
            return "process"
        role = self._kind.role(process, Family(root, leader.id, self._roles[leader.id], siblings))
        by_script = bool(self._kind.leads) and self._kind.given(root.command) is None
        return "process" if role == "worker" and by_script and not self._kind.works(process) else role

    def _relative(self, stat: Stat) -> Relative:
        """Read a process until it is old enough to stay as it is. A root is what it was when it was found."""
        known = self._settled.get(stat.id)
        if known is not None:
            return known
        status = read_status(stat.id.pid)
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - stat.id.start_ticks / TICKS_PER_S
        caught = status.caught if status else 0
        found = Relative(stat.id, stat.forked, cmdline(stat.id.pid), caught, settled=age_s >= _SETTLED_S)
        if age_s >= _SETTLING_S or stat.id == self._server.id:
            self._settled[stat.id] = found
        return found


def _children(members: Iterable[Stat]) -> dict[int, list[Stat]]:
    """Return the children of each PID, by age."""
    found: dict[int, list[Stat]] = {}
    for stat in sorted(members, key=lambda stat: (stat.id.start_ticks, stat.id.pid)):
        found.setdefault(stat.ppid, []).append(stat)
    return found
