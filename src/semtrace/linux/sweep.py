"""Every process of the machine, asked whether it maps a semaphore: for the one question that a process tree cannot
answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from semtrace.linux.maps import SemaphoreMaps
from semtrace.linux.process import Stat, door, read_stat
from semtrace.model import SemId

# Who cannot be asked is dismissed by name: nearly every machine runs some hundred processes that an ordinary user may
# not read, and a semaphore gets into a process by fork from its creator, which keeps the name.
_MAY_MAP = re.compile(r"python|gunicorn|celery|uvicorn|uwsgi|hypercorn|granian")


# include/linux/proc_ns.h PROC_PID_INIT_INO: the machine's own pid namespace.
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC


def sees_all_processes() -> bool:
    """False inside a container: processes outside it do not show in its /proc."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == _INITIAL_PID_NAMESPACE
    except OSError:
        return False


def comes_from_outside(stat: Stat) -> bool:
    """Whether a process was forked, without an exec since, by one outside this container: then that one, which does not
    show in /proc, has all that it has inherited. From inside, a parent outside has the pid 0 (pid_namespaces(7)).
    """
    seen = {stat.id.pid}
    while stat.forked and stat.ppid and stat.ppid not in seen:
        seen.add(stat.ppid)
        parent = read_stat(stat.ppid)
        if parent is None:
            return False
        stat = parent
    return stat.forked and not stat.ppid


@dataclass(frozen=True, slots=True)
class Sweep:
    """Who maps which of the semaphores, and who may but could not be asked."""

    mapped_by: dict[SemId, list[int]]
    hidden: list[int]


def sweep(semaphores: Collection[SemId], apart_from: Collection[int], names: Collection[str] | None) -> Sweep:
    """Asks all processes but `apart_from`; `names` are the command names of those, which a relative would share. With
    None, whoever cannot be asked may map them, whatever it is called.
    """
    mapped_by: dict[SemId, list[int]] = {}
    hidden: list[int] = []
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdecimal()):
        if pid in apart_from:
            continue
        try:
            found = _mapped(pid)
        except OSError:
            if _may_map(pid, names):
                hidden.append(pid)
            continue
        for semaphore in found & set(semaphores):
            mapped_by.setdefault(semaphore, []).append(pid)
    return Sweep(mapped_by, hidden)


def _mapped(pid: int) -> set[SemId]:
    """Raises OSError where it cannot be asked; none if it ended."""
    stat = read_stat(pid)
    if stat is None:
        return set()
    try:
        maps = SemaphoreMaps(door(stat))
    except (FileNotFoundError, ProcessLookupError):
        return set()
    try:
        return {m.id for m in maps.semaphores()}
    finally:
        maps.close()


def _may_map(pid: int, names: Collection[str] | None) -> bool:
    stat = read_stat(pid)
    if stat is None or stat.ended:
        return False
    return names is None or stat.comm in names or _MAY_MAP.search(stat.comm) is not None
