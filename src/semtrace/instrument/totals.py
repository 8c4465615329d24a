"""Add the counts of ended processes to the server's totals file, and remove their state files.

A process that ends well does so itself. For one that was killed, the next process that joins the server does it. A
file that is evidence stays: its process was killed while it held a lock, or took or released one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

from semtrace.instrument import places
from semtrace.model import ProcessId
from semtrace.wire.offsets import STATE_SIZE
from semtrace.wire.place import parse_state_name, state_name
from semtrace.wire.statefile import LockBook, StateFile, decode_state
from semtrace.wire.totals import TOTALS, TOTALS_SIZE, Totals, decode_totals, encode_totals

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC
# A process that joins asks for no more processes than this whether they live, and counts no more of the dead: one takes
# a millisecond.
_MOST_ASKED = 64
_MOST_AT_ONCE = 16


def count_own(directory: int, process: ProcessId) -> None:
    """Count this process, whose file goes next. It is not counted if others keep the directory busy."""
    with _alone(directory) as alone:
        if alone:
            _count(directory, [process], lambda file: True)


def count_killed(directory: int) -> None:
    """Count the processes that are dead and held nothing, and remove their files."""
    with _alone(directory) as alone:
        if not alone or not places.same_namespace(directory):
            return
        members = list(filter(None, map(parse_state_name, os.listdir(directory))))
        begin = os.getpid() % max(len(members), 1)
        some = [*members[begin:], *members[:begin]][:_MOST_ASKED]
        dead = [process for process in some if not places.is_alive(process)]
        for process in _count(directory, dead[:_MOST_AT_ONCE], _held_nothing):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(state_name(process), dir_fd=directory)


def _count(directory: int, processes: list[ProcessId], counts: Callable[[StateFile], bool]) -> list[ProcessId]:
    """Return those that are in the totals now."""
    before = _read_totals(directory)
    totals, done = before, []
    for process in processes:
        file = _read_state(directory, process)
        if file is None or not counts(file):
            continue
        done.append(process)
        if process not in totals.counted:
            totals = totals.plus(process, file.locks)
    if totals is not before:
        _write_totals(directory, totals)
    return done


def _held_nothing(file: StateFile) -> bool:
    return not any(map(_is_evidence, file.locks))


def _is_evidence(book: LockBook) -> bool:
    return bool(book.since_ns or book.trying or book.count > 0)


@contextlib.contextmanager
def _alone(directory: int) -> Iterator[bool]:
    """Hold the lock of the directory for the block, as `places.remove_if_last` does. Yield False if others hold it."""
    if not places.locked(directory, fcntl.LOCK_EX):
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(directory, fcntl.LOCK_UN)


def _read_totals(directory: int) -> Totals:
    data = _read(directory, TOTALS, TOTALS_SIZE)
    return (decode_totals(data) if data is not None else None) or Totals()


def _read_state(directory: int, process: ProcessId) -> StateFile | None:
    data = _read(directory, state_name(process), STATE_SIZE)
    file = decode_state(data) if data is not None else None
    return file if file is not None and file.process == process else None


def _read(directory: int, name: str, size: int) -> bytes | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=directory)
    except OSError:
        return None
    try:
        return os.pread(descriptor, size, 0)
    finally:
        os.close(descriptor)


def _write_totals(directory: int, totals: Totals) -> None:
    """Replace the file as a whole. Only one process writes, under the directory's lock."""
    temporary = f"{TOTALS}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, encode_totals(totals))
    finally:
        os.close(descriptor)
    os.rename(temporary, TOTALS, src_dir_fd=directory, dst_dir_fd=directory)
