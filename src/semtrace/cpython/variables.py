"""The variables of a frame of a sample, and whether a frame is a signal handler's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from semtrace.cpython.frames import variables as _variables
from semtrace.cpython.stack import PyFrame, Sample

# Include/internal/pycore_frame.h 3.11 to 3.15 struct _frame.f_frame: the frame that a frame object stands for
_OBJECT_FRAME = 24
# Include/cpython/code.h (3.8: Include/code.h) PyCodeObject: co_kwonlyargcount from co_argcount; co_flags, up to 3.10
# and from 3.11 on; CO_VARARGS
_KEYWORDS_ONLY, _FLAGS_BEFORE, _FLAGS, _HAS_REST = 8, 36, 48, 4
_MOST_SIGNAL = 64
_MOST_ARGUMENTS = 16


def variables(sample: Sample, frame: PyFrame) -> dict[str, int]:
    """Return the addresses of what the frame's variables refer to, by name: locals, cells, free variables."""
    found: dict[str, int] = {}
    for name, value in _variables(sample.objects, sample.classes, frame.address, frame.code):
        text = sample.objects.text(name)
        if text and value:
            found.setdefault(text, value)
    return found


def local(sample: Sample, frame: PyFrame, name: str) -> int:
    """Return the address of what a variable of the frame refers to, 0 without it."""
    return variables(sample, frame).get(name, 0)


def interrupted(sample: Sample, frames: Sequence[PyFrame]) -> int | None:
    """Return the position of the frame that a signal handler has interrupted, None if no handler runs.

    A handler is the function above it that was given a signal's number and, right after it, the frame object of the
    frame below (Modules/signalmodule.c `_PyErr_CheckSignalsTstate`, 3.8 to 3.15). No other call gives its caller's
    frame like this. A handler that is written in C has no frame, and one that no longer has its arguments is not seen.
    """
    for position, below in enumerate(frames[1:], 1):
        for number, frame in _pairs(sample, frames[position - 1]):
            if _stands_for(sample, frame, below) and 0 < (sample.objects.integer(number) or 0) <= _MOST_SIGNAL:
                return position
    return None


def _pairs(sample: Sample, frame: PyFrame) -> Iterator[tuple[int, int]]:
    """Yield each argument with the one after it, also those that `*args` has."""
    objects = sample.objects
    names, has_rest = _arguments(sample, frame)
    if not names:
        return
    found = variables(sample, frame)
    values = [found.get(name, 0) for name in names]
    rest = objects.tuple_of(values.pop(), _MOST_ARGUMENTS) if has_rest else ()
    yield from pairwise([*values, *rest])


def _arguments(sample: Sample, frame: PyFrame) -> tuple[list[str], bool]:
    """Return the names of the positional arguments, that of `*args` last; and whether there is such a one."""
    objects, layout = sample.objects, sample.objects.layout
    count = objects.pages.u32(frame.code + layout.code_argcount)
    keywords = objects.pages.u32(frame.code + layout.code_argcount + _KEYWORDS_ONLY)
    flags = objects.pages.u32(frame.code + (_FLAGS if layout.frame_instruction else _FLAGS_BEFORE))
    if max(count, keywords) > _MOST_ARGUMENTS:
        return [], False
    row = objects.tuple_of(objects.pages.u64(frame.code + layout.code_varnames), 2 * _MOST_ARGUMENTS + 1)
    names = [objects.text(name) or "" for name in row]
    rest = names[count + keywords : count + keywords + 1] if flags & _HAS_REST else []
    return [*names[:count], *rest], bool(rest)


def _stands_for(sample: Sample, address: int, frame: PyFrame) -> bool:
    """Return True if this is the frame object of that frame."""
    cls = sample.classes.of(address)
    if cls is None or (cls.module, cls.name) != ("builtins", "frame"):
        return False
    if not sample.objects.layout.frame_instruction:  # up to 3.10 the object is the frame
        return address == frame.address
    return sample.objects.pages.u64(address + _OBJECT_FRAME) == frame.address
