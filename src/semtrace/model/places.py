"""Places: the line of the user's own source that a thread is at. Pure."""

from __future__ import annotations

from semtrace.lazydata import dataclass
from semtrace.model.locks import Holder, Waiter
from semtrace.model.names import Frame
from semtrace.model.waits import Wait

# Where frames lie that are not the user's own. Python's own modules have no common folder in a stack.
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/semtrace/instrument/", "<frozen ", "<string>")


@dataclass(frozen=True)
class Place:
    """The innermost frame of the user's own code, or of any code where none is, and the frame that called it. `site`
    is `FILE:LINE` as a traced lock reports it; it counts only without a frame.
    """

    frame: Frame | None = None
    caller: Frame | None = None
    site: str | None = None


def place_of(each: Holder | Waiter | Wait) -> Place | None:
    """Return where the thread is by its stack, else where its traced lock was asked for."""
    frames = [frame for frame in each.stack or () if is_own(frame.file)] or list(each.stack or ())[:1]
    if frames:
        return Place(frames[0], frames[1] if len(frames) > 1 else None)
    return Place(site=each.site) if each.site else None


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
