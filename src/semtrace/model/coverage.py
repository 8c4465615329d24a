"""Parts of a server that were not checked, so that "nothing wrong" does not cover them."""

from __future__ import annotations

from enum import auto

from semtrace.lazydata import dataclass
from semtrace.model.facts import LockRef
from semtrace.model.names import Word


class Unchecked(Word):
    """A part of the server that was not looked at, or about which semtrace cannot decide."""

    PROCESSES = auto()
    PRIVATE_LOCKS = auto()
    SEMAPHORES = auto()
    HOLDERS = auto()
    TIMEOUT = auto()
    SHARED_MEMORY = auto()
    UNUSED_NAMES = auto()
    MEMORY = auto()
    UNNAMED_LOCKS = auto()
    ASYNC_TASKS = auto()
    OTHER_WAITS = auto()


@dataclass(frozen=True)
class NotChecked:
    """One such part. `count` is of processes or of waiting threads, `reason` why it was not checked."""

    what: Unchecked
    reason: str = ""
    count: int = 0
    locks: tuple[LockRef, ...] = ()
