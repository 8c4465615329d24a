"""Say which processes cannot run, because they are stopped or frozen, and which have ended without being reaped."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from functools import cache, lru_cache

from semtrace.lazydata import dataclass
from semtrace.linux.futex import run_time_ns
from semtrace.linux.process import Stat, children, read_stat
from semtrace.linux.program import read
from semtrace.linux.sleep import slept_s
from semtrace.model import ProcessId, Word


class Stop(Word):
    """Reasons why a process does not run. STOPPED: by a signal. TRACED: by a debugger. FROZEN: with its cgroup."""

    STOPPED = "stopped"
    TRACED = "traced"
    FROZEN = "frozen"


@dataclass(frozen=True)
class Stopped:
    """`tracer` is the debugger's PID, None without one."""

    why: Stop
    tracer: int | None = None


def stopped(stat: Stat) -> Stopped | None:
    """Return why a process is stopped, by its first thread and its cgroup; None if it is not."""
    pid = stat.id.pid
    if stat.state == "stopped":
        return Stopped(Stop.STOPPED, _tracer(pid))
    if stat.state == "tracing-stop":
        return Stopped(Stop.TRACED, _tracer(pid))
    return Stopped(Stop.FROZEN) if frozen(pid) else None


def _tracer(pid: int) -> int | None:
    found = re.search(rb"^TracerPid:\t(\d+)$", read(f"/proc/{pid}/status", 16384) or b"", re.MULTILINE)
    return int(found[1]) or None if found else None


_FROZEN_V2 = re.compile(rb"^frozen ([01])$", re.MULTILINE)
_FROZEN_V1 = {b"THAWED": False, b"FREEZING": True, b"FROZEN": True}


def frozen(pid: int) -> bool | None:
    """Return whether its cgroup or one above is frozen; None if that cannot be seen.

    Documentation/admin-guide/cgroup-v2.rst: the file cgroup.events, which the root has not; cgroup-v1/freezer-subsystem
    .rst: freezer.state.
    """
    groups = _cgroups(read(f"/proc/{pid}/cgroup", 65536) or b"")
    answers = [_is_frozen(controller, group, _mounts().get(controller)) for controller, group in groups.items()]
    if True in answers:
        return True
    return None if not answers or None in answers else False


@lru_cache(64)
def _cgroups(raw: bytes) -> dict[str, str]:
    """The workers of a server are all in the same."""
    return parse_cgroups(raw)


@cache
def _mounts() -> dict[str, tuple[str, str]]:
    """Read once: where cgroups are mounted does not change while a machine runs."""
    return parse_mounts(read("/proc/self/mountinfo") or b"")


# "" is the unified hierarchy (version 2), "freezer" that of version 1: the controllers that can freeze.
_V2, _V1 = "", "freezer"


def parse_cgroups(raw: bytes) -> dict[str, str]:
    """Parse lines `ID:CONTROLLERS:PATH` of `/proc/PID/cgroup` (cgroups(7)) to the path in each freezing hierarchy."""
    found = {}
    for line in raw.decode(errors="surrogateescape").splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        for controller in (_V2, _V1):
            if colon and controller in controllers.split(","):
                found[controller] = path
    return found


def parse_mounts(raw: bytes) -> dict[str, tuple[str, str]]:
    """Return for each freezing hierarchy the cgroup that is mounted, and where: from `/proc/PID/mountinfo` (proc.rst,
    3.5).
    """
    found: dict[str, tuple[str, str]] = {}
    for line in raw.decode(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        mount, system = left.split(), right.split()
        if len(mount) < 6 or len(system) < 3:
            continue
        if system[0] == "cgroup2":
            found[_V2] = mount[3], _unescaped(mount[4])
        elif system[0] == "cgroup" and "freezer" in system[2].split(","):
            found[_V1] = mount[3], _unescaped(mount[4])
    return found


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _is_frozen(controller: str, group: str, mount: tuple[str, str] | None) -> bool | None:
    """Return None if the group is not below what is mounted, as in a container."""
    if group == "/":
        return False  # the root of a hierarchy cannot be frozen; a container's own root is its own question
    if mount is None or ".." in group.split("/"):
        return None
    root, place = mount
    root = root.rstrip("/")
    if not (group + "/").startswith(root + "/"):
        return None
    folder = place + group[len(root) :]
    if controller == _V1:
        return _FROZEN_V1.get((read(f"{folder}/freezer.state", 64) or b"").strip())
    found = _FROZEN_V2.search(read(f"{folder}/cgroup.events", 4096) or b"")
    return found[1] == b"1" if found else None


@dataclass(frozen=True)
class Defunct:
    """A child that has ended and that its parent has not reaped.

    `exit_code` is as in subprocess: negative for a signal; None if it may not be seen. `ended_s` is the least number of
    seconds since it ended, None if that is not known.
    """

    id: ProcessId
    parent: int
    comm: str
    exit_code: int | None
    ended_s: float | None


# A parent with more children than this is not asked for all of them.
_MOST_CHILDREN = 4096


def defunct_children(parents: Collection[Stat]) -> list[Defunct]:
    """Return the children of these processes that have ended and are not reaped."""
    found = []
    living = {parent.id.pid for parent in parents}
    for parent in parents:
        for pid in children(parent)[:_MOST_CHILDREN]:
            stat = None if pid in living else read_stat(pid)
            if stat is not None and stat.ended:
                found.append(Defunct(stat.id, parent.id.pid, stat.comm, exit_code(pid), _ended_s(pid)))
    return found


def exit_code(pid: int) -> int | None:
    """Return field 52 of `/proc/PID/stat`, a wait status. A reader without the right to read the process gets a 0
    (fs/proc/array.c do_task_stat), which does not count.
    """
    raw = read(f"/proc/{pid}/stat", 4096) or b""
    try:
        status = int(raw[raw.rindex(b")") + 2 :].split()[49])
        code = os.waitstatus_to_exitcode(status)
    except (ValueError, IndexError):
        return None
    return None if status == 0 and not _may_read(pid) else code


def _may_read(pid: int) -> bool:
    """Return True with the right PTRACE_MODE_READ, by which `/proc/PID/ns` can be read (fs/proc/namespaces.c)."""
    try:
        os.readlink(f"/proc/{pid}/ns/pid_for_children")
    except PermissionError:
        return False
    except OSError:
        return True  # a process that has ended has no namespaces left, but the right was there
    return True


def _ended_s(pid: int) -> float | None:
    """A thread that has ended has run for the last time when it ended."""
    ran_ns = run_time_ns(pid, pid)
    return None if ran_ns is None else slept_s(pid, pid, ran_ns)
