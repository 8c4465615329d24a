"""gunicorn's heartbeat files: which process beats on which, and when it last did, without asking the server anything.

A worker touches an unlinked temporary file. Its master opened that file before the fork, and holds it for as long as
the worker lives. The master kills a worker whose file grows too old.

Sources: gunicorn/arbiter.py (spawn_worker, murder_workers) and workers/workertmp.py from 20.1 to 27.0;
dirty/arbiter.py since 25.0.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Mapping, Sequence

from semtrace.linux.descriptors import OpenFile, look, unlinked_files
from semtrace.linux.process import Stat
from semtrace.model import ProcessId

PREFIX = "wgunicorn-"


def heartbeat_files(pid: int) -> list[OpenFile] | None:
    """Return all that the process holds open, inherited ones included; None if that may not be seen."""
    try:
        return unlinked_files(pid, PREFIX)
    except PermissionError:
        return None


def age_s(file: OpenFile, now: float | None = None) -> float | None:
    """Return seconds since the last heartbeat; None before the first, and if the descriptor is another file by now."""
    status = look(file)
    if status is None:
        return None
    elapsed = (time.monotonic() if now is None else now) - status.st_mtime
    if elapsed > -1:
        return max(elapsed, 0.0)
    # The file still has the time of day of its creation, decades ahead of CLOCK_MONOTONIC. In 20.1 and 21.2 (23.0 no
    # more) a beat sets the mode to 0 and 1 in turn, which shows in the time of the file's last change.
    return max(time.time() - status.st_ctime, 0.0) if stat.S_IMODE(status.st_mode) in (0, 1) else None


def owners(children: Sequence[Stat], held: Mapping[ProcessId, Sequence[OpenFile]]) -> dict[ProcessId, OpenFile]:
    """Map the children of one arbiter to their heartbeat files. `held` are files that child and arbiter have open.

    A worker closes its siblings' files after the fork, so one file is its own. A dirty worker does not, but an older
    sibling's file is never its own. Children with several possible files are left out.
    """
    found: dict[ProcessId, OpenFile] = {}
    taken: set[tuple[int, int]] = set()
    for child in sorted(children, key=lambda process: (process.id.start_ticks, process.id.pid)):
        free = [file for file in held.get(child.id, ()) if file.inode not in taken]
        if len(free) == 1:
            found[child.id] = free[0]
            taken.add(free[0].inode)
    return found
