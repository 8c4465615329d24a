"""`threading` locks: each process has its own, so whether one is locked is asked in each.

The memory of a lock that the target has freed may hold another object by now: its type is compared at each read, and a
torn answer is corrected by the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semtrace.cpython import layout as at
from semtrace.cpython.classes import Class, Classes, Form
from semtrace.cpython.layout import Layout
from semtrace.cpython.objects import Objects
from semtrace.cpython.pages import Readable


@dataclass(frozen=True, slots=True)
class FoundThreadLock:
    """A `threading` lock of one process.

    `kind` is the class that the user's source names: Lock, RLock, Condition, Semaphore, a subclass. `address` is the
    object's that says whether it is locked, for a Condition its inner lock's; `type_address` is its type. `slot` is
    where a Semaphore keeps the pointer to its counter. `own` is False if only other people's classes lead to it.
    """

    name: str
    names: tuple[str, ...]
    kind: str
    address: int
    form: Literal["lock", "rlock", "semaphore"]
    type_address: int
    slot: int = 0
    own: bool = True


def read_thread_lock(memory: Readable, lock: FoundThreadLock, layout: Layout) -> bool | None:
    """True while it is locked (a semaphore: while it has no unit left), None if it cannot be read or is gone.

    An address found in a parent serves for its forked children. Two reads of a few bytes at most.
    """
    start = layout.lock_locked if lock.form == "lock" else layout.rlock_count
    head = memory.read(lock.address, start + layout.rlock_count_size)
    if head is None or int.from_bytes(head[at.OB_TYPE : at.OB_TYPE + 8], "little") != lock.type_address:
        return None
    if lock.form == "semaphore":
        return _exhausted(memory, lock.slot, layout)
    if lock.form == "lock":
        return bool(head[start] & 1)
    count = int.from_bytes(head[start : start + layout.rlock_count_size], "little")
    return bool(count & 1) if layout.rlock_count_size == 1 else count > 0


def _exhausted(memory: Readable, slot: int, layout: Layout) -> bool | None:
    """True if the small int that `slot` points at is 0."""
    pointer = memory.read(slot, 8)
    number = None if pointer is None else memory.read(int.from_bytes(pointer, "little"), 24)
    if number is None:
        return None
    size = int.from_bytes(number[at.OB_SIZE : at.OB_SIZE + 8], "little")
    return size >> 3 == 0 if layout.tagged_long else size == 0


def resolve(objects: Objects, classes: Classes, address: int, cls: Class) -> tuple[int, Class, int] | None:
    """What says whether the lock at `address` is locked: the object, its class, and a semaphore's slot."""
    if cls.form in (Form.THREAD_LOCK, Form.THREAD_RLOCK):
        return address, cls, 0
    if cls.form is Form.CONDITION:
        inner = classes.attribute(address, cls, "_lock")
        found = classes.of(inner)
        return (inner, found, 0) if found and found.form in (Form.THREAD_LOCK, Form.THREAD_RLOCK) else None
    slot = classes.attribute_slot(address, cls, "_value")
    return (address, cls, slot) if slot and objects.integer(objects.pages.u64(slot)) is not None else None


def form_of(cls: Class) -> Literal["lock", "rlock", "semaphore"]:
    if cls.form is Form.THREAD_LOCK:
        return "lock"
    return "rlock" if cls.form is Form.THREAD_RLOCK else "semaphore"


def kind_of(cls: Class) -> str:
    """`threading.Lock()` and `RLock()` are functions; the C types behind them have other names."""
    if cls.form is Form.THREAD_LOCK:
        return "Lock"
    return "RLock" if cls.form is Form.THREAD_RLOCK else cls.name
