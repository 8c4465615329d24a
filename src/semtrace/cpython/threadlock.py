"""`threading` and `asyncio` locks: each process has its own, so whether one is locked is asked in each.

The memory of a lock that the target has freed may hold another object by now. So its type is compared at each read, and
the next answer corrects a torn one.
"""

from __future__ import annotations

import struct
from typing import Literal

from semtrace.cpython import layout as at
from semtrace.cpython.classes import Class, Classes, Form
from semtrace.cpython.layout import Layout
from semtrace.cpython.objects import Objects
from semtrace.cpython.page_cache import Readable
from semtrace.lazydata import dataclass

_WORD, _WORDS = struct.Struct("<Q"), struct.Struct("<QQ")
# Python/lock.c `_PyMutex_LockTimed` keeps what is waited with on the same stack, a frame or two away.
_NEAR = 1 << 14
_DEQUE = b"collections.deque\0"
_MOST_TASKS = 1_000_000


@dataclass(frozen=True)
class FoundThreadLock:
    """A `threading` or `asyncio` lock of one process.

    `kind` is the class that the user's source names: Lock, RLock, Condition, Semaphore, asyncio.Lock, a subclass.
    `address` is the object's that says whether it is locked, for a Condition its inner lock's; `type_address` is its
    type. `slot` is where a Semaphore keeps the pointer to its counter, an asyncio.Lock (a "flag") the one to True or
    False; `value_type` is the type of what it points at. `queue_slot` is where an asyncio.Lock keeps the pointer to its
    waiters. `own` is False if only other people's classes lead to it.
    """

    name: str
    names: tuple[str, ...]
    kind: str
    address: int
    form: Literal["lock", "rlock", "semaphore", "flag"]
    type_address: int
    slot: int = 0
    own: bool = True
    value_type: int = 0
    queue_slot: int = 0


@dataclass(frozen=True)
class TaskQueue:
    """The waiters of an asyncio.Lock: their deque, how many are in it, and a counter of all changes to it."""

    address: int
    size: int
    changes: int

    def begins_as(self, before: TaskQueue) -> bool:
        """Return True if nobody has left since `before`: then the first is still the same.

        A change that adds one makes the size grow by 1, each other one makes it smaller or leaves it.
        """
        grown = self.size - before.size
        return self.address == before.address and before.size > 0 and self.changes - before.changes == grown


def read_thread_lock(memory: Readable, lock: FoundThreadLock, layout: Layout) -> bool | None:
    """Return True while it is locked (a semaphore: while it has no unit left), None if it cannot be read or is gone.

    An address found in a parent serves for its forked children. Three reads of a few bytes at most.
    """
    if lock.form in ("semaphore", "flag"):
        zero = _is_zero(memory, lock, layout)
        return zero if zero is None or lock.form == "semaphore" else not zero
    start = layout.lock_locked if lock.form == "lock" else layout.rlock_count
    head = memory.read(lock.address, start + layout.rlock_count_size)
    if head is None or int.from_bytes(head[at.OB_TYPE : at.OB_TYPE + 8], "little") != lock.type_address:
        return None
    if lock.form == "lock":
        return bool(head[start] & 1)
    count = int.from_bytes(head[start : start + layout.rlock_count_size], "little")
    return bool(count & 1) if layout.rlock_count_size == 1 else count > 0


def read_task_queue(memory: Readable, lock: FoundThreadLock) -> TaskQueue | None:
    """Return who waits for an asyncio.Lock, None for nobody. Four reads of a few bytes.

    Lib/asyncio/locks.py Lock._waiters, 3.8 to 3.15: None or a deque of futures, in which each waiter stays until its
    task runs. Modules/_collectionsmodule.c: `state` counts all changes of a deque.
    """
    pointer = memory.read(lock.queue_slot, 8) if lock.queue_slot else None
    if pointer is None or _type_of(memory, lock.address) != lock.type_address:
        return None
    address = int.from_bytes(pointer, "little")
    head = memory.read(address, at.DEQUE_STATE + 8) if address and not address & 7 else None
    if head is None or not _is_deque(memory, int.from_bytes(head[at.OB_TYPE : at.OB_TYPE + 8], "little")):
        return None
    size, changes = (int.from_bytes(head[place : place + 8], "little") for place in (at.OB_SIZE, at.DEQUE_STATE))
    return TaskQueue(address, size, changes) if 0 < size <= _MOST_TASKS else None


def _is_deque(memory: Readable, kind: int) -> bool:
    name = memory.read(kind + 8 * at.TP_NAME, 8) if kind and not kind & 7 else None
    text = memory.read(int.from_bytes(name, "little"), len(_DEQUE)) if name else None
    return text == _DEQUE


def parked_at(memory: Readable, futex: int) -> int | None:
    """Return the address of the PyMutex at which the thread that sleeps on this futex is parked, None if it is not.

    Python/parking_lot.c `_PyParkingLot_Park` (3.14): the semaphore is part of a `wait_entry` on the stack, with its
    argument on the same stack, and linked into a ring. Another futex does not fit, nor one that was left meanwhile.
    """
    head = memory.read(futex + at.PARK_ARGUMENT, at.PARK_NODE - at.PARK_ARGUMENT + 8)
    if head is None:
        return None
    argument, address = _WORDS.unpack_from(head)
    (following,) = _WORD.unpack_from(head, at.PARK_NODE - at.PARK_ARGUMENT)
    # Python/lock.c PyEvent_WaitTimed parks without an argument.
    if address == 0 or (argument and not futex - _NEAR < argument < futex + _NEAR):
        return None
    back = memory.read(following + at.PARK_NEXTS_BACK, 8)
    return address if back is not None and _WORD.unpack(back)[0] == futex + at.PARK_NODE else None


def is_parked_at(memory: Readable, lock: FoundThreadLock) -> bool | None:
    """Return True while a thread waits for this lock, whose layout has a PyMutex; None if that cannot be read."""
    byte = memory.read(lock.address + at.LOCK_MUTEX, 1)
    return None if byte is None else bool(byte[0] & at.MUTEX_PARKED)


def _is_zero(memory: Readable, lock: FoundThreadLock, layout: Layout) -> bool | None:
    """Return True if the slot points at the small int 0, or False, which has its layout (Objects/boolobject.c).

    The slot moves when the object's attributes get another dict: then something else lies there, or nothing, until the
    next walk finds it again.
    """
    pointer = memory.read(lock.slot, 8) if _type_of(memory, lock.address) == lock.type_address else None
    number = None if pointer is None else memory.read(int.from_bytes(pointer, "little"), at.LONG_DIGITS)
    if number is None or int.from_bytes(number[at.OB_TYPE : at.OB_TYPE + 8], "little") != lock.value_type:
        return None
    size = int.from_bytes(number[at.OB_SIZE : at.OB_SIZE + 8], "little")
    return size >> 3 == 0 if layout.tagged_long else size == 0


def _type_of(memory: Readable, address: int) -> int | None:
    raw = memory.read(address + at.OB_TYPE, 8)
    return None if raw is None else int.from_bytes(raw, "little")


def resolve(objects: Objects, classes: Classes, address: int, cls: Class) -> tuple[int, Class, int] | None:
    """Return the place of a lock's state: the object, its class, and where it keeps its value.

    Lib/threading.py Semaphore._value, Lib/asyncio/locks.py Lock._locked, the same in 3.8 to 3.15.
    """
    if cls.form in (Form.THREAD_LOCK, Form.THREAD_RLOCK):
        return address, cls, 0
    if cls.form is Form.CONDITION:
        inner = classes.attribute(address, cls, "_lock")
        found = classes.of(inner)
        return (inner, found, 0) if found and found.form in (Form.THREAD_LOCK, Form.THREAD_RLOCK) else None
    slot = classes.attribute_slot(address, cls, "_locked" if cls.form is Form.ASYNC_LOCK else "_value")
    return (address, cls, slot) if slot and objects.integer(objects.pages.u64(slot)) is not None else None


def queue_slot(classes: Classes, address: int, cls: Class) -> int:
    """Return where an asyncio.Lock keeps the pointer to its waiters, 0 of any other lock."""
    return classes.attribute_slot(address, cls, "_waiters") if cls.form is Form.ASYNC_LOCK else 0


def form_of(cls: Class) -> Literal["lock", "rlock", "semaphore", "flag"]:
    if cls.form is Form.THREAD_LOCK:
        return "lock"
    if cls.form is Form.ASYNC_LOCK:
        return "flag"
    return "rlock" if cls.form is Form.THREAD_RLOCK else "semaphore"


def kind_of(cls: Class) -> str:
    """`threading.Lock()` and `RLock()` are functions; the C types behind them have other names."""
    if cls.form is Form.THREAD_LOCK:
        return "Lock"
    if (cls.module, cls.name) == ("asyncio.locks", "Lock"):
        return "asyncio.Lock"
    return "RLock" if cls.form is Form.THREAD_RLOCK else cls.name
