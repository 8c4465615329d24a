"""Read the state files of a server's traced processes, living and dead: needs no right over any process."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from semtrace.lazydata import replace
from semtrace.linux.process import still
from semtrace.model import ProcessId, SemId
from semtrace.tracing.reporters import Reporters
from semtrace.tracing.state import Files
from semtrace.tracing.tally import Tally
from semtrace.tracing.tracedirs import Directory
from semtrace.wire.offsets import STATE_MAGIC, STATE_SIZE
from semtrace.wire.place import parse_state_name, state_name
from semtrace.wire.statefile import StateFile, decode_state
from semtrace.wire.totals import TOTALS, TOTALS_SIZE, Totals, decode_totals

_ATTEMPTS = 4

# Bounds for what a hostile server could make grow: a user's files of the dead, and locks and sites over all files.
MOST_DEAD = 256
MOST_ENTRIES = 1 << 18

_MAGIC = STATE_MAGIC.to_bytes(8, "little")
_Key = tuple[tuple[int, int], str]


class StateFiles:
    """Remember what it read: a file that did not change, as an idle worker's, is not decoded again."""

    def __init__(self, reporters: Reporters) -> None:
        self._reporters = reporters
        self._known: dict[_Key, tuple[bytes, StateFile]] = {}

    def read(self, directories: Iterable[Directory]) -> Files:
        """Return the files. Those that their user may not write are counted; trusted users' files come last."""
        at_ns = time.monotonic_ns()
        reporters = self._reporters
        found: dict[ProcessId, tuple[StateFile, int]] = {}
        dead: Counter[int] = Counter()
        known: dict[_Key, tuple[bytes, StateFile]] = {}
        totals: dict[SemId, Tally] | None = None
        refused = entries = 0
        for directory in sorted(directories, key=lambda each: each.uid not in reporters.trusted):
            for name, process in self._names(directory, dead):
                if entries > MOST_ENTRIES or not reporters.may_report_process(directory.uid, process):
                    refused += 1
                    continue
                read = self._read(directory, name)
                if read is None:
                    continue
                if read[1].process != process or _is_of_the_future(read[1]):
                    refused += 1
                    continue
                known[directory.key, name] = read
                entries += len(read[1].locks) + len(read[1].sites)
                # A process that changed its user has a file in each of two directories: the later one counts.
                if process not in found or found[process][0].since_ns < read[1].since_ns:
                    found[process] = self._as_far_as_it_counts(read[1], directory.uid), directory.uid
            # Read last: a process adds itself to the totals, and then removes its file.
            if (ended := _read_totals(directory)) is not None:
                totals = self._added(ended, directory.uid, totals or {})
                for process in ended.counted:
                    if process in found and found[process][1] == directory.uid:
                        del found[process]
        self._known = known
        users = {process: user for process, (_, user) in found.items()}
        foreign = frozenset(process for process, user in users.items() if user not in reporters.trusted)
        files = sorted((file for file, _ in found.values()), key=lambda file: file.process not in foreign)
        return Files(at_ns, tuple(files), frozenset(filter(still, found)), users, foreign, refused, totals)

    def _added(self, ended: Totals, user: int, totals: dict[SemId, Tally]) -> dict[SemId, Tally]:
        """Add what this user's processes have counted that have ended, of locks that they have part in."""
        for lock, counts in ended.locks.items():
            if self._reporters.may_report_lock(user, lock):
                totals[lock] = totals.get(lock, Tally()).add(counts)
        return totals

    def _names(self, directory: Directory, dead: Counter[int]) -> Iterator[tuple[str, ProcessId]]:
        """The members' own files need no list of what is there; then those of the dead."""
        members = self._reporters.members
        for member in members:
            if directory.has(name := state_name(member)):
                yield name, member
        others = ((name, parse_state_name(name)) for name in directory.names())
        for name, process in others:
            if process is None or process in members:
                continue
            if dead[directory.uid] >= MOST_DEAD:
                return
            dead[directory.uid] += 1
            yield name, process

    def _as_far_as_it_counts(self, file: StateFile, user: int) -> StateFile:
        """Without the locks that this user has no part in, and without names for those that others have part in."""
        reporters = self._reporters
        if user in reporters.trusted:
            return file
        books = (book for book in file.locks if reporters.may_report_lock(user, book.lock))
        named = (book if reporters.may_name(user, book.lock) else replace(book, name=None) for book in books)
        return replace(file, locks=tuple(named))

    def _read(self, directory: Directory, name: str) -> tuple[bytes, StateFile] | None:
        fd = directory.open_file(name, os.O_RDONLY, STATE_SIZE)
        if fd is None:
            return None
        try:
            if os.pread(fd, len(_MAGIC), 0) != _MAGIC:
                return None
            return self._decode(fd, self._known.get((directory.key, name)))
        except OSError:
            return None
        finally:
            os.close(fd)

    @staticmethod
    def _decode(fd: int, known: tuple[bytes, StateFile] | None) -> tuple[bytes, StateFile] | None:
        """Read until two readings in a row show the same holds; a busy one is taken as it is, its moving holds marked
        so. What was read is remembered by its digest: a server could have thousands of files.
        """
        data = os.pread(fd, STATE_SIZE, 0)
        if known is not None and known[0] == _digest(data):
            return known
        state = None
        for _ in range(_ATTEMPTS):
            again = os.pread(fd, STATE_SIZE, 0)
            state = decode_state(data, again)
            data = again
            if state is None or all(book.steady for book in state.locks):
                break
        return None if state is None else (_digest(data), state)


def _read_totals(directory: Directory) -> Totals | None:
    fd = directory.open_file(TOTALS, os.O_RDONLY, TOTALS_SIZE)
    if fd is None:
        return None
    try:
        return decode_totals(os.pread(fd, TOTALS_SIZE, 0))
    except OSError:
        return None
    finally:
        os.close(fd)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _is_of_the_future(file: StateFile) -> bool:
    """Its times are CLOCK_MONOTONIC: what has not been yet was made up, or comes from another time namespace."""
    now_ns = time.monotonic_ns()
    times = (time_ns for book in file.locks for time_ns in (book.since_ns, book.waiting_since_ns))
    return max(file.since_ns, *(time_ns or 0 for time_ns in times), 0) > now_ns
