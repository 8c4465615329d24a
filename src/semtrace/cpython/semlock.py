"""`_multiprocessing.SemLock`: the object through which a Python process uses a semaphore, and the search for it.

Modules/_multiprocessing/semaphore.c, struct SemLockObject, the same from CPython 3.8 to 3.15 on 64-bit builds with
the GIL. Copies of it and subclasses begin with the same fields: `semtype` recognises their types. Free-threaded builds
put other fields before it and are not recognised.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator

from semtrace.cpython.semtype import is_semlock_type
from semtrace.lazydata import dataclass
from semtrace.linux.memory import Memory
from semtrace.model import RECURSIVE_MUTEX, SEMAPHORE

# PyObject_HEAD {ob_refcnt, ob_type}; handle, last_tid, int count, int maxvalue, int kind, char *name.
_LAYOUT = struct.Struct("<QQQQiii4xQ")
SIZE = _LAYOUT.size
HANDLE_AT = 16
TYPE_AT = 8

# Objects and pointers lie at multiples of eight, so a search compares the lower halves of aligned words, and reads each
# complete word that it finds.
_ALIGNED = 8
_PIECE = 1 << 19

# Objects no further apart are read together: they lie in one pool of the allocator (Objects/obmalloc.c POOL_SIZE).
_CLOSE = 1 << 12

# How many semaphores one search looks for singly because the types that are known have not led to their objects.
_MOST_SINGLY = 4


@dataclass(frozen=True)
class SemLock:
    """One SemLock object. `count` is acquires minus releases in its process, `last_tid` the pthread id of the last
    acquirer.
    """

    address: int
    type: int
    handle: int
    last_tid: int
    count: int
    maxvalue: int
    kind: int


def parse(address: int, raw: bytes | None) -> SemLock | None:
    """None unless the bytes can be a living SemLock: a freed one has the allocator's pointer where its count was."""
    if raw is None or len(raw) < SIZE:
        return None
    refcount, type_, handle, last_tid, count, maxvalue, kind, _ = _LAYOUT.unpack_from(raw)
    plausible = kind in (RECURSIVE_MUTEX, SEMAPHORE) and maxvalue > 0 and type_ % 8 == 0 and type_ and handle % 8 == 0
    if not (plausible and _is_alive(refcount)):
        return None
    return SemLock(address, type_, handle, last_tid, count, maxvalue, kind)


def _is_alive(refcount: int) -> bool:
    """3.14 keeps flags in the upper 16 bits of ob_refcnt (Include/refcount.h); bits 32 to 47 are always zero."""
    return bool(refcount & 0xFFFFFFFF) and not refcount >> 32 & 0xFFFF


def read(memory: Memory, address: int) -> SemLock | None:
    return parse(address, memory.read(address, SIZE))


def read_use(memory: Memory, known: SemLock) -> tuple[int, int] | None:
    """(last_tid, count) of an object that was verified before, None if it is that object no more."""
    raw = memory.read(known.address, SIZE)
    return None if raw is None else _use(raw, 0, known)


class Together:
    """Read all objects of one process, that were verified before, by one read for each page that they lie in."""

    def __init__(self) -> None:
        self._objects: list[SemLock] = []
        self._clusters: list[list[SemLock]] = []
        self._read: list[bytes | None] = []
        self._uses: dict[int, tuple[int, int] | None] = {}

    def uses(self, memory: Memory, objects: list[SemLock]) -> dict[int, tuple[int, int] | None]:
        """Return what each object says, as `read_use` does, by its address: the same dict while nothing changes."""
        known = objects == self._objects
        if not known:
            self._objects = objects
            self._clusters = list(_clusters(sorted(objects, key=lambda each: each.address)))
        read = [memory.read(each[0].address, each[-1].address + SIZE - each[0].address) for each in self._clusters]
        if not known or read != self._read:
            self._read, self._uses = read, {}
            for close, raw in zip(self._clusters, read, strict=True):
                for each in close:
                    self._uses[each.address] = _use(raw, each.address - close[0].address, each) if raw else None
        return self._uses


def _clusters(objects: Iterable[SemLock]) -> Iterator[list[SemLock]]:
    """Yield neighbours together; `objects` are in the order of their addresses."""
    close: list[SemLock] = []
    for each in objects:
        if close and each.address - close[0].address > _CLOSE:
            yield close
            close = []
        close.append(each)
    if close:
        yield close


def _use(raw: bytes, at: int, known: SemLock) -> tuple[int, int] | None:
    refcount, type_, handle, last_tid, count, maxvalue, kind, _ = _LAYOUT.unpack_from(raw, at)
    same = type_ == known.type and handle == known.handle and maxvalue == known.maxvalue and kind == known.kind
    return (last_tid, count) if same and _is_alive(refcount) else None


def lower_half(pointer: int) -> int:
    """Return what a search compares a pointer by."""
    return pointer & 0xFFFFFFFF


class Search:
    """Look through a process's memory for SemLock objects of the given handles, a piece at a time.

    One handle is searched for by its own address, which finds every object that has it. For several, the first pass
    looks for one address until an object is met that has it. The type of that object then leads to all the others in a
    second pass. Objects may be of several types (a subclass, a copy of multiprocessing): for the first four handles
    that are left, it looks for one more. Run it by iterating: it yields after each piece of at most 512 KiB, so that
    the caller can stop, go on later, or give up. `found` and `types` grow as it goes.
    """

    def __init__(
        self,
        memory: Memory,
        ranges: Callable[[], Iterator[tuple[int, int]]],
        handles: Collection[int],
        types: Collection[int] = (),
        missing: Collection[int] = (),
    ) -> None:
        """`ranges` lists the parts of memory again for each pass; `types` are verified types here. `missing` are
        the handles of which no object is known yet: those are searched for singly, in this order.
        """
        self.memory = memory
        self.found: dict[int, SemLock] = {}
        self.types: set[int] = set(types)
        self._ranges = ranges
        self._handles = frozenset(handles)
        self._missing = list(missing or sorted(handles))
        self._met: set[int] = set()

    def __iter__(self) -> Iterator[None]:
        if len(self._handles) == 1:
            for handle in self._handles:
                yield from self._by_handle(handle)
            return
        for type_ in sorted(self.types):
            yield from self._by_type(type_)
        tries = _MOST_SINGLY if self.types else len(self._missing)
        for handle in self._missing:
            if not tries or handle in self._met:
                continue
            known = set(self.types)
            yield from self._by_handle(handle, until_met=True)
            tries = min(tries - 1, _MOST_SINGLY) if self.types else tries - 1
            for type_ in sorted(self.types - known):
                yield from self._by_type(type_)

    def _by_handle(self, handle: int, until_met: bool = False) -> Iterator[None]:
        for hit in self._hits(handle):
            if hit is None:
                yield
                continue
            candidate = read(self.memory, hit - HANDLE_AT)
            if candidate and candidate.handle == handle and self._is_type(candidate.type):
                self._note(candidate)
                if until_met:
                    return

    def _by_type(self, type_: int) -> Iterator[None]:
        for hit in self._hits(type_):
            if hit is None:
                yield
                continue
            candidate = read(self.memory, hit - TYPE_AT)
            if candidate and candidate.type == type_ and candidate.handle in self._handles:
                self._note(candidate)

    def _note(self, found: SemLock) -> None:
        self.found[found.address] = found
        self._met.add(found.handle)

    def _is_type(self, address: int) -> bool:
        if address not in self.types and is_semlock_type(self.memory, address):
            self.types.add(address)
        return address in self.types

    def _hits(self, pointer: int) -> Iterator[int | None]:
        """Addresses of 8-byte words that may be the pointer, and None after each piece that was read."""
        wanted = [lower_half(pointer)]
        for start, end in self._ranges():
            for at in range(start, end, _PIECE):
                yield from (
                    hit for hit, _ in self.memory.find_words(at, min(at + _PIECE, end), wanted) if not hit % _ALIGNED
                )
                yield None
