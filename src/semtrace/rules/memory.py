"""shm-full, leaked-name: how much room is left in /dev/shm, and what is left there that nobody uses."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from semtrace.model import (
    Advice,
    Finding,
    FindingCode,
    LeakedName,
    LockRef,
    Remedy,
    RoomLeft,
    SharedMemory,
    Snapshot,
    UnusedNames,
    UnusedRoom,
)
from semtrace.rules.basis import Limits

# A younger one may be about to be mapped or removed.
_YOUNG_S = 60.0

# A semaphore takes a page. A small /dev/shm (64 MB in a container) and a large one are nearly full at different shares.
_LITTLE = 1 << 20
_LITTLE_SHARE = 0.02

_CLEAN = ("semtrace", "clean")


def nearly_full(room: SharedMemory) -> bool:
    """Return False where its size is not known."""
    return bool(room.size) and (room.free < _LITTLE or room.free < _LITTLE_SHARE * room.size)


def leaked_name(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Names that no process maps. Where not everybody could be asked there are none known."""
    known = (snapshot.shared_memory and snapshot.shared_memory.leaked) or ()
    leaked = tuple(sorted(_old(known), key=lambda each: -each.age_s))
    if leaked:
        semaphores = [LockRef(None, each.name) for each in leaked if each.sort == "semaphore"]
        yield Finding(
            code=FindingCode.LEAKED_NAME,
            severity="warning",
            locks=tuple(semaphores[:1]),
            threads=(),
            facts=(UnusedNames(leaked),),
            remedy=_clean(snapshot, _preview(leaked)),
        )


def shm_full(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Little room, and what takes it without being used."""
    room = snapshot.shared_memory
    if room is None or not nearly_full(room):
        return
    facts: tuple[RoomLeft | UnusedRoom, ...] = (RoomLeft(room.free, room.size),)
    if room.leaked is not None:
        names = tuple(sorted(room.leaked, key=lambda each: (-each.size, each.name)))
        other = max(room.size - room.free - sum(each.size for each in names), 0)
        facts = (UnusedRoom(names, other), *facts)
    yield Finding(
        code=FindingCode.SHM_FULL,
        severity="warning",
        locks=(),
        threads=(),
        facts=facts,
        remedy=_room_remedy(snapshot, room),
    )


def _room_remedy(snapshot: Snapshot, room: SharedMemory) -> Remedy:
    """Never name a command that finds nothing."""
    if room.leaked is None:
        return _clean(snapshot, Advice.MAKE_ROOM, Advice.CLEAN_LISTS)
    if old := _old(room.leaked):
        return _clean(snapshot, _preview(old), Advice.MAKE_LARGER)
    if room.leaked:
        return _clean(snapshot, Advice.CLEAN_IN_A_MINUTE, Advice.MAKE_LARGER)
    return Remedy((Advice.MAKE_ROOM,))


def _old(names: Collection[LeakedName]) -> list[LeakedName]:
    return [each for each in names if each.age_s >= _YOUNG_S]


def _preview(names: Collection[LeakedName]) -> Advice:
    blocks = any(each.sort == "block" for each in names)
    return Advice.PREVIEW_CLEAN_BLOCKS if blocks else Advice.PREVIEW_CLEAN


def _clean(snapshot: Snapshot, *advice: Advice) -> Remedy:
    """Return the command for the /dev/shm of the server, which `clean` only sees from its mount namespace."""
    room = snapshot.shared_memory
    if room is None or not room.elsewhere:
        return Remedy(advice, _CLEAN)
    there = ("nsenter", "-t", str(snapshot.server.pid), "-m", *_CLEAN)
    return Remedy((*advice, Advice.CLEAN_THERE), there)
