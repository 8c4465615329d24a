"""leaked-name, shm-full: what is left in /dev/shm, and how much room."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.model import Finding, Snapshot
from semtrace.rules.basis import Limits
from semtrace.text import age, clean, counted, size

# A younger one may be about to be mapped or removed.
_YOUNG_S = 60.0
_FEW = 6

# A semaphore takes a page. A small /dev/shm (64 MB in a container) and a large one are nearly full at different shares.
_LITTLE = 1 << 20
_LITTLE_SHARE = 0.02


def leaked_name(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Names that no process maps. Where not everybody could be asked there are none known."""
    known = (snapshot.shared_memory and snapshot.shared_memory.leaked) or ()
    leaked = sorted((each for each in known if each.age_s >= _YOUNG_S), key=lambda each: -each.age_s)
    if not leaked:
        return
    lines = [f"{clean(each.name)}, made {age(each.age_s)} ago by {clean(each.user)}" for each in leaked[:_FEW]]
    more = [f"and {len(leaked) - _FEW} more"] if len(leaked) > _FEW else []
    yield Finding(
        code="leaked-name",
        severity="warning",
        lock=None,
        name=clean(leaked[0].name),
        pids=(),
        title=f"{counted(len(leaked), 'semaphore')} in /dev/shm that no process uses",
        evidence=(*lines, *more),
        remedy="A process that was killed left them. The command says which it would remove; with --yes it does.\n"
        "semtrace clean",
    )


def shm_full(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    room = snapshot.shared_memory
    if room is None or not room.size or (room.free >= _LITTLE and room.free >= _LITTLE_SHARE * room.size):
        return
    yield Finding(
        code="shm-full",
        severity="warning",
        lock=None,
        name="/dev/shm",
        pids=(),
        title=f"/dev/shm is nearly full: {size(room.free)} of {size(room.size)} left",
        evidence=("a new lock needs room there, else its making fails with ENOSPC: No space left on device",),
        remedy="Remove what is not needed there (ls -l /dev/shm), or make it larger: docker run --shm-size, mount -o "
        "remount,size=. The command says which semaphores nobody uses.\nsemtrace clean",
    )
