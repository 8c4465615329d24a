"""Which processes of a server have an open file with a lock: asked a little in each refresh.

A process may have thousands of files open, and each costs some ten microseconds. So one round over all processes goes
on over several refreshes, and begins only where the kernel's list of locks leaves something open.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence

from semtrace.lazydata import dataclass
from semtrace.linux.filelocks import HeldFile, locked_descriptors
from semtrace.linux.files import not_for_want_of
from semtrace.linux.process import process_ids, read_stat, still
from semtrace.model import ProcessId, SemId

# How long one refresh may ask, and after how long a process is asked again about the same files.
_BUDGET_S = 0.0002
_URGENT_BUDGET_S = 0.002  # while the answer decides who keeps somebody waiting
_AGAIN_S = 30.0
# What nobody of the server waits for is not asked about more often than this.
_PAUSE_S = 2.0
# How long one refresh may look for a holder outside the server, which is done only where somebody waits for nobody.
_SEARCH_BUDGET_S = 0.005


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
        self._strangers: dict[ProcessId, _Round] = {}
        self._work: Iterator[None] | None = None
        self._search: Iterator[None] | None = None
        self._search_due_s = 0.0
        self._wanted: tuple[frozenset[SemId], frozenset[SemId]] = frozenset(), frozenset()
        self._inodes: frozenset[int] = frozenset()
        self._urgent: frozenset[int] = frozenset()
        self._searched: frozenset[SemId] = frozenset()
        self.unfinished = False

    def step(
        self, now_s: float, members: Sequence[ProcessId], wanted: frozenset[SemId], awaited: frozenset[SemId]
    ) -> None:
        """Ask on. `wanted` are files about which there is a question, `awaited` those that threads wait for, too."""
        living = set(members)
        self._rounds = {process: last for process, last in self._rounds.items() if process in living}
        if not wanted and not awaited:
            self._work, self.unfinished = None, False
            return
        if (wanted, awaited) != self._wanted:
            self._wanted = wanted, awaited
            self._inodes = frozenset(file.inode for file in (*wanted, *awaited))
            self._urgent = frozenset(file.inode for file in awaited)
        inodes, urgent = self._inodes, self._urgent
        pressing = any(not self._covers(each, urgent) for each in members)
        end_s = time.thread_time() + (_URGENT_BUDGET_S if pressing else _BUDGET_S)
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
        if age_s < _PAUSE_S:
            return False
        return bool(urgent) or age_s >= _AGAIN_S or not inodes <= last.inodes

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

    def search(
        self,
        now_s: float,
        members: Collection[ProcessId],
        awaited: Collection[SemId],
        lost: Mapping[SemId, str],
    ) -> None:
        """Look for locks among all other processes of the machine, by the paths of their files: those whose taker ended
        and that nobody of the server has. An heir has left the server when its parent ended.
        """
        new = not self._searched.issuperset(lost)
        self._strangers = {
            process: last
            for process, last in self._strangers.items()
            if process not in members and still(process) and any(each.lock.file in awaited for each in last.held or ())
        }
        if not lost:
            self._search = None
        elif self._search is None and (new or now_s >= self._search_due_s):
            self._searched, self._search_due_s = frozenset(lost), now_s + _AGAIN_S
            self._search = self._ask_strangers(now_s, frozenset(members), lost)
        end_s = time.thread_time() + _SEARCH_BUDGET_S
        while self._search is not None and time.thread_time() < end_s:
            if next(self._search, self) is self:
                self._search = None
        self.unfinished |= self._search is not None

    def _ask_strangers(self, now_s: float, members: frozenset[ProcessId], lost: Mapping[SemId, str]) -> Iterator[None]:
        inodes, paths = frozenset(file.inode for file in lost), frozenset(lost.values())
        found: dict[ProcessId, _Round] = {}
        for pid in sorted(process_ids(), reverse=True):
            stat = read_stat(pid)
            if stat is None or stat.id in members or stat.ended:
                continue
            held = []
            try:
                for each in locked_descriptors(pid, inodes, paths):
                    held += [each] if each is not None else []
                    yield None
            except OSError as error:
                not_for_want_of(error)
            if held:
                found[stat.id] = _Round(now_s, inodes, tuple(held))
            yield None
        self._strangers |= found

    def of(self, file: SemId) -> list[tuple[ProcessId, HeldFile]]:
        """Return who has the file open with a lock, as it was last seen."""
        everybody = (*self._rounds.items(), *self._strangers.items())
        return [(process, each) for process, last in everybody for each in last.held or () if each.lock.file == file]

    def files(self) -> set[SemId]:
        return {each.lock.file for last in self._rounds.values() for each in last.held or ()}

    def hidden(self) -> tuple[ProcessId, ...]:
        """Return the processes that may not be asked."""
        return tuple(sorted(process for process, last in self._rounds.items() if last.held is None))

    def asked_since(self, since_s: float, file: SemId, members: Collection[ProcessId]) -> bool:
        """Return True if all of them have been asked about the file since then."""
        rounds = (self._rounds.get(each) for each in members)
        return all(last is not None and file.inode in last.inodes and last.began_s >= since_s for last in rounds)
