"""Decide which processes can have inherited a mapping, by the exec that made the program image that they share.

A mapping is inherited by fork and lost by exec. So memory without a name is mapped only by processes of one image. All
of these were forked, one from the other, by the process that executed it, the root. No process of another image can
have it, and none that started before the root. Nor can any outside the root's pid namespace, for no fork leads out of a
pid namespace (pid_namespaces(7)).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator

from semtrace.linux import withheld
from semtrace.linux.process import Stat, read_stat
from semtrace.linux.program import image, read

# include/uapi/linux/auxvec.h: the address of 16 random bytes, new at each exec.
_AT_RANDOM = 25
_RANDOM_SIZE = 16
_AUXV = struct.Struct("=QQ")
_AUXV_LIMIT = 4096

# No chain of ancestors is that long; one that changes while it is read has no end of its own.
_DEEPEST = 1000

Image = tuple[int, int, bytes]


def image_of(pid: int) -> Image | None:
    """Return what all processes that run on from one exec have in common, and no others; None if it cannot be seen.

    Where code and stack begin is the same at each exec if the machine does not randomise addresses. The random bytes
    that the kernel gives the program differ all the same.
    """
    where = image(pid)
    random = None if where is None else _random_bytes(pid)
    return None if where is None or random is None else (*where, random)


def _random_bytes(pid: int) -> bytes | None:
    raw = read(f"/proc/{pid}/auxv", _AUXV_LIMIT) or b""
    entries = _AUXV.iter_unpack(raw[: len(raw) // _AUXV.size * _AUXV.size])
    address = next((value for kind, value in entries if kind == _AT_RANDOM), 0)
    if not 0 < address < 1 << 63:
        return None
    try:
        path = f"/proc/{pid}/mem"
        withheld.check(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.pread(fd, _RANDOM_SIZE, address)
    except OSError:
        return None
    finally:
        os.close(fd)
    return found if len(found) == _RANDOM_SIZE else None


def root_of(pids: Iterable[int]) -> Stat | None:
    """Return the living process that executed the program image of all these; None if they have none in common, or it
    cannot be found among them and their ancestors.
    """
    pids = tuple(pid for pid in pids if (stat := read_stat(pid)) is not None and not stat.dying)
    images = {image_of(pid) for pid in pids}
    if len(images) != 1:
        return None
    (common,) = images
    if common is None:
        return None
    seen: set[int] = set()
    for pid in pids:
        for stat in _chain(pid):
            if stat.id.pid in seen:
                break
            seen.add(stat.id.pid)
            if not stat.forked and image_of(stat.id.pid) == common and read_stat(stat.id.pid) is not None:
                return stat
    return None


def may_have_inherited(process: Stat, root: Stat | None) -> bool:
    """Return False if a process that cannot be read can have no mapping that was made in the root's image.

    Its name decides nothing: a process chooses it itself. It has an image of its own once it has executed a program.
    One that runs its parent's image has the root's only if the root is an ancestor. Then it started later than the
    root, and so did each of its ancestors up to the root, or up to the root's own ancestor that adopted one of them.
    """
    return root is None or (process.forked and may_descend(process, root))


def may_descend(process: Stat, root: Stat) -> bool:
    """Return False if the process cannot be a descendant of the root, by their times of start."""
    if process.id.start_ticks < root.id.start_ticks:
        return False
    adopters = {stat.id.pid for stat in _chain(root.id.pid)} | {0, 1}
    youngest = process
    for stat in _chain(process.id.pid):
        if stat.id.pid in adopters:
            break
        youngest = stat
        if stat.ppid in adopters:
            break
    else:
        return True  # it, or an ancestor, ended meanwhile
    return youngest.id.start_ticks >= root.id.start_ticks


def _chain(pid: int) -> Iterator[Stat]:
    """Yield the process and its ancestors, as far as they can be seen."""
    seen: set[int] = set()
    while pid and pid not in seen and len(seen) < _DEEPEST:
        seen.add(pid)
        stat = read_stat(pid)
        if stat is None:
            return
        yield stat
        pid = stat.ppid
