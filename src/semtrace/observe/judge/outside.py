"""Ask the rest of the machine about semaphores of a server: who else may hold them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from semtrace.linux.sweep import Outside, Shared, sweep
from semtrace.model import SemId
from semtrace.observe.watch.watched import Watched

# Modules/_multiprocessing/semaphore.c, struct SemLockObject: char *name, NULL if the constructor unlinked the name at
# once (SemLock_Impl). The same in billiard's copy.
_NAME_AT = 48


def ask_outside(mappers: Mapping[SemId, Sequence[Watched]], linked: Collection[SemId]) -> dict[SemId, Outside]:
    """Sweep the machine for all of these at once; `linked` are those that have a name in /dev/shm."""
    return sweep(
        {
            semaphore: Shared(
                frozenset(watched.id.pid for watched in who),
                semaphore in linked or any(_was_named(watched, semaphore) for watched in who),
            )
            for semaphore, who in mappers.items()
        }
    )


def _was_named(watched: Watched, semaphore: SemId) -> bool:
    """Return True unless each of its objects shows that the name was gone before anybody else could open it."""
    memory = watched.memory
    if memory is None:
        return True
    return any(memory.u64(known.address + _NAME_AT) != 0 for known in watched.objects.get(semaphore, ()))
