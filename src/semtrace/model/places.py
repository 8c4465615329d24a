"""Places: the line of the user's own source that a thread is at. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import dropwhile, takewhile

from semtrace.lazydata import dataclass
from semtrace.model.locks import Holder, Waiter
from semtrace.model.names import Frame
from semtrace.model.waits import Wait

# Where frames lie that are not the user's own. Python's own modules have no common folder in a stack.
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/semtrace/instrument/", "<frozen ", "<string>")

# Modules of the standard library, and of its copies, in which everybody waits: who called them says more.
_WAITING = ("/synchronize.py", "/connection.py", "/threading.py", "/selectors.py")


@dataclass(frozen=True)
class Place:
    """The innermost frame of the user's own code, and the one that called it. Without one, it is the innermost frame of
    a library that shows what the thread waits for, as `get` of a queue, and its caller. `site` is `FILE:LINE` as a
    traced lock reports it; it counts only without a frame.
    """

    frame: Frame | None = None
    caller: Frame | None = None
    site: str | None = None


def place_of(each: Holder | Waiter | Wait) -> Place | None:
    """Return where the thread is by its stack, else where its traced lock was asked for."""
    stack = each.stack or ()
    frames = [frame for frame in stack if is_own(frame.file)] or _library_frames(stack)
    if frames:
        return Place(frames[0], frames[1] if len(frames) > 1 else None)
    return Place(site=each.site) if each.site else None


def _library_frames(stack: Sequence[Frame]) -> Sequence[Frame]:
    """Return the frames of libraries that call those in which everybody waits, the innermost first; else the innermost
    of all.
    """
    outside = dropwhile(_is_primitive, stack)
    return list(takewhile(lambda frame: not _is_primitive(frame), outside)) or stack[:1]


def _is_primitive(frame: Frame) -> bool:
    return frame.file.endswith(_WAITING)


def is_hidden(file: str) -> bool:
    """Return True for code that no file has, as `<string>` of a dataclass, and for what semtrace adds to a server."""
    return file.startswith("<") or "/semtrace/instrument/" in file


@lru_cache(1024)
def is_own(file: str) -> bool:
    """Return False for a file of a library, by its folder: nobody knows where the target's Python is installed. The
    script by which an environment starts a program, as `…/bin/gunicorn`, is not the user's own either.
    """
    folder, slash, name = file.rpartition("/")
    if not slash and not name.endswith(".py"):
        return False  # `__init__`, `<frozen …>`: a frame that the interpreter itself makes
    if folder.rpartition("/")[2] == "bin" and "." not in name:
        return False
    if any(part in file for part in _LIBRARIES):
        return False
    return not any(part.startswith("python3") or part == "python3" for part in folder.split("/")[-4:])
