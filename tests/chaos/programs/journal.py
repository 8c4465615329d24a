"""The journal: a file mapped by all processes of a program, in which each thread writes what it takes and gives back.

Each thread has a slot and, for each lock, a cell that only it writes. Its sequence word is odd while an acquire or a
release is under way and even while it stands. Standard library only, Python 3.8 and newer: the programs under test
import it too.

All values are 32-bit words. A cell counts since its birth: `taken`, `released`, and in a row of its own what its thread
gave back of each other slot's, so no word has two writers. What a slot has is `taken - released - all that others gave
back of it`. Slot 0 is the controller's.
"""

import fcntl
import mmap
import os
import threading
import time

MAGIC = 0x5E3A0001
SLOTS, LOCKS = 384, 48

_HEADER, _LOCK, _SLOT, _CELL = 16, 16, 8, 8
_LOCKS_AT = _HEADER
_SLOTS_AT = _LOCKS_AT + LOCKS * _LOCK
_CELLS_AT = _SLOTS_AT + SLOTS * _SLOT
_RETURNS_AT = _CELLS_AT + LOCKS * SLOTS * _CELL
WORDS = _RETURNS_AT + LOCKS * SLOTS * SLOTS
HEAD_BYTES = _RETURNS_AT * 4

# Words of the header, a lock, a slot and a cell.
NEXT_SLOT, READY = 1, 2
L_SEQUENCE, L_INODE, L_INODE_HIGH, L_KIND, L_UNITS, L_OPEN, L_HANDLE, L_HANDLE_HIGH, L_CREATOR, L_INSIDE = range(10)
S_PID, S_START, S_START_HIGH, S_TID, S_FLAGS, S_PARENT = range(6)
C_SEQUENCE, C_PHASE, C_TAKEN, C_RELEASED, C_OVERLAPS, C_LOCK = range(6)

RETURNS, GONE = 1, 2  # flags of a slot: it has given back what others took; it is about to exec
STANDING, ACQUIRING, RELEASING, GIVING = range(4)  # GIVING: it releases what another took
KINDS = ("RLock", "Lock", "BoundedSemaphore", "Semaphore")
RECURSIVE = KINDS.index("RLock")


def lock_at(index):
    return _LOCKS_AT + index * _LOCK


def slot_at(slot):
    return _SLOTS_AT + slot * _SLOT


def cell_at(index, slot):
    return _CELLS_AT + (index * SLOTS + slot) * _CELL


def returns_at(index, slot):
    """The row of what this slot gave back of each slot's."""
    return _RETURNS_AT + (index * SLOTS + slot) * SLOTS


def make(path):
    """A new file for a journal, all zero."""
    with open(path, "xb") as file:
        file.truncate(WORDS * 4)


def start_ticks(pid, tid=None):
    """Return (state, start in ticks, flags) of a thread; None once it is gone."""
    path = f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat"
    try:
        with open(path, "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[19]), int(fields[6])


class Full(Exception):
    """All slots are used: the program has lived long enough."""


class Journal:
    """One process's view. Threads get their slots when they first write."""

    def __init__(self, path):
        self.path = path
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), WORDS * 4)
        self.words = memoryview(self.memory).cast("I")
        self._mine = threading.local()
        self._guard = threading.Lock()
        os.register_at_fork(after_in_child=self._forked)

    def __reduce__(self):
        return Journal, (self.path,)

    def _forked(self):
        self._guard = threading.Lock()

    # -- slots

    def me(self):
        """The slot of this thread of this process, a new one after a fork."""
        pid = os.getpid()
        if getattr(self._mine, "pid", None) != pid:
            parent = getattr(self._mine, "slot", 0)
            self._mine.slot, self._mine.pid = self._allocate(pid, parent), pid
        return self._mine.slot

    def _allocate(self, pid, parent):
        started = start_ticks(pid)[1]
        tid = threading.get_native_id()
        with self._guard, open(self.path, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            slot = max(self.words[NEXT_SLOT], 1)
            if slot >= SLOTS:
                raise Full
            at = slot_at(slot)
            values = (started & 0xFFFFFFFF, started >> 32, tid, 0, parent)
            for number, value in enumerate(values, S_START):
                self.words[at + number] = value
            self.words[at + S_PID] = pid  # last: from now on it is there
            self.words[NEXT_SLOT] = slot + 1
        return slot

    def mark_gone(self):
        """This process is about to exec: what it has is lost from then on."""
        self.words[slot_at(self.me()) + S_FLAGS] |= GONE

    # -- locks

    def register(self, index, lock, kind, units):
        """Write down which semaphore this entry is from now on. `lock` is a lock of multiprocessing or a relative."""
        handle = semlock_of(lock).handle
        inode = inode_at(handle)
        at = lock_at(index)
        self.words[at] += 1
        kind_number = KINDS.index(kind)
        values = (inode & 0xFFFFFFFF, inode >> 32, kind_number, units, int(kind == "Semaphore"))
        values += (handle & 0xFFFFFFFF, handle >> 32, os.getpid(), 0)
        for number, value in enumerate(values, 1):
            self.words[at + number] = value
        self.words[at] += 1

    def drop(self, index):
        """Clear an entry whose semaphore is about to go."""
        at = lock_at(index)
        self.words[at] += 1
        self.words[at + L_INODE] = self.words[at + L_INODE_HIGH] = 0
        self.words[at] += 1

    def clear_entries(self, indexes):
        """Clear the entries of a dead predecessor: its locks are gone with it, or will be with its helpers."""
        for index in indexes:
            at = lock_at(index)
            if self.words[at] & 1:
                self.words[at] += 1
            self.drop(index)

    # -- acts of this thread

    def begin_acquire(self, index):
        at = cell_at(index, self.me())
        self._begin_with(index, at)
        self.words[at + C_PHASE] = ACQUIRING
        self.words[at] = (self.words[at] + 1) & 0xFFFFFFFF

    def end_acquire(self, index, got=True):
        me = self.me()
        at = cell_at(index, me)
        if got:
            self.words[at + C_TAKEN] = (self.words[at + C_TAKEN] + 1) & 0xFFFFFFFF
            self._enter(index, me, at)
        self.words[at + C_PHASE] = STANDING
        self.words[at] = (self.words[at] + 1) & 0xFFFFFFFF

    def begin_release(self, index, of=None):
        me = self.me()
        at = cell_at(index, me)
        self._begin_with(index, at)
        self.words[at + C_PHASE] = RELEASING if of is None or of == me else GIVING
        self.words[at] = (self.words[at] + 1) & 0xFFFFFFFF
        if not self._is_nested(index, at):
            self.words[lock_at(index) + L_INSIDE] = 0

    def end_release(self, index, of=None):
        """`of` is the slot whose unit was given back, if it is another's."""
        me = self.me()
        at = cell_at(index, me)
        if of is None or of == me:
            self.words[at + C_RELEASED] = (self.words[at + C_RELEASED] + 1) & 0xFFFFFFFF
        else:
            self.words[slot_at(me) + S_FLAGS] |= RETURNS
            row = returns_at(index, me)
            self.words[row + of] = (self.words[row + of] + 1) & 0xFFFFFFFF
        self.words[at + C_PHASE] = STANDING
        self.words[at] = (self.words[at] + 1) & 0xFFFFFFFF

    def _begin_with(self, index, at):
        """Reset a cell for a new semaphore of its entry: what it says is of one semaphore."""
        sequence = self.words[lock_at(index)]
        if self.words[at + C_LOCK] != sequence:
            self.words[at + C_TAKEN] = self.words[at + C_RELEASED] = 0
            self.words[at + C_LOCK] = sequence

    def _is_nested(self, index, at):
        recursive = self.words[lock_at(index) + L_KIND] == RECURSIVE
        return recursive and self.words[at + C_TAKEN] - self.words[at + C_RELEASED] > 1

    def _enter(self, index, me, at):
        """Notice another living thread inside a lock that lets in one at a time."""
        inside = lock_at(index) + L_INSIDE
        if self.words[lock_at(index) + L_UNITS] != 1:
            return
        other = self.words[inside]
        if other not in (0, me) and self._lives(other):
            self.words[at + C_OVERLAPS] += 1
        self.words[inside] = me

    def _lives(self, slot):
        at = slot_at(slot)
        stat = start_ticks(self.words[at + S_PID], self.words[at + S_TID])
        return stat is not None and stat[0] not in "ZX" and not stat[2] & 4


def semlock_of(lock):
    """Return the SemLock inside, also of a lock of billiard and of a traced one."""
    found = getattr(lock, "_semlock", None)
    return found if found is not None and hasattr(found, "handle") else lock


def inode_at(address):
    """Return the inode of the file that is mapped at this address in this process."""
    with open("/proc/self/maps") as file:
        for line in file:
            low, _, high = line.split(None, 1)[0].partition("-")
            if int(low, 16) <= address < int(high, 16):
                return int(line.split()[4])
    raise LookupError(hex(address))


def wait_for(predicate, patience_s=60.0):
    deadline = time.monotonic() + patience_s
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.002)
