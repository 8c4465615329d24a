"""The ways from a thread's frames to the lock that it sleeps in: `queue.Queue.mutex`, reached from a variable `q`.

What a way leads to is certain, because the object itself refers to the word that the thread sleeps on. Which way the
code took is not: all that the variables of its innermost frames have within a few steps is searched.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from semtrace.cpython import layout as at
from semtrace.cpython.budget import Budget
from semtrace.cpython.bytecode import globals_of, item_of
from semtrace.cpython.classes import Class, Form
from semtrace.cpython.namespaces import namespace_of
from semtrace.cpython.stack import PyFrame, Sample, stack_values
from semtrace.cpython.variables import variables
from semtrace.lazydata import dataclass

MOST_FRAMES = 8
MOST_STEPS = 3
MOST_OBJECTS = 600  # that one frame's search looks at
MOST_S = 1.0
_MOST_ITEMS = 64
_LIBRARY = re.compile(r"/(site|dist)-packages/|/lib(64)?/python3(\.\d+)?/|^<frozen ")
_BOOTING = frozenset({"run", "_bootstrap_inner", "_bootstrap"})  # Lib/threading.py: who called what a thread runs
_BUFFERED = frozenset({"BufferedReader", "BufferedWriter", "BufferedRandom"})
_STREAMS = ("stdout", "stderr", "__stdout__", "__stderr__")
# Modules/_io/textio.c struct textio.buffer, 3.8 to 3.15: a member of Python's up to 3.13, then hidden
_TEXT, _TEXT_BUFFER = ("_io", "TextIOWrapper"), 32
_SIMPLE_QUEUE = ("_queue", "SimpleQueue")


@dataclass(frozen=True)
class Target:
    """The word that a thread sleeps on: the address of a sem_t, or of a PyMutex at which it is parked."""

    word: int
    parked: bool


@dataclass(frozen=True)
class Step:
    """One step of a way: from an object of class `owner` through `label`, an attribute or an item as `[0]`."""

    owner: str
    label: str


@dataclass(frozen=True)
class Way:
    """A way from a frame to the object at `address`. `variable` is that of the frame with which it begins, None if only
    the frame's stack has it.
    """

    frame: PyFrame
    variable: str | None
    steps: tuple[Step, ...]
    address: int
    cls: Class

    @property
    def text(self) -> str:
        """The way as the source would write it, from its variable on."""
        parts = (step.label if step.label.startswith("[") else f".{step.label}" for step in self.steps)
        return (self.variable or "") + "".join(parts)


def ways_to(sample: Sample, frames: Sequence[PyFrame], target: Target) -> tuple[Way, ...]:
    """Return the shortest way of each of the innermost frames that has one, innermost first, up to the first that
    begins with a variable of the user's own code.
    """
    found: list[Way] = []
    budget = Budget(MOST_S, MOST_FRAMES * MOST_OBJECTS)
    for frame in frames[:MOST_FRAMES]:
        if frame.file.endswith("/threading.py") and frame.function in _BOOTING:
            break
        way = _search(sample, frame, target, _named(sample, frame), budget) or (
            None if found else _search(sample, frame, target, _stack(sample, frame), budget)
        )
        if way is not None:
            found.append(way)
            if way.variable and not is_library(frame.file):
                break
    if not found and frames:
        way = _search(sample, frames[0], target, _streams(sample), budget)
        return (way,) if way else ()
    return tuple(found)


def is_library(file: str) -> bool:
    """Return True for the standard library and installed packages."""
    return _LIBRARY.search(file) is not None


def matches(sample: Sample, address: int, cls: Class, target: Target) -> bool:
    """Return True if a thread that sleeps on the target waits for this very object.

    Modules/_threadmodule.c lockobject, rlockobject; Modules/_queuemodule.c simplequeueobject (a lock up to 3.12, then
    parked at a byte of its own); Modules/_io/bufferedio.c buffered.lock.
    """
    if cls.form in (Form.THREAD_LOCK, Form.THREAD_RLOCK):
        if target.parked:
            return sample.objects.layout.parked and address + at.LOCK_MUTEX == target.word
        return not sample.objects.layout.parked and sample.objects.pages.u64(address + at.LOCK_SEMAPHORE) == target.word
    if not is_buffered(cls) and (cls.module, cls.name) != _SIMPLE_QUEUE:
        return False
    if address < target.word < address + cls.basicsize:
        return True
    return target.word in sample.objects.pages.words(address + 16, min(cls.basicsize // 8 - 2, 32))


def is_buffered(cls: Class) -> bool:
    """Return True for a buffered file of the io module."""
    return cls.module == "_io" and cls.name in _BUFFERED


def _search(
    sample: Sample, frame: PyFrame, target: Target, roots: Iterable[tuple[str | None, int]], budget: Budget
) -> Way | None:
    """Search breadth first."""
    waiting: deque[tuple[int, str | None, tuple[Step, ...]]] = deque((value, name, ()) for name, value in roots)
    seen: set[int] = set()
    while waiting and len(seen) < MOST_OBJECTS and not budget.spent():
        address, variable, steps = waiting.popleft()
        cls = sample.classes.of(address)
        if address in seen or cls is None:
            continue
        seen.add(address)
        budget.looked_at += 1
        if matches(sample, address, cls, target):
            return Way(frame, variable, steps, address, cls)
        if len(steps) < MOST_STEPS:
            for label, value in _children(sample, address, cls):
                # A bound method or a cell is not a step that the source shows.
                further = (*steps, Step(f"{cls.module}.{cls.name}", label)) if label else steps
                waiting.append((value, variable, further))
    return None


def _streams(sample: Sample) -> Iterator[tuple[str | None, int]]:
    """Yield what `print` writes to without a variable."""
    namespace = namespace_of(sample, "sys")
    yield from ((f"sys.{name}", item_of(sample.objects, namespace, name)) for name in _STREAMS)


def _named(sample: Sample, frame: PyFrame) -> Iterator[tuple[str | None, int]]:
    yield from variables(sample, frame).items()
    yield from globals_of(sample.objects, frame.address, frame.code)


def _stack(sample: Sample, frame: PyFrame) -> Iterator[tuple[str | None, int]]:
    """Yield also former references of the stack: `matches` checks whether they are still true."""
    yield from ((None, value) for value in stack_values(sample.objects, frame))


def _children(sample: Sample, address: int, cls: Class) -> Iterator[tuple[str, int]]:
    objects = sample.objects
    if cls.form in (Form.LIST, Form.TUPLE):
        items = (objects.list_items if cls.form is Form.LIST else objects.tuple_items)(address, _MOST_ITEMS)
        yield from ((f"[{number}]", item) for number, item in enumerate(items))
    elif cls.form is Form.DICT:
        for key, value in objects.dict_items(address, _MOST_ITEMS):
            yield f"[{objects.text(key)!r}]", value
    elif cls.form is Form.CELL:
        yield "", objects.pages.u64(address + at.CELL_VALUE)
    elif cls.form is Form.BUILTIN:
        yield "", objects.pages.u64(address + at.CFUNCTION_SELF)
    elif cls.form is Form.FUNCTION:
        cells = objects.tuple_of(objects.pages.u64(address + objects.layout.function_closure), _MOST_ITEMS)
        yield from (("", cell) for cell in cells)
    elif cls.name == "method" and cls.module == "builtins":
        yield "", objects.pages.u64(address + at.METHOD_SELF)
    elif (cls.module, cls.name) == _TEXT:
        yield "buffer", objects.pages.u64(address + _TEXT_BUFFER)
    elif cls.form not in (Form.MODULE, Form.SET, Form.DEQUE):
        yield from _attributes(sample, address, cls)


def _attributes(sample: Sample, address: int, cls: Class) -> Iterator[tuple[str, int]]:
    """Yield the attributes of an instance and those of its class that are no methods; of a class its own."""
    if cls.form is not Form.CLASS:
        for label, value in sample.classes.attributes(address, cls):
            yield (label if isinstance(label, str) else sample.objects.text(label) or "?"), value
    own = sample.classes.read(address) if cls.form is Form.CLASS else cls
    if own is None or own.module == "builtins" or not own.flags & at.HEAPTYPE:
        return
    for label, value in sample.classes.class_items(own.address)[:_MOST_ITEMS]:
        kind = sample.classes.of(value)
        if kind is not None and kind.form in (Form.THREAD_LOCK, Form.THREAD_RLOCK, Form.CONDITION, Form.SEMAPHORE):
            yield (label if isinstance(label, str) else sample.objects.text(label) or "?"), value
