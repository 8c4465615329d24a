"""Clear the state files of dead processes after a release, so that they no longer claim to hold that lock.

A file is touched only if the process that it is named after and that its header names has ended; a living one's never.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from semtrace.lazydata import dataclass
from semtrace.linux.process import still
from semtrace.model import ProcessId, SemId
from semtrace.tracing import tracedirs
from semtrace.tracing.tracedirs import Directory
from semtrace.wire.offsets import STATE_SIZE, LockWord, lock_at
from semtrace.wire.place import parse_state_name
from semtrace.wire.statefile import LockBook, decode_state
from semtrace.wire.words import Kind

# In the order of a release (wire/offsets.py LockWord). WHO stays: it is the last holder.
_HOLD = (LockWord.SINCE, LockWord.COUNT, LockWord.TRYING)
_MUTEXES = (Kind.LOCK, Kind.RLOCK)


@dataclass(frozen=True)
class SetRight:
    """One dead process's file; `failed` is why it still claims the lock, None if it does not."""

    process: ProcessId
    failed: str | None = None


def clear_claims(members: Collection[ProcessId], lock: SemId) -> tuple[SetRight, ...]:
    """Clear the claims of this server's dead processes on a lock that has just been released. Raises nothing."""
    found = []
    for directory in tracedirs.find(members):
        try:
            found += [each for name in directory.names() if (each := _clear_claim(directory, name, lock)) is not None]
        finally:
            directory.close()
    return tuple(sorted(found, key=lambda each: each.process))


def _clear_claim(directory: Directory, name: str, lock: SemId) -> SetRight | None:
    """Clear the claim of one file; return None if it has none."""
    process = parse_state_name(name)
    if process is None or still(process) or not _slots(directory, name, process, lock):
        return None
    fd = directory.open_file(name, os.O_RDWR, STATE_SIZE)
    if fd is None:
        return SetRight(process, "it may not be opened for writing")
    try:
        for book in _claims(fd, process, lock):
            if book.since_ns and book.kind in _MUTEXES:
                _put(fd, book, LockWord.RELEASED, 1)  # or the hold would count as released, after no time
            for word in _HOLD:
                _put(fd, book, word, 0)
    except OSError as error:
        return SetRight(process, os.strerror(error.errno or 0))
    finally:
        os.close(fd)
    return SetRight(process)


def _put(fd: int, book: LockBook, word: LockWord, value: int) -> None:
    """Write without a mapping: the owner of the file could truncate it, and that would kill us."""
    os.pwrite(fd, value.to_bytes(8, "little"), (lock_at(book.slot) + word) * 8)


def _slots(directory: Directory, name: str, process: ProcessId, lock: SemId) -> bool:
    fd = directory.open_file(name, os.O_RDONLY, STATE_SIZE)
    if fd is None:
        return False
    try:
        return any(True for _ in _claims(fd, process, lock))
    except OSError:
        return False
    finally:
        os.close(fd)


def _claims(fd: int, process: ProcessId, lock: SemId) -> Iterator[LockBook]:
    """Yield the books by which the process holds the lock, or died on the way to it."""
    state = decode_state(os.pread(fd, STATE_SIZE, 0))
    if state is not None and state.process == process:
        yield from (book for book in state.locks if book.lock == lock and _is_claim(book))


def _is_claim(book: LockBook) -> bool:
    return bool(book.since_ns or book.count > 0 or book.trying)
