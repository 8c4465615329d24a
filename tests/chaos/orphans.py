"""Measure how long orphaned locks stay undiscovered, and bring them back into use."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from semtrace.errors import SemtraceError
from semtrace.model import Lock, SemId, Server
from semtrace.observe.observer import Observer
from semtrace.repairs import repair
from tests.chaos.programs import journal as j
from tests.chaos.tally import Tally
from tests.chaos.truth import Copy, Entry, Reader, Truth, truth_between

NEVER_S = 8.0  # after so long it counts as never found


@dataclass
class Orphan:
    """A lock with units of dead processes, `whole` if all units are theirs, since `since_s`."""

    entry: Entry
    whole: bool
    since_s: float
    found_s: float | None = None
    due_s: float = 0.0


class Orphans:
    """Follow them from truth to truth. `give_back` is called for those that have been found, or never were."""

    def __init__(
        self,
        family: str,
        tally: Tally,
        numbers: random.Random,
        give_back: Callable[[Entry, bool], None],
        at_once: bool = False,
        again: str = "",
    ) -> None:
        self._family = family
        self._tally = tally
        self._numbers = numbers
        self._give_back = give_back
        self._at_once = at_once
        self._again = again
        self.known: dict[int, Orphan] = {}

    @property
    def undiscovered(self) -> bool:
        return any(orphan.found_s is None for orphan in self.known.values())

    def see(self, truth: Truth, lock: Lock, now_s: float, killed_s: Mapping[tuple[int, int], float]) -> None:
        """Take in one judged sample of a lock. `killed_s` is when each process was killed."""
        index = truth.entry.index
        if not truth.dead:
            self.known.pop(index, None)
            return
        orphan = self.known.get(index)
        whole = truth.dead >= truth.entry.units
        if orphan is None or orphan.entry != truth.entry or orphan.whole != whole:
            since_s = max((killed_s.get(who, now_s) for who in truth.killed), default=now_s)
            orphan = self.known[index] = Orphan(truth.entry, whole, since_s)
        if orphan.found_s is None:
            self._look(orphan, lock, now_s, _kills_after(killed_s, orphan.since_s))
        if (orphan.found_s is not None or self._at_once) and now_s > orphan.due_s:
            orphan.due_s = now_s + 3.0
            self._give_back(orphan.entry, orphan.whole)

    def _look(self, orphan: Orphan, lock: Lock, now_s: float, kills: int) -> None:
        age_s = now_s - orphan.since_s
        sort = self._sort(orphan, kills)
        if orphan.entry.open_ended:  # its units cannot be missed
            if age_s > 1.0:
                self._found(orphan, now_s)
        elif lock.state == "orphaned" or (not orphan.whole and lock.lost is not None and lock.lost.proved):
            self._found(orphan, now_s)
            self._tally.delays.setdefault(sort, []).append(round(age_s, 3))
        elif age_s > NEVER_S:
            self._found(orphan, now_s)
            self._tally.late[f"{sort}: never in {NEVER_S:g} s"] += 1
            self._tally.keep(
                {
                    "what": "never found",
                    "family": self._family,
                    "detail": f"{age_s:.1f} s, {lock.state}: {lock.reason}",
                    "lock": repr(lock),
                    "again": self._again,
                }
            )

    def _found(self, orphan: Orphan, now_s: float) -> None:
        orphan.found_s = now_s
        orphan.due_s = now_s + self._numbers.uniform(0.1, 0.8)

    def _sort(self, orphan: Orphan, kills: int) -> str:
        quiet = "disturbed" if kills else "quiet"
        return f"{self._family} {'orphan' if orphan.whole else 'lost units'} {quiet}"


def _kills_after(killed_s: Mapping[tuple[int, int], float], since_s: float) -> int:
    return sum(at_s > since_s for at_s in killed_s.values())


class Returner(threading.Thread):
    """Give units of the dead back: by `release`, or by itself. Then it corrects the journal for the dead."""

    def __init__(self, server: Server, path: Path, releases: float, tally: Tally, numbers: random.Random) -> None:
        super().__init__(name="returner", daemon=True)
        self.error: BaseException | None = None
        self._server = server
        self._reader = Reader(path)
        self._releases = releases
        self._tally = tally
        self._numbers = numbers
        self._asked = threading.Condition()
        self._wanted: dict[int, tuple[Entry, bool]] = {}
        self._over = False
        self._observer: Observer | None = None

    def give_back(self, entry: Entry, whole: bool) -> None:
        with self._asked:
            self._wanted[entry.index] = entry, whole
            self._asked.notify()

    def end(self) -> None:
        with self._asked:
            self._over = True
            self._asked.notify()
        self.join()

    def run(self) -> None:
        try:
            while (wanted := self._next()) is not None:
                self._return(*wanted)
        except Exception as error:  # noqa: BLE001  a thread's would be lost
            self.error = error
        finally:
            self._reader.close()
            if self._observer is not None:
                self._observer.close()

    def _next(self) -> tuple[Entry, bool] | None:
        with self._asked:
            self._asked.wait_for(lambda: self._over or self._wanted)
            return None if self._over else self._wanted.pop(next(iter(self._wanted)))

    def _return(self, entry: Entry, whole: bool) -> None:
        truth = self._truth(entry)
        if truth is None or not truth.dead:
            return
        cell = j.cell_at(entry.index, 0)
        words = self._reader.journal.words
        words[cell] += 1
        try:
            by_semtrace = whole and not entry.open_ended and self._numbers.random() < self._releases
            if (by_semtrace and self._release(entry)) or (not by_semtrace and post(entry, truth.dead)):
                self._settle(entry)
        finally:
            words[cell] += 1

    def _truth(self, entry: Entry) -> Truth | None:
        """Read the truth right before the act: some other may have been quicker."""
        before = self._reader.copy()
        found = truth_between(before, self._reader.copy(), entry.index)
        return found if isinstance(found, Truth) and found.entry == entry else None

    def _release(self, entry: Entry) -> bool:
        """Release a lock by semtrace, sometimes by an observer that has never seen the server before."""
        if self._observer is None or self._numbers.random() < 0.3:
            if self._observer is not None:
                self._observer.close()
            self._observer = Observer(self._server)
        semaphore = semaphore_of(entry)
        if semaphore is None:
            return False
        try:
            found = repair.choose(self._observer, str(semaphore))
            repair.release(self._observer, found, lambda _: None)
        except SemtraceError as error:
            self._tally.acts[f"refused: {type(error).__name__}"] += 1
            return False
        self._tally.acts["released"] += 1
        return True

    def _settle(self, entry: Entry) -> None:
        """Write that the dead have nothing any more: only their words may be written by others."""
        copy = self._reader.copy()
        words = self._reader.journal.words
        for cell in list(copy.cells(entry.index)):
            if cell.life == "dead" and cell.slot:
                at = j.cell_at(entry.index, cell.slot)
                words[at + j.C_RELEASED] = words[at + j.C_RELEASED] + cell.units
                words[at] += 1 if cell.odd else 2


def semaphore_of(entry: Entry) -> SemId | None:
    """Return its identity as semtrace has it, by the mappings of its creator."""
    found = _mapping(entry)
    return found[0] if found else None


def _mapping(entry: Entry) -> tuple[SemId, str] | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{entry.creator}/maps").read_text().splitlines():
            span, _, _, device, inode = line.split()[:5]
            if int(inode) == entry.inode and "/dev/shm/" in line:
                major, minor = (int(part, 16) for part in device.split(":"))
                return SemId(major, minor, entry.inode), span
    return None


def post(entry: Entry, units: int) -> bool:
    """Add units by sem_post, with nothing of semtrace. Needs root."""
    found = _mapping(entry)
    if found is None:
        return False
    try:
        with open(f"/proc/{entry.creator}/map_files/{found[1]}", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            word = (ctypes.c_char * 1).from_buffer(memory)
            for _ in range(units):
                ctypes.CDLL(None).sem_post(ctypes.byref(word))
            del word
    except OSError:
        return False
    return True


def slots_left(copy: Copy) -> int:
    return j.SLOTS - copy.slots
