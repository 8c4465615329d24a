"""The processes of one server, followed as they come and go; cheap enough for every refresh.

A member is the root, what a member forked without an exec, and what multiprocessing spawned for it (spawn and
forkserver). Other programs that a member runs do not belong to the server, nor does the master that gunicorn starts
for USR2: both are exec'd.

A refresh reads `/proc/PID/stat` itself: for 256 processes that took 1.8 ms of CPU, the same facts from psutil 13.9 ms.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from semtrace.lazydata import dataclass
from semtrace.linux.process import Stat, children, is_thread, last_pid, read_stat
from semtrace.linux.program import is_resource_tracker, is_spawned
from semtrace.model import Process, ProcessId, Role, SemId, Server
from semtrace.servers.heartbeat import age_s
from semtrace.servers.processes import cmdline
from semtrace.servers.roles import roles_of

# With more numbers given out than these the children of all members are listed.
_FEW = 64


@dataclass(frozen=True)
class Member:
    """A living process of the server: `stat` was read in this refresh.

    `heartbeat_path` is the link to its heartbeat file, `last_heartbeat_s` how many seconds ago it last beat. Both are
    None for a process that has no heartbeat, has not beaten yet, or may not be read.
    """

    stat: Stat
    role: Role
    heartbeat_path: str | None = None
    last_heartbeat_s: float | None = None

    @property
    def id(self) -> ProcessId:
        return self.stat.id

    @property
    def pid(self) -> int:
        return self.stat.id.pid

    def process(
        self, cpu_percent: float | None = None, holds: tuple[SemId, ...] = (), waits_on: tuple[SemId, ...] = ()
    ) -> Process:
        """The member as the model has it."""
        s = self.stat
        return Process(
            id=s.id,
            ppid=s.ppid,
            role=self.role,
            state=s.state,
            rss=s.rss,
            threads=s.threads,
            started_at=s.started_at,
            cpu_percent=cpu_percent,
            last_heartbeat_s=self.last_heartbeat_s,
            holds=holds,
            waits_on=waits_on,
        )


class Tree:
    """Follows one server. `alive` is True if its root lived at the last refresh.

    `known` are processes that were members before: a worker whose master died is not a child of the server any more.
    """

    def __init__(self, server: Server, known: Iterable[ProcessId] = ()) -> None:
        self.server = server
        self.alive = True
        self._members: dict[ProcessId, Stat] = {server.id: _EMPTY, **dict.fromkeys(known, _EMPTY)}
        self._foreign: set[ProcessId] = set()
        self._roles = roles_of(server)
        self._last_pid = -1
        self._look_again = True

    def refresh(self) -> tuple[Member, ...]:
        """The living members, root first, then by age. Nobody's children are listed while nobody has forked."""
        newest = last_pid()
        before = self._members.keys()
        self._members = self._living()
        self.alive = self.server.id in self._members
        if newest != self._last_pid or self._look_again:
            # A process has its number before it can be seen, and children() may leave one out: look once more after.
            self._look_again = newest != self._last_pid
            self._last_pid = newest
            self._grow(just_read=True)
        if self._members.keys() != before or self._look_again or self._roles.unsettled:
            self._roles.assign(self._members)
        now = time.monotonic()
        return tuple(self._member(stat, now) for stat in sorted(self._members.values(), key=self._order))

    def trackers(self) -> tuple[Member, ...]:
        """Return the resource trackers of multiprocessing that members have started: none of them is a member, for it
        runs nothing of the application's.
        """
        stats = (read_stat(process.pid) for process in self._foreign)
        living = [stat for stat in stats if stat and stat.id in self._foreign and not stat.ended]
        return tuple(Member(stat, "resource-tracker") for stat in living if is_resource_tracker(cmdline(stat.id.pid)))

    def newborn(self) -> tuple[Member, ...]:
        """Return the members that were born since the last refresh or call.

        The kernel numbers processes upwards: those with the numbers given out since are asked who their parents are.
        """
        newest = last_pid()
        if newest == self._last_pid:
            return ()
        known = set(self._members)
        if 0 < newest - self._last_pid <= _FEW:
            self._add(range(self._last_pid + 1, newest + 1))
        else:
            self._grow()
        born = [stat for process, stat in self._members.items() if process not in known]
        if not born:
            return ()
        self._look_again = True
        self._roles.assign(self._members)
        now = time.monotonic()
        return tuple(self._member(stat, now) for stat in sorted(born, key=self._order))

    def _add(self, pids: Iterable[int]) -> None:
        """Add those of these that are children of members, parents before their children."""
        members = {process.pid for process in self._members}
        for pid in pids:
            stat = read_stat(pid)
            if stat is None or stat.ended or stat.ppid not in members or stat.id in self._members:
                continue
            if self._belongs(stat) and not is_thread(pid):
                self._members[stat.id] = stat
                members.add(pid)

    def _member(self, stat: Stat, now: float) -> Member:
        role, file = self._roles.of(stat.id)
        if file is None:
            return Member(stat, role)
        return Member(stat, role, file.link, age_s(file, now))

    def _living(self) -> dict[ProcessId, Stat]:
        living = {}
        for process, last in self._members.items():
            stat = read_stat(process.pid)
            if stat is not None and stat.id == process and not stat.ended and self._stays(stat, last):
                living[process] = stat
        return living

    def _stays(self, stat: Stat, last: Stat) -> bool:
        """A fork that has become another program by exec leaves, unless that is multiprocessing's way to start it."""
        if stat.forked or not last.forked or stat.id == self.server.id:
            return True
        return self._spawned(stat)

    def _grow(self, just_read: bool = False) -> None:
        """List everybody's children. Members that were `just_read` are not read once more."""
        alive = set()
        queue = list(self._members.values())
        parents = {stat.id.pid: stat.ppid for stat in queue} if just_read else {}
        while queue:
            parent = queue.pop()
            for pid in children(parent):
                if parents.get(pid) == parent.id.pid:
                    continue
                child = read_stat(pid)
                # Another parent: it ended between the two reads, and someone else has the pid or has adopted the child.
                if child is None or child.ended or child.ppid != parent.id.pid:
                    continue
                alive.add(child.id)
                if child.id not in self._members and self._belongs(child):
                    self._members[child.id] = child
                    queue.append(child)
        self._foreign &= alive

    def _belongs(self, child: Stat) -> bool:
        return child.forked or (child.id not in self._foreign and self._spawned(child))

    def _spawned(self, stat: Stat) -> bool:
        command = cmdline(stat.id.pid)
        if is_spawned(command):
            return True
        if command:
            self._foreign.add(stat.id)
        else:
            self._look_again = True  # in the middle of its exec
        return False

    def _order(self, stat: Stat) -> tuple[bool, int, int]:
        return stat.id != self.server.id, stat.id.start_ticks, stat.id.pid


_EMPTY = Stat(ProcessId(0, 0), "", "unknown", 0, 0, 0, 0, 0, 0)
