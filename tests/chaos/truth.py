"""Derive the holders of each lock between two copies of a journal, or why they are not known.

It is known where nothing of the lock changed from one copy to the other: no cell, no process, not its value. Threads
whose sequence word is odd are in the middle of an act: they hold what the value says beyond what all others have.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.chaos.programs import journal as j


class Who(NamedTuple):
    """A process, as (pid, start time), and the thread by its tid."""

    pid: int
    start_ticks: int
    tid: int


class Entry(NamedTuple):
    """A lock as its program registered it. `units` is what it began with; `open_ended`: its maximum is not `units`."""

    index: int
    sequence: int
    inode: int
    kind: int
    units: int
    open_ended: bool
    handle: int
    creator: int


class Cell(NamedTuple):
    """A slot's part in a lock: `units` are those that it has by its books; `odd`: an act is under way."""

    slot: int
    who: Who
    life: str
    odd: bool
    phase: int
    units: int


@dataclass(frozen=True)
class Copy:
    """The journal at one moment, the processes that lived, and the values of the semaphores, None where unreadable."""

    words: memoryview
    lives: dict[int, str]
    values: dict[int, int | None]
    returns: dict[tuple[int, int], bytes]

    @property
    def slots(self) -> int:
        return max(self.words[j.NEXT_SLOT], 1)

    def entry(self, index: int) -> Entry:
        at = j.lock_at(index)
        w = self.words[at : at + j.L_INSIDE]
        inode = w[j.L_INODE] | w[j.L_INODE_HIGH] << 32
        handle = w[j.L_HANDLE] | w[j.L_HANDLE_HIGH] << 32
        return Entry(index, w[0], inode, w[j.L_KIND], w[j.L_UNITS], bool(w[j.L_OPEN]), handle, w[j.L_CREATOR])

    def block(self, index: int) -> memoryview:
        """Return all cells of a lock that are in use."""
        return self.words[j.cell_at(index, 0) : j.cell_at(index, self.slots)]

    def who(self, slot: int) -> Who:
        at = j.slot_at(slot)
        w = self.words[at : at + 8]
        return Who(w[j.S_PID], w[j.S_START] | w[j.S_START_HIGH] << 32, w[j.S_TID])

    def cells(self, index: int) -> Iterator[Cell]:
        """Yield the cells that hold something or are in an act."""
        given = self._given(index)
        block, lock = self.block(index), self.words[j.lock_at(index)]
        for slot in range(self.slots):
            sequence, phase, taken, released, _, of = block[slot * 8 : slot * 8 + 6]
            if of != lock and slot:
                continue  # of a semaphore that this entry was before
            units = taken - released - given.get(slot, 0)
            if units or sequence & 1:
                yield Cell(slot, self.who(slot), self.lives.get(slot, "dead"), bool(sequence & 1), phase, units)

    def _given(self, index: int) -> dict[int, int]:
        """Return the units of each slot that others gave back."""
        given: dict[int, int] = {}
        for (lock, _), row in self.returns.items():
            if lock == index:
                for slot, count in enumerate(memoryview(row).cast("I")):
                    if count:
                        given[slot] = given.get(slot, 0) + count
        return given

    def overlaps(self) -> int:
        """Count how often a thread found another living one inside a lock that lets in one at a time."""
        return sum(self.words[j.cell_at(i, s) + j.C_OVERLAPS] for i in range(j.LOCKS) for s in range(self.slots))


@dataclass(frozen=True)
class Truth:
    """The holders of a lock: units by process, for an RLock always 1. `dead` units are those of `killed` processes.

    `acting` are processes in the middle of an acquire or release, which hold nothing or what is in `holders`.
    """

    entry: Entry
    holders: dict[tuple[int, int], int] = field(default_factory=dict)
    dead: int = 0
    acting: frozenset[tuple[int, int]] = frozenset()
    killed: frozenset[tuple[int, int]] = field(default=frozenset(), compare=False)

    @property
    def living(self) -> int:
        return sum(self.holders.values())


class Reader:
    """Copy a program's journal. Not for several threads."""

    def __init__(self, path: Path) -> None:
        self.journal = j.Journal(str(path))
        self._memories: dict[int, tuple[int, int]] = {}
        self._retired: set[int] = set()

    def close(self) -> None:
        for fd, _ in self._memories.values():
            os.close(fd)
        self._memories.clear()
        self.journal.words.release()
        self.journal.memory.close()

    def copy(self) -> Copy:
        """Deaths are asked for first in each copy: who lives at the second one lived between both."""
        words = memoryview(self.journal.memory[: j.HEAD_BYTES]).cast("I")
        found = Copy(words, {}, {}, {})
        lives = {slot: life(found.who(slot), words[j.slot_at(slot) + j.S_FLAGS]) for slot in self._slots(found)}
        values = {}
        for index in range(j.LOCKS):
            entry = found.entry(index)
            if entry.inode:
                values[index] = self._value(entry)
        return Copy(words, lives, values, self._returns(found))

    def _slots(self, copy: Copy) -> Iterable[int]:
        return (slot for slot in range(1, copy.slots) if slot not in self._retired)

    def retire(self, copy: Copy) -> None:
        """Dead slots need not be asked for any more."""
        self._retired |= {slot for slot, life_ in copy.lives.items() if life_ == "dead"}

    def _returns(self, copy: Copy) -> dict[tuple[int, int], bytes]:
        giving = [s for s in range(copy.slots) if copy.words[j.slot_at(s) + j.S_FLAGS] & j.RETURNS]
        rows = {}
        for slot in giving:
            for index in copy_indexes(copy):
                at = j.returns_at(index, slot) * 4
                row = self.journal.memory[at : at + j.SLOTS * 4]
                if any(row):
                    rows[index, slot] = row
        return rows

    def _value(self, entry: Entry) -> int | None:
        """Reads the semaphore in its creator's memory. The mapping is checked: the address may be another lock's."""
        fd = self._memory(entry.creator)
        if fd is None:
            return None
        try:
            word = os.pread(fd, 4, entry.handle)
        except OSError:
            return None
        return int.from_bytes(word, "little") if len(word) == 4 else None

    def _memory(self, pid: int) -> int | None:
        stat = j.start_ticks(pid)
        if stat is None or stat[0] in "ZX":
            return None
        known = self._memories.get(pid)
        if known and known[1] == stat[1]:
            return known[0]
        if known:
            os.close(known[0])
            del self._memories[pid]
        try:
            fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        except OSError:
            return None
        if len(self._memories) > 64:
            os.close(self._memories.pop(next(iter(self._memories)))[0])
        self._memories[pid] = fd, stat[1]
        return fd


def copy_indexes(copy: Copy) -> list[int]:
    return [index for index in range(j.LOCKS) if copy.words[j.lock_at(index) + j.L_SEQUENCE]]


def life(who: Who, flags: int = 0) -> str:
    """`alive`, `dead`, or `dying` while that cannot be told: nothing is judged then."""
    stat = j.start_ticks(who.pid)
    if stat is None or stat[1] != who.start_ticks:
        return "dead"
    state, _, kernel = stat
    if state in "ZX":
        return "dead" if _is_alone(who.pid) else "dying"
    if kernel & 4:  # PF_EXITING of include/linux/sched.h
        return "dying"
    if flags & j.GONE:
        return "dead" if _has_no_semaphore(who.pid) else "dying"
    return "alive"


def _is_alone(pid: int) -> bool:
    """Return True if a process whose first thread has ended has no other thread left."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return True


def _has_no_semaphore(pid: int) -> bool:
    try:
        return "/dev/shm/sem." not in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return True


def truth_between(before: Copy, after: Copy, index: int) -> Truth | str:
    """Return who held the lock from one copy to the other, or in a word or two why that is not known.

    Two of these must never be: `broken`, the journal contradicts the semaphore though nobody was in an act, and
    `overlap`, more have it than may.
    """
    entry = before.entry(index)
    if entry != after.entry(index) or entry.sequence & 1 or not entry.inode:
        return "remade"
    if _moved(before, after, index):
        return "moved"
    cells = list(before.cells(index))
    if any(before.lives.get(c.slot, "dead") != after.lives.get(c.slot, "dead") or c.life == "dying" for c in cells):
        return "dying"
    if any(c.slot == 0 for c in cells):
        return "released"
    return _truth(entry, cells, before.values.get(index))


def _moved(before: Copy, after: Copy, index: int) -> bool:
    old, new = before.block(index), after.block(index)
    if old != new[: len(old)] or any(new[len(old) :]):
        return True
    rows = {key for key in (*before.returns, *after.returns) if key[0] == index}
    if any(before.returns.get(key) != after.returns.get(key) for key in rows):
        return True
    return before.values.get(index) != after.values.get(index)


def _truth(entry: Entry, cells: list[Cell], value: int | None) -> Truth | str:
    standing = [cell for cell in cells if not cell.odd]
    odd = [cell for cell in cells if cell.odd]
    taken = sum(_units(entry, cell) for cell in standing)
    if any(cell.phase == j.GIVING for cell in odd):
        return "acting"  # what it gives back stands in another's cell
    if sum(_units(entry, cell) for cell in standing if cell.life != "dead") > entry.units:
        return "overlap"
    if any(cell.units < 0 for cell in standing):
        return "broken"
    acting = frozenset((c.who.pid, c.who.start_ticks) for c in odd if c.life == "alive")
    rest = entry.units - taken if value is None else entry.units - value - taken
    if rest < 0 or (rest and not odd and value is not None):
        return "broken"
    if rest == 0 or not odd:
        return _with(Truth(entry, acting=acting), entry, standing)
    if value is None:
        return "acting"
    return _with_acting(entry, standing, odd, rest, acting)


def _with_acting(
    entry: Entry, standing: list[Cell], odd: list[Cell], rest: int, acting: frozenset[tuple[int, int]]
) -> Truth | str:
    """Give the units that the standing do not have to those in an act: clear if there is but one, or if all of them
    are dead.
    """
    if len(odd) == 1:
        return _with(Truth(entry, acting=acting), entry, [*standing, odd[0]._replace(units=rest, odd=False)])
    if all(cell.life == "dead" for cell in odd):
        killed = frozenset((c.who.pid, c.who.start_ticks) for c in odd)
        return _with(Truth(entry, dead=rest, acting=acting, killed=killed), entry, standing)
    return "acting"


def _with(truth: Truth, entry: Entry, cells: Iterable[Cell]) -> Truth:
    holders, dead, killed = dict(truth.holders), truth.dead, set(truth.killed)
    for cell in cells:
        units, who = _units(entry, cell), (cell.who.pid, cell.who.start_ticks)
        if cell.life == "dead":
            dead += units
            killed.add(who)
        else:
            holders[who] = holders.get(who, 0) + units
    return Truth(entry, holders, dead, truth.acting, frozenset(killed))


def _units(entry: Entry, cell: Cell) -> int:
    return min(cell.units, 1) if entry.kind == j.RECURSIVE else cell.units
