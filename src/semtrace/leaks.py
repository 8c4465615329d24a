"""The names in a server's /dev/shm that no process uses any more: looked for, never touched. `leftovers` removes."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator

from semtrace.leftovers import Entry, Surroundings, why_kept
from semtrace.linux.program import user_ids
from semtrace.linux.shm import ShmDirectory
from semtrace.linux.sweep import sees_all_processes, sweep
from semtrace.model import LeakedName


def leaked(directory: ShmDirectory) -> tuple[LeakedName, ...]:
    """Only those of which everybody who may map them could be asked: else they are not known to be leaked.

    The kernel's own count, which takes a lease, is not asked for: whoever opens the semaphore meanwhile would wait.
    """
    names = directory.names()
    if not names:
        return ()
    seen = sweep(names.keys(), (), None)
    hidden = {user: pid for pid in seen.hidden for user in user_ids(pid)}
    around = Surroundings(os.geteuid(), seen.mapped_by, {}, hidden, sees_all_processes())
    return tuple(
        LeakedName(entry.id, name, entry.age_s, _user(entry.owner))
        for name, entry in _entries(directory)
        if entry.id is not None and why_kept(entry, around) is None
    )


def _entries(directory: ShmDirectory) -> Iterator[tuple[str, Entry]]:
    for semaphore, name in directory.names().items():
        status = directory.status(name)
        if status is not None and status.st_ino == semaphore.inode:
            age_s = time.time() - max(status.st_mtime, status.st_ctime)
            yield name, Entry(f"sem.{name.removeprefix('/')}", semaphore, status.st_uid, status.st_size, age_s)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
