"""Facts from psutil about other processes: for discovery and `semtrace ps`, which read them once.

A process that ended or may not be seen is None or empty here: no exception of psutil leaves this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import psutil

from semtrace.lazydata import dataclass
from semtrace.linux import withheld
from semtrace.linux.descriptors import share_a_pipe
from semtrace.linux.process import Stat, still
from semtrace.linux.program import image, is_spawned, read
from semtrace.model import ProcessId

T = TypeVar("T")
Handle = psutil.Process

_PYTHON = re.compile(r"(python|pypy)[\d.]*[a-z]*(-\w+)?\Z")
# A program that has Python in it, as uWSGI: linked to libpython, or with Python's own extensions loaded.
_LIBPYTHON = re.compile(rb"/libpy(thon|py)[\w.-]*\.so|/lib-dynload/")


@dataclass(frozen=True)
class Usage:
    """`cpu_percent` is of one core, since the handle was opened; `rss` in bytes."""

    state: str
    cpu_percent: float
    rss: int
    threads: int


def pids() -> list[int]:
    return psutil.pids()


def parent(pid: int) -> int | None:
    """The pid of its parent, None if it has none that can be seen."""
    found = _ask(pid, psutil.Process.parent)
    return found.pid if found else None


def descendants(pid: int) -> list[int]:
    """The pids of its children, their children, and so on: each after its parent."""
    found = _ask(pid, lambda process: process.children(recursive=True))
    return [process.pid for process in found or ()]


def user_name(pid: int) -> str:
    """Return the owner of a process; a number if the machine does not know the user's name (a container's user)."""
    return _ask(pid, psutil.Process.username) or "?"


def cmdline(pid: int) -> tuple[str, ...]:
    """The arguments as they are now: a process may rewrite them. Empty for a kernel thread, a zombie, or none.

    A title that was written over the arguments comes as one word or several.
    """
    words = [] if pid in withheld.PIDS else _ask(pid, psutil.Process.cmdline) or []
    while words and not words[-1]:  # the NULs that pad a title
        words.pop()
    return tuple(words)


def environ(pid: int) -> dict[str, str] | None:
    """The environment that the program was started with, None if it may not be read or was overwritten by a title."""
    return None if pid in withheld.PIDS else _ask(pid, psutil.Process.environ) or None


def executable(pid: int) -> str | None:
    """The path of the program's file; where that may not be seen, what the command line says in full, else None."""
    return _ask(pid, psutil.Process.exe) or None


def is_python(pid: int) -> bool | None:
    """Return True if it runs Python, by its executable's name or a mapped libpython; None if that cannot be read."""
    if is_interpreter(executable(pid) or "".join(cmdline(pid)[:1])):
        return True
    maps = read(f"/proc/{pid}/maps", 16 << 20)  # psutil's memory_maps() adds up the pages of each, 40 times the cost
    return bool(_LIBPYTHON.search(maps)) if maps else None


def is_interpreter(path: str) -> bool:
    return bool(_PYTHON.match(path.rpartition("/")[2]))


def same_program(child: Stat, parent: Stat) -> bool:
    """Return True if there was no exec since the fork of `child` from `parent`, or from an ancestor of `parent`.

    Where the memory layouts may not be seen, their commands decide.
    """
    if not child.forked or parent.ended:
        return False
    ours, theirs = image(child.id.pid), image(parent.id.pid)
    if ours is None or theirs is None:
        return cmdline(child.id.pid)[:1] == cmdline(parent.id.pid)[:1] or child.comm == parent.comm
    return ours == theirs


def spawned_by(child: Stat, parent: Stat) -> bool:
    """Return True if `child` was spawned by the multiprocessing of `parent`, and not only adopted by `parent`.

    They keep a pipe between them, by which each notices the other's end (Lib/multiprocessing/popen_spawn_posix.py,
    forkserver.py). If the pipe may not be read, they count as related unless they are seen to run different Pythons.
    """
    if parent.ended or not is_spawned(cmdline(child.id.pid)) or is_python(parent.id.pid) is not True:
        return False
    shared = share_a_pipe(child.id.pid, parent.id.pid)
    if shared is not None:
        return shared
    ours, theirs = executable(child.id.pid), executable(parent.id.pid)
    return parent.id.pid != 1 and (ours is None or theirs is None or ours == theirs)


def opened(process: ProcessId) -> Handle | None:
    """Return a handle on this very process, which counts its CPU time from now on."""
    handle = _ask(process.pid, _counting)
    return handle if still(process) else None


def usage(handle: Handle) -> Usage | None:
    """Return its usage, None if the process of the handle has ended, also when another has its PID."""
    try:
        with handle.oneshot():
            found = Usage(handle.status(), handle.cpu_percent(), handle.memory_info().rss, handle.num_threads())
        return found if handle.is_running() else None
    except (psutil.Error, OSError):
        return None


def _counting(process: psutil.Process) -> psutil.Process:
    process.cpu_percent()
    return process


def _ask(pid: int, question: Callable[[psutil.Process], T]) -> T | None:
    # OSError: what psutil does not translate, as EIO while a process takes its memory down.
    try:
        return question(psutil.Process(pid))
    except (psutil.Error, OSError):
        return None
