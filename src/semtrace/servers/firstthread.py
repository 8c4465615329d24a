"""The frames of a process's first thread, from its memory: they show what it runs where its command line does not."""

from __future__ import annotations

from collections.abc import Collection

from semtrace.cpython.stack import PyFrame, StackReader
from semtrace.linux.memory import Memory

# A function, by the end of its file's path and its name.
Function = tuple[str, str]


def runs_any(pid: int, functions: Collection[Function]) -> bool:
    """Return True if its first thread is inside one of these; False also where its memory cannot be read.

    This takes some milliseconds, so a caller asks only processes of which something else makes it likely.
    """
    return any(frame.function == name and frame.file.endswith(end) for frame in _frames(pid) for end, name in functions)


def _frames(pid: int) -> tuple[PyFrame, ...]:
    """Return the frames of the oldest thread. New threads come first, in front of it, and a fork keeps only the thread
    that forked (Python/pystate.c new_threadstate, _PyThreadState_DeleteExcept, 3.8 to 3.15).
    """
    try:
        with Memory(pid) as memory:
            sample = StackReader(pid, memory).sample()
    except OSError:
        return ()
    return sample.threads[-1].frames if sample is not None and not sample.cut else ()
