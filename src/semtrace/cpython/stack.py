"""Python stacks of all threads of another process, from its memory: no ptrace, no pause, no other program.

CPython 3.8 to 3.15 with the GIL. A thread that runs meanwhile may give a stack that never was; that of a thread which
sleeps before and after the reading is true. The caller sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from semtrace.cpython import layout as at
from semtrace.cpython.budget import Budget
from semtrace.cpython.classes import Classes
from semtrace.cpython.frames import places, thread_states
from semtrace.cpython.layout import Layout
from semtrace.cpython.linetables import line_at
from semtrace.cpython.objects import Objects
from semtrace.cpython.page_cache import Pages
from semtrace.cpython.runtime import lock_place
from semtrace.lazydata import dataclass
from semtrace.linux.maps import read_mappings
from semtrace.linux.memory import Memory

MOST_INTERPRETERS = 16
MOST_THREADS, MOST_FRAMES, MOST_S = 256, 200, 1.0
MOST_TABLE = 1 << 17  # bytes of a line table: some 40,000 lines of one function
MOST_CHUNKS = 2048  # of 16 KiB, in one sample
# Include/internal/pycore_frame.h 3.12 FRAME_OWNED_BY_CSTACK, and where the owner lies: a frame of C code, which has a
# code object of its own there (Python/bytecodes.c INTERPRETER_EXIT)
_C_OWNER, _C_OWNER_AT = 3, 70
# Include/cpython/code.h (3.8: Include/code.h) PyCodeObject.co_stacksize, up to 3.10; from 3.11 on it lies behind
# co_argcount, co_posonlyargcount and co_kwonlyargcount
_STACKSIZE_BEFORE, _STACKSIZE = 32, 12
_MOST_STACK = 200
_MOST_KNOWN = 4096


@dataclass(frozen=True)
class PyFrame:
    """A function that is being run, at `line` of `file`. `code` and `address` are those of its code object and frame,
    `instruction` is how many bytes into the code it is. `qualname` is known from 3.11 on.

    `line` is None for an instruction that the compiler gave none.
    """

    function: str
    qualname: str | None
    file: str
    line: int | None
    code: int
    address: int
    instruction: int


@dataclass(frozen=True)
class PyThread:
    """A thread with its frames, innermost first. `state` is the address of its PyThreadState, `pthread_id` what
    `pthread_self()` is there; `native_id` is the kernel's id as the process's own pid namespace numbers it, None before
    3.11. After a fork without exec, `native_id` may be the parent's in 3.11: the pthread id is always true.
    """

    state: int
    pthread_id: int
    native_id: int | None
    frames: tuple[PyFrame, ...]


@dataclass(frozen=True)
class Sample:
    """One reading of a process: its threads, and what is needed to ask about their variables. `runtime` is the address
    of `_PyRuntime`. `cut` is True if more time or memory was needed than a sample may take: frames may be missing.
    """

    objects: Objects
    classes: Classes
    threads: tuple[PyThread, ...]
    runtime: int
    cut: bool


@dataclass(frozen=True)
class _Function:
    """The facts about a code object that hold while its type and the pointers in it stay the same."""

    kind: int
    pointers: bytes
    name: str
    qualname: str | None
    file: str
    first: int
    table: bytes
    lines: dict[int, int | None]


class StackReader:
    """Read the stacks of one process, as often as asked. It remembers code objects, so that the next time costs less.

    `memory` belongs to the caller. Nothing here raises because of what the process is or does.
    """

    def __init__(self, pid: int, memory: Memory) -> None:
        self._memory = memory
        self._functions: dict[int, _Function] = {}
        try:
            self._place = lock_place(memory, read_mappings(pid) or ())
        except PermissionError:
            self._place = None

    @property
    def layout(self) -> Layout | None:
        """Return the interpreter's layout of objects; None where it cannot be read (PyPy, free-threaded, too new)."""
        return self._place.layout if self._place else None

    def sample(self) -> Sample | None:
        """Read all threads; None where the interpreter cannot be read, or has ended."""
        if self._place is None:
            return None
        objects = Objects(Pages(self._memory, MOST_CHUNKS), self._place.layout)
        classes, budget = Classes(objects), Budget(MOST_S, MOST_THREADS * MOST_FRAMES)
        states = interpreters(objects, self._place.runtime)
        threads = [
            self._thread(objects, classes, state, budget)
            for state in islice(thread_states(objects, states), MOST_THREADS)
        ]
        cut = budget.spent() or objects.pages.full
        return Sample(objects, classes, tuple(threads), self._place.runtime, cut) if threads else None

    def _thread(self, objects: Objects, classes: Classes, state: int, budget: Budget) -> PyThread:
        layout, u64 = objects.layout, objects.pages.u64
        native = u64(state + layout.native_id) if layout.native_id else 0
        frames = tuple(self._frames(objects, classes, state, budget))
        return PyThread(state, u64(state + layout.thread_id), native or None, frames)

    def _frames(self, objects: Objects, classes: Classes, state: int, budget: Budget) -> Iterator[PyFrame]:
        for address, code in places(objects, state):
            if budget.spent():
                return
            budget.looked_at += 1
            function = None if _is_of_c(objects, address) else self._function(objects, classes, code)
            if function is not None:
                yield self._frame(objects, function, address, code)

    def _frame(self, objects: Objects, function: _Function, address: int, code: int) -> PyFrame:
        instruction = instruction_of(objects, address, code)
        if instruction not in function.lines and len(function.lines) < _MOST_KNOWN:
            function.lines[instruction] = line_at(objects.layout.version, function.table, function.first, instruction)
        line = function.lines.get(instruction)
        return PyFrame(function.name, function.qualname, function.file, line, code, address, instruction)

    def _function(self, objects: Objects, classes: Classes, code: int) -> _Function | None:
        """Return what is known of a code object, None if it is not one (3.12 and later have None for frames of C)."""
        layout, pages = objects.layout, objects.pages
        # The pointers to its file, its names and its lines follow each other (Include/cpython/code.h).
        pointers = pages.read(code + layout.code_filename, layout.code_lines + 8 - layout.code_filename)
        kind = objects.type_of(code)
        known = self._functions.get(code)
        if known is not None and (known.kind, known.pointers) == (kind, pointers):
            return known
        cls = classes.of(code)
        if pointers is None or cls is None or cls.name != "code":
            return None
        if len(self._functions) >= _MOST_KNOWN:
            self._functions.clear()
        name, qualname, file = _names(objects, code)
        first = pages.u32(code + layout.code_firstlineno)
        table = _bytes(objects, pages.u64(code + layout.code_lines))
        found = self._functions[code] = _Function(kind, pointers, name, qualname, file, first, table, {})
        return found


def stacks(
    pid: int, memory: Memory, tid_of: Callable[[int], int | None] | None = None
) -> dict[int, tuple[PyFrame, ...]] | None:
    """Return the frames of each thread, innermost first, by its native id; None where they cannot be read.

    `tid_of` gives the native id for a pthread id. Without it only 3.11 and later are read, which keep it themselves.
    For more than one reading, or questions about variables, use a StackReader.
    """
    sample = StackReader(pid, memory).sample()
    if sample is None:
        return None
    found: dict[int, tuple[PyFrame, ...]] = {}
    for thread in sample.threads:
        tid = (tid_of(thread.pthread_id) if tid_of else None) or thread.native_id
        if tid:
            found[tid] = thread.frames
    return found


def frame_of(objects: Objects, address: int, code: int) -> PyFrame:
    """Return a frame that no thread runs at the moment, as that of a suspended generator."""
    name, qualname, file = _names(objects, code)
    instruction = instruction_of(objects, address, code)
    return PyFrame(name, qualname, file, line_of(objects, code, instruction), code, address, instruction)


def _names(objects: Objects, code: int) -> tuple[str, str | None, str]:
    """Return the name, the qualified name (from 3.11 on) and the file of a code object."""
    layout, u64 = objects.layout, objects.pages.u64
    name = objects.text(u64(code + layout.code_own_name)) or "?"
    qualname = objects.text(u64(code + layout.code_name)) if layout.code_name != layout.code_own_name else None
    return name, qualname, objects.text(u64(code + layout.code_filename)) or "?"


def line_of(objects: Objects, code: int, instruction: int) -> int | None:
    """Return the line of an instruction, `instruction` bytes into its code."""
    table = _bytes(objects, objects.pages.u64(code + objects.layout.code_lines))
    first = objects.pages.u32(code + objects.layout.code_firstlineno)
    return line_at(objects.layout.version, table, first, instruction)


def stack_values(objects: Objects, frame: PyFrame) -> Iterator[int]:
    """Yield what a frame's stack refers to, and what it has referred to: above the live part lie old values."""
    layout, pages = objects.layout, objects.pages
    if layout.frame_instruction:
        size = pages.u32(frame.code + layout.code_argcount + _STACKSIZE)
        start = frame.address + layout.frame_locals + 8 * pages.u32(frame.code + layout.code_nlocalsplus)
    else:
        size = pages.u32(frame.code + _STACKSIZE_BEFORE)
        start = pages.u64(frame.address + at.FRAME_STACK)
    yield from filter(None, map(objects.untagged, pages.words(start, min(size, _MOST_STACK))))


def instruction_of(objects: Objects, frame: int, code: int) -> int:
    """Return how many bytes into its code a frame is, -1 before its first instruction.

    Up to 3.9 f_lasti counts bytes, in 3.10 instructions of two bytes (Objects/frameobject.c). From 3.11 on it is a
    pointer into the code object, whose instructions begin where the object of its fixed size ends (Objects/codeobject.c
    PyCode_Type.tp_basicsize). Below the first one the frame has not begun.
    """
    layout, pages = objects.layout, objects.pages
    if layout.frame_lasti:
        last = pages.u32(frame + layout.frame_lasti)
        return -1 if last >> 31 else last * (2 if layout.version == (3, 10) else 1)
    begin = code + pages.u64(objects.type_of(code) + 8 * at.TP_BASICSIZE)
    return max(-1, pages.u64(frame + layout.frame_instruction) - begin)


def _is_of_c(objects: Objects, frame: int) -> bool:
    return objects.layout.version == (3, 12) and objects.pages.u8(frame + _C_OWNER_AT) == _C_OWNER


def interpreters(objects: Objects, runtime: int) -> Iterator[int]:
    """Yield the addresses of the interpreters' states."""
    layout, u64 = objects.layout, objects.pages.u64
    state = u64(runtime + layout.interpreters_head)
    for _ in range(MOST_INTERPRETERS):
        if not state:
            return
        yield state
        state = u64(state + layout.interpreter_next)


def _bytes(objects: Objects, address: int) -> bytes:
    if not objects.type_flags(objects.type_of(address)) & at.BYTES:
        return b""
    size = objects.pages.u64(address + at.OB_SIZE)
    return (objects.pages.read(address + at.BYTES_DATA, size) or b"") if size <= MOST_TABLE else b""
