"""Every process of the machine, asked whether it maps a semaphore or has its file open: for the one question that a
process tree cannot answer. Who cannot be asked may map it, unless the kernel's own facts exclude that.

A descriptor on its way through a socket is not seen, nor is a mapping that is moved about while it is looked for.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Generic, Literal, TypeVar, get_args

from semtrace.allowance import Allowance
from semtrace.lazydata import dataclass
from semtrace.linux import maps
from semtrace.linux.files import not_for_want_of
from semtrace.linux.lineage import may_have_inherited, root_of
from semtrace.linux.openfiles import opened
from semtrace.linux.pagecount import are_all
from semtrace.linux.process import Stat, door, read_stat
from semtrace.linux.program import is_kernel_thread
from semtrace.linux.rights import CAP_SYS_PTRACE, has_capability
from semtrace.model import ProcessId, SemId

# include/linux/proc_ns.h PROC_PID_INIT_INO: the machine's own pid namespace.
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC

# The process list is read until this many times, one after another, nobody in it escaped the question.
_QUIET_ROUNDS = 2
_MOST_ROUNDS = 100
_MOST_S = 1.0  # of a processor

# The surest comes first: rights help only where nothing comes before.
Why = Literal["maps", "opened", "strange", "restless", "container", "hidden", "hidepid"]


@dataclass(frozen=True)
class Shared:
    """A semaphore as the server shows it: `members` are the processes of the server that map it.

    `named`: it has a name in /dev/shm, or once had one for longer than an instant. Then any process may have opened
    it; else only a fork passes it on.
    """

    members: frozenset[int]
    named: bool


@dataclass(frozen=True)
class Obstacle:
    """A reason why others than the server's processes may use a semaphore. `pid` is the process that it is about."""

    why: Why
    pid: int | None = None
    how: str = ""

    @property
    def rights_help(self) -> bool:
        """Return True if only processes are left that another user may ask."""
        return self.why in ("hidden", "hidepid")

    def __str__(self) -> str:
        return {
            "maps": f"PID {self.pid} outside this server maps it too",
            "opened": f"PID {self.pid} has its file open, and may map it at any time",
            "strange": f"PID {self.pid} maps it {self.how}, so its use of it cannot be seen",
            "restless": "processes outside this server start faster than they can be asked whether they map it",
            "container": "processes outside this container may map it too: run semtrace on the host",
            "hidden": f"PID {self.pid} may map it and cannot be read: look as root",
            "hidepid": "/proc hides the processes of other users, which may map it (hidepid): look as root",
        }[self.why]


@dataclass(frozen=True)
class Outside:
    """The result of a sweep for one semaphore.

    `mapped_by` are the processes outside the server that map it or have its file open. `strangers` are those of them
    that map it, as they were when they were asked: they may have ended since, and left a child. `hidden` are those
    that may map it and could not be asked. `obstacles`: the surest first.
    """

    mapped_by: tuple[int, ...] = ()
    strangers: tuple[Stat, ...] = ()
    hidden: tuple[int, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()


@dataclass(frozen=True)
class _Use:
    """One process's use of a file: its mappings, and whether it has it open."""

    mappings: tuple[maps.Mapping, ...]
    opened: bool

    def obstacle(self, pid: int, is_member: bool) -> Obstacle | None:
        """Return None for a member that has it as every user of a semaphore has."""
        if self.mappings and not is_member:
            return Obstacle("maps", pid)
        if len(self.mappings) > 1:
            return Obstacle("strange", pid, f"{len(self.mappings)} times")
        if any(not mapping.is_usual for mapping in self.mappings):
            (mapping,) = self.mappings
            return Obstacle("strange", pid, f"as {mapping.perms}, {mapping.end - mapping.start} bytes")
        return Obstacle("opened", pid) if self.opened else None


def sees_all_processes() -> bool:
    """Return False inside a container: processes outside it do not show in its /proc."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == _INITIAL_PID_NAMESPACE
    except OSError:
        return False


def hides_processes() -> bool:
    """Return True if /proc leaves out the processes of other users (Documentation/filesystems/proc.rst, 4: hidepid)."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return True
    fields = [line.split() for line in mounts]
    options = next((each[-1] for each in reversed(fields) if len(each) > 9 and each[4] == "/proc"), "")
    values = [option.partition("=")[2] for option in options.split(",") if option.startswith("hidepid=")]
    return any(value not in ("0", "off", "1", "noaccess") for value in values) and not has_capability(CAP_SYS_PTRACE)


def sweep(semaphores: Mapping[SemId, Shared]) -> dict[SemId, Outside]:
    """Ask all processes, but not this one about the files that it has open itself."""
    asking = _Asking(frozenset(semaphores))
    settled = asking.run()
    unasked = asking.unasked()
    sees_all, hides = sees_all_processes(), hides_processes()
    found = {}
    for semaphore, shared in semaphores.items():
        uses = asking.uses.get(semaphore, {})
        root = None if shared.named or (sees_all and not unasked) else root_of(shared.members)
        hidden = _not_excluded(unasked, shared, root, uses)
        obstacles = [
            *(use.obstacle(pid, pid in shared.members) for pid, use in uses.items()),
            None if settled else Obstacle("restless"),
            None if sees_all or root else Obstacle("container"),
            *(Obstacle("hidden", pid) for pid in hidden),
            Obstacle("hidepid") if hides else None,
        ]
        found[semaphore] = Outside(
            tuple(pid for pid in uses if pid not in shared.members),
            tuple(asking.stats[pid] for pid, use in uses.items() if use.mappings and pid not in shared.members),
            hidden,
            tuple(sorted(filter(None, obstacles), key=_order)),
        )
    return found


def _not_excluded(
    unasked: Mapping[int, Stat | None], shared: Shared, root: Stat | None, uses: Mapping[int, _Use]
) -> tuple[int, ...]:
    """Return the processes that could not be asked and that the kernel's facts do not exclude."""
    if not shared.named:
        return tuple(pid for pid, stat in unasked.items() if stat is None or may_have_inherited(stat, root))
    # Who has executed a program since its fork can hold only what it has opened, and used, itself.
    executed = {pid for pid, stat in unasked.items() if stat is not None and not stat.forked}
    mapped = [(pid, mapping.start) for pid, use in uses.items() for mapping in use.mappings]
    excluded = executed if executed and are_all(mapped) else set()
    return tuple(pid for pid in unasked if pid not in excluded)


def _order(obstacle: Obstacle) -> int:
    return get_args(Why).index(obstacle.why)


Key = TypeVar("Key")
Answer = TypeVar("Answer")


class Asking(Generic[Key, Answer]):
    """One sweep: the processes that were asked, and what they have of what was asked for.

    A process may end before it is asked, and its child start where the list was read already. So the list is read
    again, and only the new are asked, until twice nobody escaped.
    """

    def __init__(self) -> None:
        self.uses: dict[Key, dict[int, Answer]] = {}
        self.stats: dict[int, Stat] = {}  # of those that have some
        self._hidden: set[int] = set()
        self._asked: dict[int, ProcessId | None] = {}

    def question(self, stat: Stat) -> Mapping[Key, Answer]:
        """Return what the process has of what is asked for. Raises OSError where it cannot be asked."""
        raise NotImplementedError

    def run(self) -> bool:
        """Return False if new processes keep coming."""
        quiet, allowance = 0, None
        for _ in range(_MOST_ROUNDS):
            quiet = quiet + 1 if self._round() else 0
            if quiet == _QUIET_ROUNDS:
                return True
            allowance = allowance or Allowance(_MOST_S)  # the first round takes as long as it takes
            if not allowance.lasts():
                break
        return False

    def unasked(self) -> dict[int, Stat | None]:
        """Return the living that could not be asked, as they are now: most have executed a program since their fork."""
        stats = {pid: read_stat(pid) for pid in self._hidden}
        return {pid: stat for pid, stat in stats.items() if (not stat.dying if stat else _exists(pid))}

    def _round(self) -> bool:
        """Return True if every process was asked, now or in an earlier round. The newest are asked first."""
        listed = {int(entry) for entry in os.listdir("/proc") if entry.isdecimal()}
        new = sorted(listed - self._asked.keys(), reverse=True)
        others = [pid for pid in listed & self._asked.keys() if self._is_another(pid)]
        answered = [self._ask(pid) for pid in (*new, *others)]
        return all(answered)

    def _is_another(self, pid: int) -> bool:
        """Return True if the PID was given out again since."""
        stat = read_stat(pid)
        return stat is not None and stat.id != self._asked[pid]

    def _ask(self, pid: int) -> bool:
        """Return False if it ended before it could be asked: it may have a child that is missing in the list."""
        stat = read_stat(pid)
        if stat is None and not _exists(pid):
            return False
        self._asked[pid] = None if stat is None else stat.id
        if stat is None:
            self._hidden.add(pid)  # not even that may be read of it (hidepid=1)
        elif stat.dying:
            return False
        elif not is_kernel_thread(stat):
            return self._ask_living(stat)
        return True

    def _ask_living(self, stat: Stat) -> bool:
        pid = stat.id.pid
        try:
            found = self.question(stat)
        except (FileNotFoundError, ProcessLookupError):
            del self._asked[pid]  # it, or the thread that was asked, ended: again, if it is there after all
            return False
        except OSError as error:
            not_for_want_of(error)
            self._hidden.add(pid)
            return True
        for key, answer in found.items():
            self.uses.setdefault(key, {})[pid] = answer
            self.stats[pid] = stat
        return not self._is_another(pid)


class _Asking(Asking[SemId, _Use]):
    def __init__(self, wanted: Collection[SemId]) -> None:
        super().__init__()
        self._wanted = wanted

    def question(self, stat: Stat) -> dict[SemId, _Use]:
        return _uses(stat, self._wanted)


def _exists(pid: int) -> bool:
    try:
        Path(f"/proc/{pid}").stat()
    except OSError:
        return False
    return True


def _uses(stat: Stat, wanted: Collection[SemId]) -> dict[SemId, _Use]:
    """Return its use of the wanted files. Raises OSError where it cannot be asked."""
    tid = door(stat)
    mapped: dict[SemId, list[maps.Mapping]] = {}
    for semaphore, mapping in maps.mappings_of(tid, wanted):
        mapped.setdefault(semaphore, []).append(mapping)
    held_open = opened(tid, wanted) if stat.id.pid != os.getpid() else frozenset()
    return {each: _Use(tuple(mapped.get(each, ())), each in held_open) for each in mapped.keys() | held_open}
