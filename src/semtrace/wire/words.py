"""Words that events and state files share: kinds, flags, identities, and the version of it all."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from semtrace.model import SemId

VERSION = 1
NOTHING = 0xFFFFFFFFFFFFFFFF  # a value that was not measured


class Kind(IntEnum):
    """The class of a lock in the source."""

    UNKNOWN = 0
    LOCK = 1
    RLOCK = 2
    SEMAPHORE = 3
    BOUNDED_SEMAPHORE = 4

    @property
    def word(self) -> str:
        """The word of `model.Lock.kind`."""
        return _KIND_WORDS[self]


_KIND_WORDS = ("unknown", "Lock", "RLock", "Semaphore", "BoundedSemaphore")


class Flag(IntFlag):
    """SIGNAL: a counter inside Condition, Event, Barrier or Queue; its acquires and releases make no holder."""

    NONE = 0
    SIGNAL = 1


KINDS = {int(member): member for member in Kind}


def who(tid: int, site: int) -> int:
    """A thread and a call site as one word."""
    return tid << 32 | site


def device_number(lock: SemId) -> int:
    """A device in 32 bits: 12 of major, 20 of minor (linux/kdev_t.h MKDEV)."""
    return lock.major << 20 | lock.minor


def semaphore(device: int, inode: int) -> SemId:
    return SemId(device >> 20, device & 0xFFFFF, inode)
