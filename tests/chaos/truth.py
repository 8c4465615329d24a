"""Derive the holders of each lock between two copies of a journal, or why they are not known.

It is known where nothing of the lock changed from one copy to the other: no cell, no process, not its value. Threads
whose sequence word is odd are in the middle of an act: they hold what the value says beyond what all others have.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tests.chaos.programs import journal as j

_CELL = struct.Struct("8I")


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


NOBODY = Who(0, 0, 0)


class Part(NamedTuple):
    """What a journal says of one lock: its cells that are in use, the value of its semaphore, and the rows of what
    slots gave back for others.
    """

    entry: Entry
    block: bytes
    value: int | None
    returns: dict[int, bytes]

    def cells(self) -> Iterator[Cell]:
        """Yield the cells that hold something or are in an act, of processes that are not known yet."""
        given = self._given()
        for slot, (sequence, phase, taken, released, _, of, _, _) in enumerate(_CELL.iter_unpack(self.block)):
            if of != self.entry.sequence and slot:
                continue  # of a semaphore that this entry was before
            units = taken - released - given.get(slot, 0)
            if units or sequence & 1:
                yield Cell(slot, NOBODY, "", bool(sequence & 1), phase, units)

    def _given(self) -> dict[int, int]:
        """Return the units of each slot that others gave back."""
        given: dict[int, int] = {}
        for row in self.returns.values():
            for slot, count in enumerate(memoryview(row).cast("I")):
                if count:
                    given[slot] = given.get(slot, 0) + count
        return given


@dataclass(frozen=True)
class Copy:
    """The journal at one moment, the processes that lived, those of them that were stopped, and the values of the
    semaphores, None where unreadable.
    """

    raw: bytes
    lives: dict[int, str]
    values: dict[int, int | None]
    returns: dict[tuple[int, int], bytes]
    stopped: frozenset[tuple[int, int]] = frozenset()

    @cached_property
    def words(self) -> memoryview:
        return memoryview(self.raw).cast("I")

    @cached_property
    def slots(self) -> int:
        return max(self.words[j.NEXT_SLOT], 1)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Return all entries that ever had a lock."""
        found = (self.entry(index) for index in range(j.LOCKS))
        return tuple(entry for entry in found if entry.sequence)

    def entry(self, index: int) -> Entry:
        at = j.lock_at(index)
        return entry_of(index, self.words[at : at + j.L_INSIDE])

    def part(self, index: int) -> Part:
        rows = {slot: row for (lock, slot), row in self.returns.items() if lock == index}
        return Part(self.entry(index), self.block(index), self.values.get(index), rows)

    def block(self, index: int) -> bytes:
        """Return all cells of a lock that are in use."""
        return self.raw[4 * j.cell_at(index, 0) : 4 * j.cell_at(index, self.slots)]

    def sequence(self, index: int, slot: int) -> int:
        """Return the sequence word of a cell."""
        return self.words[j.cell_at(index, slot)]

    def who(self, slot: int) -> Who:
        at = j.slot_at(slot)
        w = self.words[at : at + 8]
        return Who(w[j.S_PID], w[j.S_START] | w[j.S_START_HIGH] << 32, w[j.S_TID])

    def cells(self, index: int) -> Iterator[Cell]:
        """Yield the cells that hold something or are in an act."""
        for cell in self.part(index).cells():
            yield cell._replace(who=self.who(cell.slot), life=self.lives.get(cell.slot, "dead"))

    def all_cells(self) -> Iterator[Cell]:
        for entry in self.entries:
            yield from self.cells(entry.index)

    def overlaps(self) -> int:
        """Count how often a thread found another living one inside a lock that lets in one at a time."""
        cells = (cell for entry in self.entries for cell in _CELL.iter_unpack(self.block(entry.index)))
        return sum(cell[j.C_OVERLAPS] for cell in cells)


@dataclass(frozen=True)
class Truth:
    """The holders of a lock: units by process, for an RLock always 1. `dead` units are those of `killed` processes.

    `acting` are processes in the middle of an acquire or release, which hold nothing or what is in `holders`. `threads`
    are those that hold it, each of a process in `holders`.
    """

    entry: Entry
    holders: dict[tuple[int, int], int] = field(default_factory=dict)
    dead: int = 0
    acting: frozenset[tuple[int, int]] = frozenset()
    killed: frozenset[tuple[int, int]] = field(default=frozenset(), compare=False)
    threads: frozenset[Who] = field(default=frozenset(), compare=False)

    @property
    def living(self) -> int:
        return sum(self.holders.values())


@dataclass(frozen=True)
class Waits:
    """What keeps threads from going on, all the time from one copy to another. `truths` are of the locks whose holders
    are known, `wanted` is the lock that a thread waits for, both by inode; `stopped` are processes.
    """

    truths: Mapping[int, Truth] = field(default_factory=dict)
    wanted: Mapping[Who, int] = field(default_factory=dict)
    stopped: frozenset[tuple[int, int]] = frozenset()


NO_WAITS = Waits()


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
        raw = self.journal.memory[: j.HEAD_BYTES]
        found = Copy(raw, {}, {}, {})
        words = found.words
        everybody = {slot: found.who(slot) for slot in self._slots(found)}
        stats = {slot: j.start_ticks(who.pid) for slot, who in everybody.items()}
        lives = {s: life(who, stats[s], words[j.slot_at(s) + j.S_FLAGS]) for s, who in everybody.items()}
        halted = (everybody[slot] for slot, stat in stats.items() if stat is not None and stat[0] == "T")
        stopped = frozenset((who.pid, who.start_ticks) for who in halted)
        there = [entry for entry in found.entries if entry.inode]
        memories = {creator: self._memory(creator) for creator in {entry.creator for entry in there}}
        values = {entry.index: _value(memories[entry.creator], entry) for entry in there}
        return Copy(raw, lives, values, self._returns(found), stopped)

    def _slots(self, copy: Copy) -> Iterable[int]:
        return (slot for slot in range(1, copy.slots) if slot not in self._retired)

    def retire(self, copy: Copy) -> None:
        """Dead slots need not be asked for any more."""
        self._retired |= {slot for slot, life_ in copy.lives.items() if life_ == "dead"}

    def part(self, index: int) -> Part:
        """Copy what concerns one lock only. Not before the first whole copy, which finds its creator's memory."""
        at, slots = j.lock_at(index), max(self.journal.words[j.NEXT_SLOT], 1)
        memory = self.journal.memory
        entry = entry_of(index, self.journal.words[at : at + j.L_INSIDE])
        block = memory[4 * j.cell_at(index, 0) : 4 * j.cell_at(index, slots)]
        known = self._memories.get(entry.creator)
        giving = self._giving(self.journal.words, slots)
        rows = {slot: row for slot in giving if (row := self._row(index, slot, slots))}
        return Part(entry, block, _value(known[0] if known else None, entry), rows)

    def _returns(self, copy: Copy) -> dict[tuple[int, int], bytes]:
        giving = self._giving(copy.words, copy.slots)
        found = {(e.index, slot): self._row(e.index, slot, copy.slots) for slot in giving for e in copy.entries}
        return {key: row for key, row in found.items() if row}

    def _giving(self, words: memoryview, slots: int) -> list[int]:
        flags = words[j.slot_at(0) : j.slot_at(slots)].tolist()[j.S_FLAGS :: j.slot_at(1) - j.slot_at(0)]
        return [slot for slot, flag in enumerate(flags) if flag & j.RETURNS]

    def _row(self, index: int, slot: int, slots: int) -> bytes:
        """Return what a slot gave back of each other's, nothing if it gave back nothing."""
        at = j.returns_at(index, slot) * 4
        row = self.journal.memory[at : at + slots * 4]
        return row + bytes(4 * (j.SLOTS - slots)) if row.strip(b"\0") else b""

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


def _value(fd: int | None, entry: Entry) -> int | None:
    """Read a semaphore in its creator's memory."""
    if fd is None:
        return None
    try:
        word = os.pread(fd, 4, entry.handle)
    except OSError:
        return None
    return int.from_bytes(word, "little") if len(word) == 4 else None


def life(who: Who, stat: tuple[str, int, int] | None, flags: int = 0) -> str:
    """`alive`, `dead`, or `dying` while that cannot be told: nothing is judged then. `stat` is of its PID, as
    `start_ticks` gives it.
    """
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


def entry_of(index: int, words: memoryview) -> Entry:
    inode = words[j.L_INODE] | words[j.L_INODE_HIGH] << 32
    handle = words[j.L_HANDLE] | words[j.L_HANDLE_HIGH] << 32
    return Entry(
        index, words[0], inode, words[j.L_KIND], words[j.L_UNITS], bool(words[j.L_OPEN]), handle, words[j.L_CREATOR]
    )


def truth_between(before: Copy, after: Copy, index: int) -> Truth | str:
    """Return who held the lock from one copy to the other, or in a word or two why that is not known.

    Two of these must never be: `broken`, the journal contradicts the semaphore though nobody was in an act, and
    `overlap`, more have it than may.
    """
    return truth_within(before, before.part(index), after.part(index), after)


def truth_within(before: Copy, old: Part, new: Part, after: Copy) -> Truth | str:
    """Return the same of a lock from one moment to another that both lie between two copies."""
    if old.entry != new.entry or old.entry.sequence & 1 or not old.entry.inode:
        return "remade"
    if _moved(old, new):
        return "moved"
    cells = [_with_life(cell, before, after) for cell in old.cells()]
    if any(cell.life == "dying" for cell in cells):
        return "dying"
    if any(cell.slot == 0 for cell in cells):
        return "released"
    return _truth(old.entry, cells, old.value)


def _with_life(cell: Cell, before: Copy, after: Copy) -> Cell:
    """Put in whose cell it is, and whether that lived all the time: `dying` if it did not."""
    slot = cell.slot
    life_ = after.lives.get(slot, "dead")
    steady = life_ == before.lives.get(slot, "dead") if slot < before.slots else life_ == "alive"
    return cell._replace(who=after.who(slot), life=life_ if steady else "dying")


def _moved(old: Part, new: Part) -> bool:
    if not new.block.startswith(old.block) or new.block[len(old.block) :].strip(b"\0"):
        return True
    return old.returns != new.returns or old.value != new.value


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
    holders, dead, killed, threads = dict(truth.holders), truth.dead, set(truth.killed), set(truth.threads)
    for cell in cells:
        units, who = _units(entry, cell), (cell.who.pid, cell.who.start_ticks)
        if cell.life == "dead":
            dead += units
            killed.add(who)
        else:
            holders[who] = holders.get(who, 0) + units
            threads.add(cell.who)
    return Truth(entry, holders, dead, truth.acting, frozenset(killed), frozenset(threads))


def waits_between(before: Copy, after: Copy, truths: Mapping[int, Truth]) -> Waits:
    """Return who waited all the time from one copy to the other, given the truth of each lock in between."""
    wanted = {}
    for entry in after.entries:
        if before.entry(entry.index) != entry:
            continue
        truth = truths.get(entry.inode)
        for cell in after.cells(entry.index):
            same = before.sequence(entry.index, cell.slot) == after.sequence(entry.index, cell.slot)
            has = cell.units > 0 if truth is None else cell.who in truth.threads
            # It waits for a Lock that it has already by its books, and not for a unit that it has just got.
            goes_on = has and (entry.kind == j.RECURSIVE or not cell.units)
            if same and cell.odd and cell.phase == j.ACQUIRING and cell.life == "alive" and not goes_on:
                wanted[cell.who] = entry.inode
    return Waits(truths, wanted, before.stopped & after.stopped)


def _units(entry: Entry, cell: Cell) -> int:
    return min(cell.units, 1) if entry.kind == j.RECURSIVE else cell.units
