"""leaked-name, shm-full: what is left in /dev/shm, and how much room."""

from __future__ import annotations

from collections.abc import Iterator

from semtrace.model import Advice, Finding, FindingCode, LockRef, Remedy, RoomLeft, Snapshot, UnusedNames
from semtrace.rules.basis import Limits

# A younger one may be about to be mapped or removed.
_YOUNG_S = 60.0

# A semaphore takes a page. A small /dev/shm (64 MB in a container) and a large one are nearly full at different shares.
_LITTLE = 1 << 20
_LITTLE_SHARE = 0.02


def leaked_name(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Names that no process maps. Where not everybody could be asked there are none known."""
    known = (snapshot.shared_memory and snapshot.shared_memory.leaked) or ()
    leaked = tuple(sorted((each for each in known if each.age_s >= _YOUNG_S), key=lambda each: -each.age_s))
    if leaked:
        yield Finding(
            code=FindingCode.LEAKED_NAME,
            severity="warning",
            locks=(LockRef(None, leaked[0].name),),
            threads=(),
            facts=(UnusedNames(leaked),),
            remedy=Remedy((Advice.PREVIEW_CLEAN,), ("semtrace", "clean")),
        )


def shm_full(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    room = snapshot.shared_memory
    if room is None or not room.size or (room.free >= _LITTLE and room.free >= _LITTLE_SHARE * room.size):
        return
    yield Finding(
        code=FindingCode.SHM_FULL,
        severity="warning",
        locks=(),
        threads=(),
        facts=(RoomLeft(room.free, room.size),),
        remedy=Remedy((Advice.MAKE_ROOM,), ("semtrace", "clean")),
    )
