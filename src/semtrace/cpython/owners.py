"""Find what a semaphore is a part of: the objects that refer to its SemLock, from the lock up to a Queue or Pool.

For semaphores that no name leads to. It searches the process's memory backwards: for words that point to the object,
then from an attribute's slot to the instance that has it (its values, or its dict). Whatever it finds is read forwards
again before it is believed. What it cannot find are owners that keep the lock elsewhere than in an attribute.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence

from semtrace.cpython import layout as at
from semtrace.cpython.classes import Class, Classes, Form
from semtrace.cpython.layout import Instances, Layout
from semtrace.cpython.naming import plain
from semtrace.cpython.objects import Objects
from semtrace.cpython.page_cache import Pages
from semtrace.cpython.runtime import UnreadableError, locate
from semtrace.lazydata import dataclass
from semtrace.linux.maps import Mapping
from semtrace.linux.memory import Memory

_PIECE = 1 << 19
_MOST_REGIONS = 16  # that one pass looks for pointers into
_MOST_SLOTS = 4096
_MOST_HOLDERS = 2048

# How far behind the beginning of its table an attribute's slot may lie. Instances of a class share 30 values
# (SHARED_KEYS_MAX_SIZE in Objects/dictobject.c), or have a dict of some 80.
_SMALL_TABLE, _TABLE = 264, 2048
# How far behind the beginning of an instance its values or slots may lie.
_INSTANCE = 1024
# Include/internal/pycore_object.h: where a managed dict (3.11, 3.12, 3.13) and values (3.11; 3.12) lie before it.
_DICT_BEFORE, _VALUES_BEFORE = 24, {Instances.VALUES_AND_DICT: 32, Instances.TAGGED: 24}

# A lock, the Condition or queue that has it, the Event, JoinableQueue or Pool that has that.
_LEVELS = 3
# Attributes of the Condition and the queues that may be parts themselves.
_NESTED = frozenset({"_wait_semaphore", "_rlock"})

_MOST_ATTRIBUTES = 1000


@dataclass(frozen=True)
class Owner:
    """The primitive that a lock is a part of: address and class of the outermost one; `attribute` is the one that has
    the lock in the innermost.
    """

    address: int
    kind: str
    attribute: str


@dataclass(frozen=True)
class _Reference:
    """An instance that has an object as one of its attributes."""

    instance: int
    cls: Class
    attribute: str


class OwnerSearch:
    """Run it by iterating: it yields after each piece. Then `owners` has, of each SemLock whose Python object was
    found, its owner or None; the others are those that it cannot judge.
    """

    def __init__(
        self,
        memory: Memory,
        mappings: Sequence[Mapping],
        ranges: Callable[[], Iterator[tuple[int, int]]],
        semlocks: Collection[int],
    ) -> None:
        self.owners: dict[int, Owner | None] = {}
        self._memory = memory
        self._mappings = mappings
        self._ranges = ranges
        self._semlocks = semlocks
        self._references: dict[int, list[_Reference]] = {}
        self._layout: Layout
        self._objects: Objects
        self._classes: Classes

    def __iter__(self) -> Iterator[None]:
        """Search level after level, each for what the one before has found."""
        try:
            runtime, _ = locate(Pages(self._memory), self._mappings)
        except UnreadableError:
            return
        self._layout = runtime.layout
        yield from self._refer(set(self._semlocks))
        wrappers = {
            semlock: reference.instance
            for semlock in self._semlocks
            for reference in self._references.get(semlock, ())
            if reference.cls.form is Form.WRAPPER and reference.attribute == "_semlock"
        }
        wanted = set(wrappers.values())
        for _ in range(_LEVELS):
            if wanted:
                yield from self._refer(wanted)
            parts = [part for target in wanted if (part := self._part(target)) is not None]
            wanted = {part.instance for part in parts if part.cls.parts & _NESTED} - self._references.keys()
        for semlock, wrapper in wrappers.items():
            self.owners[semlock] = self._outermost(wrapper)

    def _part(self, target: int) -> _Reference | None:
        return next((r for r in self._references.get(target, ()) if r.attribute in r.cls.parts), None)

    def _outermost(self, wrapper: int) -> Owner | None:
        inner = outer = self._part(wrapper)
        for _ in range(_LEVELS):
            further = self._part(outer.instance) if outer else None
            outer = further or outer
        return Owner(outer.instance, plain(outer.cls.kind), inner.attribute) if inner and outer else None

    # -- from an object to the instances that have it as an attribute

    def _refer(self, targets: set[int]) -> Iterator[None]:
        """Search for the instances that have these as attributes. Most tables of attributes are small, so the larger
        ones are looked for only where those lead nowhere.
        """
        slots: dict[int, int] = {}
        for found in self._find([(target, target) for target in targets]):
            if found is not None and len(slots) < _MOST_SLOTS:
                slots[found[0]] = found[1]
            yield
        self._renew()
        slots = {slot: target for slot, target in slots.items() if not self._is_elsewhere(slot)}
        for slot, target in slots.items():
            self._in_instance(slot, target)
            yield
        for low, high in ((_SMALL_TABLE, 0), (_TABLE, _SMALL_TABLE)):
            left = [slot for slot, target in slots.items() if target not in self._references]
            if left:
                yield from self._by_tables([(slot - low, slot - high) for slot in left], targets)

    def _by_tables(self, intervals: list[tuple[int, int]], targets: set[int]) -> Iterator[None]:
        holders: list[int] = []
        for found in self._find(intervals):
            if found is not None and len(holders) < _MOST_HOLDERS:
                holders.append(found[0])
            yield
        self._renew()
        dicts: dict[int, list[tuple[int, str]]] = {}
        for place in holders:
            self._has_table(place, targets, dicts)
            yield
        namespaces: list[tuple[int, int]] = []
        for found in self._find([(address, address) for address, has in dicts.items() if has]):
            if found is not None and len(namespaces) < _MOST_HOLDERS:
                namespaces.append(found)
            yield
        self._renew()
        for place, namespace in namespaces:
            self._has_dict(place, [target for target, _ in dicts[namespace]])
            yield

    def _is_elsewhere(self, slot: int) -> bool:
        """Return True if a bound method, such as a lock's own `acquire`, or a closure's cell has the object there."""
        method, cell = self._classes.of(slot - at.CFUNCTION_SELF), self._classes.of(slot - at.CELL_VALUE)
        return (method is not None and method.form is Form.BUILTIN) or (cell is not None and cell.form is Form.CELL)

    def _renew(self) -> None:
        """Decode from now on what is there now."""
        self._objects = Objects(Pages(self._memory), self._layout)
        self._classes = Classes(self._objects)

    def _find(self, intervals: list[tuple[int, int]]) -> Iterator[tuple[int, int] | None]:
        """Yield words that point into one of these, both ends included, each after its address, and None after each
        piece. The lowest bit is a mark (pycore_object.h 3.12, PyDictOrValues).
        """
        merged: list[list[int]] = []
        for low, high in sorted(intervals):
            if merged and low <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        lows = [low for low, _ in merged]
        regions = sorted({region for low, high in merged for region in range(low >> 16, (high >> 16) + 1)})
        for first in range(0, len(regions), _MOST_REGIONS):
            for start, end in self._ranges():
                for position in range(start, end, _PIECE):
                    some = regions[first : first + _MOST_REGIONS]
                    for place, word in self._memory.pointers(position, min(position + _PIECE, end), some):
                        number = bisect_right(lows, word) - 1
                        if number >= 0 and word <= merged[number][1] + (word & 1):
                            yield place, word
                    yield None

    def _in_instance(self, slot: int, target: int) -> bool:
        """Take in an instance with inline values (3.13) or with `__slots__`: both lie within it. Return True if so."""
        for start in range(slot - 16, slot - _INSTANCE, -8):
            cls = self._classes.of(start)
            if cls is None or not (cls.flags & at.INLINE_VALUES or cls.members):
                continue
            if slot - start < cls.basicsize + (_INSTANCE if cls.flags & at.INLINE_VALUES else 0) and self._note(
                start, cls, target
            ):
                return True
        return False

    def _has_table(self, place: int, targets: set[int], dicts: dict[int, list[tuple[int, str]]]) -> None:
        """Take in what may be an instance's pointer to its values, or a dict's to its keys or values."""
        before = _VALUES_BEFORE.get(self._layout.instances)
        if before is not None:
            cls = self._classes.of(place + before)
            if cls is not None and cls.flags & at.MANAGED_DICT:
                for target in self._targets_of(place + before, cls, targets):
                    self._note(place + before, cls, target)
        for address in (place - at.DICT_KEYS, place - at.DICT_VALUES):
            if address not in dicts and self._objects.is_dict(address):
                dicts[address] = [
                    (value, self._objects.text(key) or "")
                    for key, value in self._objects.dict_items(address, _MOST_ATTRIBUTES)
                    if value in targets
                ]

    def _targets_of(self, instance: int, cls: Class, targets: set[int]) -> set[int]:
        return {value for _, value in self._classes.attributes(instance, cls)} & targets

    def _has_dict(self, place: int, targets: list[int]) -> None:
        """Take in the instance whose pointer to its dict lies at `place`."""
        for start in (place + _DICT_BEFORE, *range(place - 16, place - _INSTANCE, -8)):
            cls = self._classes.of(start)
            if cls is not None and cls.form in (Form.INSTANCE, Form.WRAPPER):
                found = [target for target in targets if self._note(start, cls, target)]
                if found:
                    return

    def _note(self, instance: int, cls: Class, target: int) -> bool:
        """Note the reference if the instance, read forwards, has the object as an attribute."""
        for label, value in self._classes.attributes(instance, cls):
            if value == target:
                attribute = label if isinstance(label, str) else self._objects.text(label) or ""
                found = _Reference(instance, cls, attribute)
                known = self._references.setdefault(target, [])
                if found not in known:
                    known.append(found)
                return True
        return False
