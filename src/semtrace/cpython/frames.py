"""The local variables of the functions that a process is running: what `main()` or gunicorn itself holds.

The frames of a running thread come and go while they are read; those that wait at the bottom of a stack stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from semtrace.cpython import layout as at
from semtrace.cpython.budget import Budget
from semtrace.cpython.classes import Classes, Form
from semtrace.cpython.objects import Objects
from semtrace.lazydata import dataclass

_MOST_THREADS = 256
_MOST_FRAMES = 200
_MOST_LOCALS = 256


@dataclass(frozen=True)
class Frame:
    """A function that is being run. `namespace` is its module's `__dict__`, `variables` are the addresses of names and
    values of its variables."""

    function: str
    namespace: int
    variables: tuple[tuple[int, int], ...]


def read_frames(objects: Objects, classes: Classes, interpreters: Iterable[int], budget: Budget) -> Iterator[Frame]:
    """The frames of all threads, innermost first. Modules' own code is left out: its variables are the module's."""
    for thread in thread_states(objects, interpreters):
        if budget.spent():
            break
        for position, code, function in running(objects, classes, thread):
            if function != "<module>":
                namespace = objects.pages.u64(position + objects.layout.frame_globals)
                yield Frame(function, namespace, tuple(variables(objects, classes, position, code)))


def thread_states(objects: Objects, interpreters: Iterable[int]) -> Iterator[int]:
    """The address of each PyThreadState."""
    layout, u64 = objects.layout, objects.pages.u64
    for state in interpreters:
        thread = u64(state + layout.threads_head)
        for _ in range(_MOST_THREADS):
            if not thread:
                break
            yield thread
            thread = u64(thread + layout.thread_next)


def running(objects: Objects, classes: Classes, thread: int) -> Iterator[tuple[int, int, str]]:
    """The frames of a thread, innermost first: the address of each, of its code, and its function's name."""
    u64, name = objects.pages.u64, objects.layout.code_name
    for position, code in places(objects, thread):
        cls = classes.of(code)
        # 3.12 and later have frames of C code in between, whose "code" is None
        function = objects.text(u64(code + name)) if cls is not None and cls.name == "code" else None
        if function:
            yield position, code, function


def places(objects: Objects, thread: int) -> Iterator[tuple[int, int]]:
    """Yield the addresses of a thread's frames, innermost first, and of what each has for its code."""
    layout, u64 = objects.layout, objects.pages.u64
    position = u64(thread + layout.thread_frame)
    if layout.cframe_current >= 0 and position:
        position = u64(position + layout.cframe_current)
    for _ in range(_MOST_FRAMES):
        if not position or position & 7:
            return
        yield position, objects.reference(position + layout.frame_code)
        position = u64(position + layout.frame_back)


def variables(objects: Objects, classes: Classes, frame: int, code: int) -> Iterator[tuple[int, int]]:
    """Locals, then cells, then free variables (Objects/frameobject.c), in the order of the code's names."""
    layout, u64 = objects.layout, objects.pages.u64
    offsets = [layout.code_varnames]
    if layout.code_cellvars:
        offsets += [layout.code_cellvars, layout.code_freevars]
    names = [name for offset in offsets for name in objects.tuple_of(u64(code + offset), _MOST_LOCALS)]
    for i, name in enumerate(names):
        value = objects.reference(frame + layout.frame_locals + 8 * i)
        cls = classes.of(value) if value else None
        if cls is not None:
            yield name, u64(value + at.CELL_VALUE) if cls.form is Form.CELL else value
