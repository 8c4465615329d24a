"""Evidence for who holds a lock that keeps no owner, from the frames of all threads.

A thread may hold a lock without any evidence (another function has taken it and returned). Evidence of the two kinds
with `acquire` is weaker than `with`: jumps are not followed, so a branch that was not taken counts as well. The caller
sees to it that the lock is locked, and that the thread sleeps before and after the sample.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from enum import Enum

from semtrace.cpython import layout as at
from semtrace.cpython.acquirecalls import Taken, taken_between
from semtrace.cpython.budget import Budget
from semtrace.cpython.classes import Class, Form
from semtrace.cpython.frames import variables
from semtrace.cpython.stack import PyFrame, PyThread, Sample, frame_of, stack_values
from semtrace.cpython.tasks import suspended_coroutines
from semtrace.cpython.withblocks import GENERATORS, given_back, locks_of, managers, suspended
from semtrace.cpython.withlines import with_line
from semtrace.lazydata import dataclass

MOST_S, MOST_VALUES = 1.0, 100_000
MOST_NESTED = 4  # generators within generators, context managers within context managers
_MOST_CALLBACKS = 64
_MOST_CELLS = 8
# Include/object.h: a living object's ob_refcnt; the allocator keeps a pointer there once it is freed
_MOST_REFERENCES = 1 << 30
_EXIT_STACKS = frozenset({("contextlib", "ExitStack"), ("contextlib", "AsyncExitStack")})
_LETS_GO = frozenset({"release", "__exit__"})


_Found = tuple["HoldKind", int, PyFrame, Taken | None]


class HoldKind(Enum):
    """The strongest first."""

    INSIDE_WITH = "inside `with` the lock"
    IN_GENERATOR = "a generator or coroutine that is suspended inside `with` the lock, or between acquire and release"
    IN_EXIT_STACK = "an ExitStack will release the lock"
    BETWEEN_ACQUIRE_AND_RELEASE = "a function that acquires the lock before this line and releases it behind it"
    AFTER_ACQUIRE_WITHOUT_RELEASE = "a function that acquires the lock before this line and releases it nowhere"


@dataclass(frozen=True)
class Evidence:
    """Evidence that `thread` holds the lock at `lock`. `frame` is the place. For a generator or coroutine it is its own
    frame. Then `via` is the frame that has it, None for a task of the event loop that the thread runs.

    `acquired_line` is the line of the `with` or of the acquire, where there is one. `tested` is True if the code looks
    at what acquire returned: it may have failed.
    """

    kind: HoldKind
    lock: int
    thread: PyThread
    frame: PyFrame
    via: PyFrame | None = None
    acquired_line: int | None = None
    tested: bool = False


def evidence(
    sample: Sample, locks: Container[int], waits: Mapping[int, int] | None = None
) -> dict[int, tuple[Evidence, ...]] | None:
    """Return the evidence for each of these locks, the strongest first; a lock without any is not in it. None if not
    all frames could be read.

    A lock is given by the address of its object, one of multiprocessing by that of its SemLock. `waits` has the lock
    that a thread sleeps in, by the thread's pthread id: the acquire that it is in does not count.
    """
    budget = Budget(MOST_S, MOST_VALUES)
    search = _Search(sample, locks, budget)
    found: dict[int, list[Evidence]] = {}
    for thread in sample.threads:
        waited = (waits or {}).get(thread.pthread_id, 0)
        given = search.given_back(thread)
        for position, frame in enumerate(thread.frames):
            for each in search.of_frame(thread, frame, waited if position == 0 else 0):
                if each.lock not in given:
                    found.setdefault(each.lock, []).append(each)
        for each in search.of_tasks(thread):
            found.setdefault(each.lock, []).append(each)
    sure = {lock: _sorted(each) for lock, each in found.items()}
    return None if budget.spent() or sample.cut or sample.objects.pages.full else sure


def _sorted(found: list[Evidence]) -> tuple[Evidence, ...]:
    """Return each place once: several frames may lead to one generator."""
    order = list(HoldKind)
    places: dict[tuple[HoldKind, int, int], Evidence] = {}
    for one in found:
        places.setdefault((one.kind, one.thread.state, one.frame.address), one)
    return tuple(sorted(places.values(), key=lambda one: order.index(one.kind)))


class _Search:
    def __init__(self, sample: Sample, locks: Container[int], budget: Budget) -> None:
        self._sample = sample
        self._objects, self._classes = sample.objects, sample.classes
        self._locks = locks
        self._budget = budget
        self._running = {frame.address for thread in sample.threads for frame in thread.frames}
        self._seen: set[int] = set()  # generators of one frame

    def given_back(self, thread: PyThread) -> set[int]:
        """Return the locks that the thread has given back while it waits for a signal."""
        return {
            lock
            for frame in thread.frames
            for lock in given_back(self._objects, self._classes, self._budget, frame.address, frame.function)
        }

    def of_frame(self, thread: PyThread, frame: PyFrame, waited: int) -> Iterator[Evidence]:
        self._seen.clear()
        yield from self._evidence(thread, frame, self._in(frame, waited, 0))

    def of_tasks(self, thread: PyThread) -> Iterator[Evidence]:
        self._seen.clear()
        for coroutine in suspended_coroutines(self._sample, thread):
            cls = self._classes.of(coroutine)
            if cls is not None:
                yield from self._evidence(thread, None, self._in_generator(coroutine, cls, 0))

    def _evidence(self, thread: PyThread, frame: PyFrame | None, found: Iterator[_Found]) -> Iterator[Evidence]:
        for kind, lock, place, taken in found:
            if lock not in self._locks:
                continue
            line = taken.line if taken else None
            via = frame if place is not frame else None
            yield Evidence(kind, lock, thread, place, via, line, taken.tested if taken else False)

    def _in(self, frame: PyFrame, waited: int, nested: int) -> Iterator[_Found]:
        """Yield what a frame holds: by `with`, by an ExitStack, by its generators, by acquire."""
        if self._budget.spent() or nested > MOST_NESTED:
            return
        entered = list(managers(self._objects, self._classes, self._budget, frame.address, frame.code))
        for manager, level in entered:
            if not self._is_generator_manager(self._classes.of(manager)):
                yield from self._inside(frame, manager, level)
        for value in dict.fromkeys([*(manager for manager, _ in entered), *self._values(frame)]):
            self._budget.looked_at += 1
            cls = self._classes.of(value)
            if cls is None:
                continue
            if any((each.module, each.name) in _EXIT_STACKS for each in self._bases(cls)):
                yield from ((HoldKind.IN_EXIT_STACK, lock, frame, None) for lock in self._callbacks(value, cls))
            yield from self._in_generator(value, cls, nested)
        for taken in taken_between(self._sample, frame, self._locks, self._budget, waited):
            released = HoldKind.BETWEEN_ACQUIRE_AND_RELEASE
            yield released if taken.released else HoldKind.AFTER_ACQUIRE_WITHOUT_RELEASE, taken.lock, frame, taken

    def _inside(self, frame: PyFrame, manager: int, level: int) -> Iterator[_Found]:
        for lock in self._locks_of(manager):
            line = with_line(self._objects, frame, level) if lock in self._locks else None
            yield HoldKind.INSIDE_WITH, lock, frame, Taken(lock, line, released=True, tested=False)

    def _values(self, frame: PyFrame) -> Iterator[int]:
        """Yield what the frame's variables and its stack refer to. Of old values on the stack only what lives counts:
        `_in_generator` sees to that.
        """
        yield from (value for _, value in variables(self._objects, self._classes, frame.address, frame.code))
        yield from stack_values(self._objects, frame)

    def _bases(self, cls: Class) -> Iterator[Class]:
        return self._classes.mro(cls) if cls.flags & at.HEAPTYPE else iter(())

    def _in_generator(self, value: int, cls: Class, nested: int) -> Iterator[_Found]:
        if self._is_generator_manager(cls):
            value = self._classes.attribute(value, cls, "gen")
            found = self._classes.of(value)
            if found is None:
                return
            cls = found
        if cls.module != "builtins" or cls.name not in GENERATORS or value in self._seen or not self._lives(value):
            return
        self._seen.add(value)
        address, code = suspended(self._objects, cls, value)
        kind = self._classes.of(code) if code else None
        if kind is None or kind.name != "code" or address in self._running:
            return
        frame = frame_of(self._objects, address, code)
        for _, lock, place, taken in self._in(frame, 0, nested + 1):
            yield HoldKind.IN_GENERATOR, lock, place, taken

    def _is_generator_manager(self, cls: Class | None) -> bool:
        return cls is not None and (cls.module, cls.name) == ("contextlib", "_GeneratorContextManager")

    def _lives(self, value: int) -> bool:
        return 0 < self._objects.pages.u64(value) & 0xFFFFFFFF < _MOST_REFERENCES

    def _callbacks(self, stack: int, cls: Class) -> Iterator[int]:
        """Lib/contextlib.py _BaseExitStack, 3.8 to 3.15: `_exit_callbacks`, a deque of (is_sync, callable). That of a
        context manager is a method bound to it, that of `callback()` a function around what was given.
        """
        callbacks = self._classes.attribute(stack, cls, "_exit_callbacks")
        kind = self._classes.of(callbacks)
        if kind is None or kind.form is not Form.DEQUE:
            return
        for entry in self._objects.deque_items(callbacks, _MOST_CALLBACKS):
            for item in self._objects.tuple_of(entry, 2)[1:]:
                yield from self._freed_by(item)

    def _freed_by(self, function: int) -> Iterator[int]:
        """Yield the locks that this callable of an ExitStack releases."""
        cls = self._classes.of(function)
        if cls is None:
            return
        u64 = self._objects.pages.u64
        if (cls.module, cls.name) == ("builtins", "method"):
            yield from self._locks_of(u64(function + at.METHOD_SELF))
        elif cls.form is Form.FUNCTION:
            cells = self._objects.tuple_of(u64(function + self._objects.layout.function_closure), _MOST_CELLS)
            for cell in cells:
                yield from self._released_by(u64(cell + at.CELL_VALUE))

    def _released_by(self, function: int) -> Iterator[int]:
        cls = self._classes.of(function)
        if cls is not None and cls.form is Form.BUILTIN:
            pages = self._objects.pages
            if pages.cstring(pages.u64(pages.u64(function + at.CFUNCTION_METHOD)), 16) in _LETS_GO:
                yield from self._locks_of(pages.u64(function + at.CFUNCTION_SELF))

    def _locks_of(self, manager: int) -> Iterator[int]:
        return locks_of(self._objects, self._classes, self._budget, manager, 0)
