"""Semaphores that were left in /dev/shm with a name and that no process maps: what they are, and their removal.

Only names that Python gives: other programs may keep a semaphore while they do not run. One that was made before this
looked and is opened only later cannot be told from a leftover; that is why the young are left alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from semtrace.linux.lease import in_use
from semtrace.linux.post import identity
from semtrace.linux.program import user_ids
from semtrace.linux.sweep import Shared, sees_all_processes, sweep
from semtrace.model import SemId

DIRECTORY = "/dev/shm"
YOUNG_S = 60.0

# /mp-… is multiprocessing's (Lib/multiprocessing/synchronize.py _make_name) and billiard's, /loky-… joblib's.
_PYTHONS = re.compile(r"sem\.(?:mp|loky)-")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file `sem.…` in /dev/shm. `id` is None for what is no semaphore; `age_s` since it was made or changed."""

    name: str
    id: SemId | None
    owner: int
    size: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rest of the machine has to do with the entries.

    `in_use` is what the kernel tells of each, None where it does not; `hidden` are, by user, processes that could not
    be asked; `sees_all` is False in a container, where others may share /dev/shm unseen.
    """

    user: int
    mapped_by: Mapping[SemId, Collection[int]]
    in_use: Mapping[SemId, bool | None]
    hidden: Mapping[int, int]
    sees_all: bool


@dataclass(frozen=True, slots=True)
class Found:
    """An entry, and why it is left alone; None if it is a leftover. `evidence` is what shows it to be one; `unsure` is
    True where it may be one, and nobody could tell."""

    entry: Entry
    kept: str | None
    evidence: tuple[str, ...] = ()
    unsure: bool = False


def look(directory: str = DIRECTORY) -> list[Found]:
    """All of them, judged now."""
    with _opened(directory) as fd:
        names = sorted(os.listdir(fd))  # noqa: PTH208  pathlib has no directory by its descriptor
        found = _judged(fd, [entry for name in names if (entry := _entry(fd, name))])
        return [each for each in found if not (each.unsure and _has_gone(fd, each.entry))]


def remove(found: Found, directory: str = DIRECTORY) -> Found:
    """Looks at it again and removes it if it is still a leftover. The lease, where there is one, lasts until then."""
    name = found.entry.name
    with _opened(directory) as fd, in_use(name, fd) as used:
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
    """Why this one is no leftover, or may be none."""
    if entry.id is None:
        return "no semaphore"
    if not _PYTHONS.match(entry.name):
        return "not a name that Python gives"
    if mappers := around.mapped_by.get(entry.id):
        return f"mapped by PID {' '.join(map(str, sorted(mappers)))}"
    if around.user not in (0, entry.owner):
        return "another user's: only that user or root may remove it"
    if entry.age_s < YOUNG_S:
        return "younger than a minute"
    return _why_uncertain(entry, entry.id, around)


def _why_uncertain(entry: Entry, semaphore: SemId, around: Surroundings) -> str | None:
    """What the processes that can be asked do not tell, the kernel may."""
    used = around.in_use.get(semaphore)
    if used is not None:
        return "in use by a process that cannot be seen from here" if used else None
    if entry.owner in around.hidden:
        return f"PID {around.hidden[entry.owner]} of its owner cannot be asked whether it maps it"
    return None if around.sees_all else "processes outside this container may map it: look from the host"


def _judged(fd: int, entries: list[Entry], known: Mapping[SemId, bool | None] | None = None) -> list[Found]:
    """The kernel is asked only about those that nothing else keeps, unless what it says is `known`."""
    ids = [entry.id for entry in entries if entry.id is not None]
    seen = sweep(dict.fromkeys(ids, Shared(frozenset(), named=True)))
    mapped_by = {each: outside.mapped_by for each, outside in seen.items() if outside.mapped_by}
    unasked = {pid for outside in seen.values() for pid in outside.hidden}
    hidden = {user: pid for pid in unasked for user in user_ids(pid)}
    around = Surroundings(os.geteuid(), mapped_by, dict.fromkeys(ids, False), hidden, sees_all_processes())
    if known is None:
        known = {entry.id: _used(entry.name, fd) for entry in entries if entry.id and why_kept(entry, around) is None}
    around = replace(around, in_use=known)
    return [_found(entry, around) for entry in entries]


def _found(entry: Entry, around: Surroundings) -> Found:
    kept = why_kept(entry, around)
    asked = kept is not None and entry.id is not None and around.in_use.get(entry.id) is None
    unsure = asked and entry.id is not None and kept == _why_uncertain(entry, entry.id, around)
    return Found(entry, kept, _evidence(entry, around), unsure)


def _evidence(entry: Entry, around: Surroundings) -> tuple[str, ...]:
    by_kernel = entry.id is not None and around.in_use.get(entry.id) is False
    return (
        f"untouched for {entry.age_s:.0f} s",
        "no process that can be seen maps it",
        *(("by the kernel's count nobody has it open for writing",) if by_kernel else ()),
    )


def _used(name: str, fd: int) -> bool | None:
    with in_use(name, fd) as used:
        return used


def _has_gone(fd: int, entry: Entry) -> bool:
    """Of a file that was removed meanwhile nobody can tell whether it was in use, and nobody need."""
    now = _entry(fd, entry.name)
    return now is None or now.id != entry.id


def _entry(fd: int, name: str) -> Entry | None:
    if not name.startswith("sem."):
        return None
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return None
    age_s = time.time() - max(status.st_mtime, status.st_ctime)
    return Entry(name, identity(status), status.st_uid, status.st_size, age_s)


@contextmanager
def _opened(directory: str) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)
