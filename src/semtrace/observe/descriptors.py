"""Which processes of a server have an open file with a lock: asked a little in each refresh.

A process may have thousands of files open, and each costs some ten microseconds. So one round over all processes goes
on over several refreshes, and begins only where the kernel's list of locks leaves something open.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence

from semtrace.lazydata import dataclass
from semtrace.linux.filelocks import HeldFile, locked_descriptors
from semtrace.linux.files import not_for_want_of
from semtrace.model import ProcessId, SemId

# How long one refresh may ask, and after how long a process is asked again about the same files.
_BUDGET_S = 0.0004
_AGAIN_S = 10.0
# What nobody of the server waits for is not asked about more often than this.
_PAUSE_S = 2.0


@dataclass(frozen=True)
class _Round:
    """The answer of one process about the files of these inode numbers, asked at `began_s`. `held` is None where it
    may not be asked.
    """

    began_s: float
    inodes: frozenset[int]
    held: tuple[HeldFile, ...] | None


class Descriptors:
    def __init__(self) -> None:
        self._rounds: dict[ProcessId, _Round] = {}
        self._work: Iterator[None] | None = None
        self.unfinished = False

    def step(
        self, now_s: float, members: Sequence[ProcessId], wanted: Collection[SemId], awaited: Collection[SemId]
    ) -> None:
        """Ask on. `wanted` are all files about which there is a question, `awaited` those that threads wait for."""
        living = set(members)
        self._rounds = {process: last for process, last in self._rounds.items() if process in living}
        if not wanted:
            self._work, self.unfinished = None, False
            return
        inodes, urgent = frozenset(f.inode for f in wanted), frozenset(f.inode for f in awaited)
        end_s = time.thread_time() + _BUDGET_S
        while time.thread_time() < end_s:
            if self._work is None:
                due = next((each for each in members if self._is_due(now_s, each, inodes, urgent)), None)
                if due is None:
                    break
                self._work = self._ask(now_s, due, inodes)
            if next(self._work, self) is self:
                self._work = None
        self.unfinished = any(not self._covers(each, urgent) for each in members)

    def _covers(self, process: ProcessId, inodes: frozenset[int]) -> bool:
        last = self._rounds.get(process)
        return last is not None and inodes <= last.inodes

    def _is_due(self, now_s: float, process: ProcessId, inodes: frozenset[int], urgent: frozenset[int]) -> bool:
        last = self._rounds.get(process)
        if last is None or not urgent <= last.inodes:
            return True
        age_s = now_s - last.began_s
        return age_s >= (_PAUSE_S if urgent or not inodes <= last.inodes else _AGAIN_S)

    def _ask(self, now_s: float, process: ProcessId, inodes: frozenset[int]) -> Iterator[None]:
        held: list[HeldFile] = []
        try:
            for each in locked_descriptors(process.pid, inodes):
                if each is not None:
                    held.append(each)
                yield None
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended
        except OSError as error:
            not_for_want_of(error)
            self._rounds[process] = _Round(now_s, inodes, None)
            return
        self._rounds[process] = _Round(now_s, inodes, tuple(held))

    def of(self, file: SemId) -> list[tuple[ProcessId, HeldFile]]:
        """Return who has the file open with a lock, as it was last seen."""
        return [
            (process, each)
            for process, last in self._rounds.items()
            for each in last.held or ()
            if each.lock.file == file
        ]

    def files(self) -> set[SemId]:
        return {each.lock.file for last in self._rounds.values() for each in last.held or ()}

    def hidden(self) -> tuple[ProcessId, ...]:
        """Return the processes that may not be asked."""
        return tuple(sorted(process for process, last in self._rounds.items() if last.held is None))

    def asked_since(self, since_s: float, file: SemId, members: Collection[ProcessId]) -> bool:
        """Return True if all of them have been asked about the file since then."""
        rounds = (self._rounds.get(each) for each in members)
        return all(last is not None and file.inode in last.inodes and last.began_s >= since_s for last in rounds)
