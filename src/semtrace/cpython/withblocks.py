"""Find the threads inside `with lock:`, of a lock that itself keeps no owner: threading's, or multiprocessing's.

A thread inside has the lock's bound `__exit__` on its frame's stack. It is put there once `__enter__` is done (up to
3.10: named as live once it is done) and gone before `__exit__` is called. From 3.14 on it is the unbound one, and next
to it the lock (Python/bytecodes.c LOAD_SPECIAL). Above its live values a stack keeps old ones, so its depth has to be
known exactly. From 3.11 on the exception table has it for the instruction that a frame is at, before that the innermost
block has it. Only of threads that sleep meanwhile is any of it true: the caller sees to that.

A `@contextmanager` that has the `with` in it stands on the stack as itself, and its generator's own stack is read.
Locks that an ExitStack has entered, or a suspended coroutine holds, are not seen here: `held` finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

from semtrace.cpython import layout as at
from semtrace.cpython.budget import Budget
from semtrace.cpython.classes import Class, Classes, Form
from semtrace.cpython.objects import Objects

MOST_DEPTH = 200
MOST_TABLE = 1 << 16
MOST_NESTED = 4  # context managers within context managers
# Objects/genobject.c: all three begin with _PyGenObject_HEAD and end with their frame
GENERATORS = frozenset({"generator", "coroutine", "async_generator"})


def given_back(objects: Objects, classes: Classes, budget: Budget, frame: int, function: str) -> Iterator[int]:
    """Yield the lock of the Condition that a frame of this function waits in: it is free for others meanwhile.

    Lib/threading.py and Lib/multiprocessing/synchronize.py Condition.wait, 3.8 to 3.15; copies have the same names.
    """
    if function.rpartition(".")[2] != "wait":
        return
    condition = objects.reference(frame + objects.layout.frame_locals)  # the first variable: self
    cls = classes.of(condition)
    if cls is not None and any(base.name == "Condition" for base in classes.mro(cls)):
        yield from locks_of(objects, classes, budget, condition, 0)


def _entered(
    objects: Objects, classes: Classes, budget: Budget, frame: int, code: int, nested: int = 0
) -> Iterator[int]:
    """The locks that a frame is inside of, and those of the context managers that it is inside of."""
    if budget.spent():
        return
    for manager, _ in managers(objects, classes, budget, frame, code):
        yield from locks_of(objects, classes, budget, manager, nested)


def managers(objects: Objects, classes: Classes, budget: Budget, frame: int, code: int) -> Iterator[tuple[int, int]]:
    """Yield the context managers whose `with` blocks a frame is inside of, the outermost first, each with the place of
    its `__exit__` on the frame's stack.
    """
    live = _live(objects, classes, frame, code)
    for level, (value, following) in enumerate(zip_longest(live, live[1:], fillvalue=0)):
        budget.looked_at += 1
        if manager := _manager(objects, classes, value, following):
            yield manager, level


def _manager(objects: Objects, classes: Classes, value: int, following: int) -> int:
    """Return the object whose bound `__exit__` this is, or that follows its unbound one, else 0."""
    pages = objects.pages
    cls = classes.of(value)
    if cls is None or cls.module != "builtins":
        return 0
    if cls.name == "builtin_function_or_method":
        name = pages.cstring(pages.u64(pages.u64(value + at.CFUNCTION_METHOD)), 16)  # PyMethodDef.ml_name is its first
        return pages.u64(value + at.CFUNCTION_SELF) if name == "__exit__" else 0
    if cls.name == "method":
        function = pages.u64(value + at.METHOD_FUNCTION)
        return pages.u64(value + at.METHOD_SELF) if _is_exit(objects, function) else 0
    if not objects.layout.tagged_references or classes.of(following) is None:
        return 0
    if cls.name in ("method_descriptor", "wrapper_descriptor"):
        return following if objects.text(pages.u64(value + at.DESCRIPTOR_NAME)) == "__exit__" else 0
    return following if cls.form is Form.FUNCTION and _is_exit(objects, value) else 0


def _is_exit(objects: Objects, function: int) -> bool:
    code = objects.pages.u64(function + objects.layout.function_code)
    name = objects.text(objects.pages.u64(code + objects.layout.code_name)) or ""
    return (
        name.endswith(("__exit__", "__aexit__")) or name == "_exit"
    )  # the latter is what semtrace.instrument.patch puts there


def locks_of(objects: Objects, classes: Classes, budget: Budget, manager: int, nested: int) -> Iterator[int]:
    """The lock that is held by being inside this one: itself, or what it hands its own `__enter__` on to."""
    yield manager
    cls = classes.of(manager)
    if cls is None or nested >= MOST_NESTED:
        return
    if cls.form is Form.WRAPPER:
        yield classes.attribute(manager, cls, "_semlock")
    elif cls.form is Form.CONDITION or "_lock" in cls.parts:  # threading's; multiprocessing's Condition, Value, Array
        yield from locks_of(objects, classes, budget, classes.attribute(manager, cls, "_lock"), nested + 1)
    elif (cls.module, cls.name) == ("contextlib", "_GeneratorContextManager"):
        generator = classes.attribute(manager, cls, "gen")
        frame, code = suspended(objects, classes.of(generator), generator)
        yield from _entered(objects, classes, budget, frame, code, nested + 1) if code else ()


def suspended(objects: Objects, cls: Class | None, generator: int) -> tuple[int, int]:
    """The frame of a generator or coroutine and its code."""
    if cls is None or cls.module != "builtins" or cls.name not in GENERATORS:
        return 0, 0
    layout, u64 = objects.layout, objects.pages.u64
    if layout.frame_instruction:  # Objects/genobject.c PyGen_Type.tp_basicsize: up to gi_iframe.localsplus
        frame = generator + cls.basicsize - layout.frame_locals
    else:
        frame = u64(generator + at.GENERATOR_FRAME)
    return (frame, objects.reference(frame + layout.frame_code)) if frame else (0, 0)


def _live(objects: Objects, classes: Classes, frame: int, code: int) -> tuple[int, ...]:
    """Return the objects that are surely on the frame's stack: those that its blocks' handlers would find."""
    layout, pages = objects.layout, objects.pages
    if layout.frame_instruction:
        depth = _depth_by_table(objects, classes, frame, code)
        stack = frame + layout.frame_locals + 8 * pages.u32(code + layout.code_nlocalsplus)
    else:
        depth = _depth_by_block(objects, frame)
        stack = pages.u64(frame + at.FRAME_STACK)
    return tuple(map(objects.untagged, pages.words(stack, depth))) if 0 < depth <= MOST_DEPTH else ()


def _depth_by_block(objects: Objects, frame: int) -> int:
    """Objects/frameobject.c PyFrame_BlockSetup, 3.8 to 3.10: b_level of the innermost block."""
    blocks = frame + objects.layout.frame_locals - at.BLOCKS * at.BLOCK_SIZE
    count = objects.pages.u32(blocks - 8)
    return objects.pages.u32(blocks + (count - 1) * at.BLOCK_SIZE + at.BLOCK_LEVEL) if 0 < count <= at.BLOCKS else 0


def _depth_by_table(objects: Objects, classes: Classes, frame: int, code: int) -> int:
    """Objects/exception_handling_notes.txt: the depth of the entry that covers the instruction, 0 without one."""
    pages = objects.pages
    cls = classes.of(code)
    if cls is None:
        return 0
    # Objects/codeobject.c PyCode_Type.tp_basicsize: the instructions begin where the object ends
    instruction = pages.u64(frame + objects.layout.frame_instruction) - (code + cls.basicsize)
    for handler in handlers(exception_table(objects, code)):
        if handler.start <= instruction // 2 < handler.end:
            return handler.depth
    return 0


def exception_table(objects: Objects, code: int) -> bytes:
    """Return the exception table of a code object (3.11 and later), empty if it cannot be read."""
    table = objects.pages.u64(code + at.CODE_EXCEPTIONS)
    size = objects.pages.u64(table + at.OB_SIZE)
    if not objects.type_flags(objects.type_of(table)) & at.BYTES or size > MOST_TABLE:
        return b""
    return objects.pages.read(table + at.BYTES_DATA, size) or b""


class Handler(NamedTuple):
    """One entry of an exception table. `start`, `end` and `target` count instructions; `end` is the first not covered.

    `depth` is that of the stack. `keeps` is True for a `with`, whose handler learns where the exception came from.
    """

    start: int
    end: int
    target: int
    depth: int
    keeps: bool


def handlers(table: bytes) -> Iterator[Handler]:
    """Yield the entries of an exception table; Objects/exception_handling_notes.txt, 3.11 to 3.15.

    Four numbers of six bits a byte, the highest first; 64 marks that more follow, 128 the first of an entry.
    """
    numbers: list[int] = []
    value = 0
    for byte in table:
        if byte & 128:
            numbers, value = [], 0
        value = value << 6 | byte & 63
        if byte & 64:
            continue
        numbers.append(value)
        value = 0
        if len(numbers) == 4:
            start, length, target, depth = numbers
            yield Handler(start, start + length, target, depth >> 1, bool(depth & 1))
