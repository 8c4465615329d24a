"""Files that were left in /dev/shm with a name and that no process uses: what they are, and their removal.

Only names that Python gives count: other programs may keep a file while they do not run. A file that is opened only
later looks like a leftover; that is why young ones are left alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from stat import S_ISREG

from semtrace.lazydata import dataclass
from semtrace.linux import shm
from semtrace.linux.lease import in_use
from semtrace.linux.post import identity
from semtrace.linux.program import user_ids
from semtrace.linux.sweep import Shared, sees_all_processes, sweep
from semtrace.model import NameSort, SemId

DIRECTORY = shm.DIRECTORY
YOUNG_S = 60.0

# What begins with sem. is a semaphore of glibc. /mp-… is multiprocessing's (Lib/multiprocessing/synchronize.py
# _make_name) and billiard's, /loky-… joblib's.
_GLIBC_PREFIX = "sem."
_PYTHONS = re.compile(r"sem\.(?:mp|loky)-")

# Lib/multiprocessing/shared_memory.py _SHM_NAME_PREFIX. Intel's PSM, a library of MPI, has /psm_shm.UUID
# (ptl_am/am_reqrep_shmem.c).
_BLOCKS = re.compile(r"psm_(?!shm\.)")

# struct stat, st_blocks: stat(2).
_BLOCK_SIZE = 512


@dataclass(frozen=True)
class Entry:
    """A file in /dev/shm that may be one of Python's. `id` is None if its content does not fit its name; `age_s` is
    since it was made or changed; `room` is how many bytes of /dev/shm it takes.
    """

    name: str
    id: SemId | None
    owner: int
    size: int
    age_s: float
    sort: NameSort = "semaphore"
    room: int = 0


@dataclass(frozen=True)
class Surroundings:
    """The use of the entries by the rest of the machine.

    `in_use` is the kernel's answer for each, None where it has none. `hidden` are, by user, processes that could not be
    asked; `sees_all` is False in a container, where others may share /dev/shm unseen.
    """

    user: int
    mapped_by: Mapping[SemId, Collection[int]]
    in_use: Mapping[SemId, bool | None]
    hidden: Mapping[int, int]
    sees_all: bool


@dataclass(frozen=True)
class Found:
    """An entry, and why it is left alone; None if it is a leftover. `evidence` is what shows it to be one.

    `unsure` is True where it may be one, and nobody could tell. `young` is True where nothing but its age keeps it.
    """

    entry: Entry
    kept: str | None
    evidence: tuple[str, ...] = ()
    unsure: bool = False
    young: bool = False


def find(directory: str = DIRECTORY, *, young: bool = False) -> list[Found]:
    """Return all of them, judged now. The kernel is asked about the `young` only on demand."""
    with _opened(directory) as fd:
        names = sorted(os.listdir(fd))  # noqa: PTH208  pathlib has no directory by its descriptor
        found = _judged(fd, [entry for name in names if (entry := _entry(fd, name))], young=young)
        return [each for each in found if not ((each.unsure or each.young) and _has_gone(fd, each.entry))]


def remove(found: Found, directory: str = DIRECTORY) -> Found:
    """Check it again and remove it if it is still a leftover. The lease, where there is one, lasts until then."""
    name = found.entry.name
    with _opened(directory) as fd, _lease(found.entry, fd) as used:
        now = _entry(fd, name)
        if now is None or now.id != found.entry.id:
            return Found(found.entry, "it has just gone")
        (again,) = _judged(fd, [now], {now.id: used} if now.id else None)
        if again.kept is None:
            try:
                os.unlink(name, dir_fd=fd)
            except OSError as error:
                return Found(now, f"it could not be removed: {error.strerror}")
        return again


def why_kept(entry: Entry, around: Surroundings) -> str | None:
    """Return why this one is not a leftover, or may not be one."""
    return _why_never(entry, around) or _why_young(entry) or _why_uncertain(entry, around)


def _why_never(entry: Entry, around: Surroundings) -> str | None:
    """Return the reasons that neither age nor the kernel's count can change."""
    others = None if around.user in (0, entry.owner) else "another user's: only that user or root may remove it"
    if entry.id is None:
        return others or ("no semaphore" if entry.sort == "semaphore" else "no SharedMemory block")
    if entry.name.startswith(_GLIBC_PREFIX) and not _PYTHONS.match(entry.name):
        return "not a name that Python gives"
    if mappers := around.mapped_by.get(entry.id):
        return f"in use by PID {' '.join(map(str, sorted(mappers)))}"
    return others


def _why_young(entry: Entry) -> str | None:
    return "younger than a minute, so a process may still open it" if entry.age_s < YOUNG_S else None


def _why_uncertain(entry: Entry, around: Surroundings) -> str | None:
    """Return the doubts that remain after all processes were asked that can be; the kernel may settle them."""
    used = _by_kernel(entry, around)
    if used is not None:
        return "in use by a process that cannot be seen from here" if used else None
    if entry.owner in around.hidden:
        return f"PID {around.hidden[entry.owner]} of its owner cannot be asked whether it maps it"
    return None if around.sees_all else "processes outside this container may map it: run semtrace on the host"


def _by_kernel(entry: Entry, around: Surroundings) -> bool | None:
    return None if entry.id is None else around.in_use.get(entry.id)


def _judged(
    fd: int, entries: list[Entry], known: Mapping[SemId, bool | None] | None = None, *, young: bool = False
) -> list[Found]:
    """Return the judged entries. The kernel is asked only about those that nothing else keeps, unless its answer is
    `known`.
    """
    ids = [entry.id for entry in entries if entry.id is not None]
    seen = sweep(dict.fromkeys(ids, Shared(frozenset(), named=True)))
    mapped_by = {each: outside.mapped_by for each, outside in seen.items() if outside.mapped_by}
    unasked = {pid for outside in seen.values() for pid in outside.hidden}
    hidden = {user: pid for pid in unasked for user in user_ids(pid)}
    around = Surroundings(os.geteuid(), mapped_by, {}, hidden, sees_all_processes())
    if known is None:
        asked = [each for each in entries if not _why_never(each, around) and (young or not _why_young(each))]
        known = {entry.id: _used(entry, fd) for entry in asked if entry.id is not None}
    around = replace(around, in_use=known)
    return [_found(entry, around) for entry in entries]


def _found(entry: Entry, around: Surroundings) -> Found:
    never, young, doubt = _why_never(entry, around), _why_young(entry), _why_uncertain(entry, around)
    return Found(
        entry,
        never or young or doubt,
        _evidence(entry, around),
        unsure=not never and not young and bool(doubt) and _by_kernel(entry, around) is None,
        young=not never and bool(young) and not doubt,
    )


def _evidence(entry: Entry, around: Surroundings) -> tuple[str, ...]:
    by_kernel = _by_kernel(entry, around) is False
    writing = " for writing" if entry.sort == "semaphore" else ""
    return (
        f"made or resized {entry.age_s:.0f} s ago",
        "no process that can be seen maps it",
        *((f"by the kernel's count nobody has it open{writing}",) if by_kernel else ()),
    )


def _used(entry: Entry, fd: int) -> bool | None:
    with _lease(entry, fd) as used:
        return used


def _lease(entry: Entry, fd: int) -> AbstractContextManager[bool | None]:
    """A semaphore is always opened for writing; a block may be mapped for reading only."""
    return in_use(entry.name, fd, for_reading=entry.sort == "block")


def _has_gone(fd: int, entry: Entry) -> bool:
    """Return True if the file was removed meanwhile: then its use can neither be read nor matters."""
    now = _entry(fd, entry.name)
    return now is None or now.id != entry.id


def _entry(fd: int, name: str) -> Entry | None:
    musls, block = shm.may_be_musls_file(name), bool(_BLOCKS.match(name))
    if not musls and not block and not name.startswith(_GLIBC_PREFIX):
        return None
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return None
    sort: NameSort = "block" if block else "semaphore"
    found = _block_id(status) if block else identity(status)
    if musls and found is not None and not shm.has_musls_words(name, fd):
        found = None
    age_s = time.time() - max(status.st_mtime, status.st_ctime)
    return Entry(name, found, status.st_uid, status.st_size, age_s, sort, status.st_blocks * _BLOCK_SIZE)


def _block_id(status: os.stat_result) -> SemId | None:
    """Return the identity of a block, whatever its size; None if it is not a regular file."""
    return SemId.of_file(status) if S_ISREG(status.st_mode) else None


@contextmanager
def _opened(directory: str) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)
