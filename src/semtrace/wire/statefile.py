"""A state file as values: what one process knows of its traced locks."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from semtrace.lazydata import dataclass
from semtrace.model import ProcessId, SemId
from semtrace.wire.offsets import (
    LOCK_SLOTS,
    LOCK_WORDS,
    NAME_BYTES,
    SITE,
    SITE_SLOTS,
    SITES_AT_BYTES,
    STATE_MAGIC,
    STATE_SIZE,
    VIEWER_SLOTS,
    Header,
    LockWord,
    Status,
    ViewerWord,
    lock_at,
    site_at,
    viewer_at,
)
from semtrace.wire.words import KINDS, VERSION, Flag, Kind, semaphore


@dataclass(frozen=True)
class Site:
    """A line of the application."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class LockBook:
    """The state of one traced lock in one process.

    `since_ns` is None if it does not hold it; `tid` and `site` are those of its last acquire and remain after the
    release (0 before the first). With a semaphore `count` may be over 1: then `since_ns`, `tid` and `site` are only
    the latest of these acquires. `count` of a Lock is below its hold by what this process released for others.
    `trying` is the tid that began an acquire. In a dead process with `since_ns` None it means that it died inside an
    acquire or a release, and may hold the lock. `made_at` is the site that made the lock, 0 if unknown.
    `steady` is False if the hold changed between two readings: read again.
    """

    slot: int
    lock: SemId
    kind: Kind
    flags: Flag
    name: str | None
    tid: int
    site: int
    since_ns: int | None
    count: int
    trying: int
    waiting: int
    waiting_since_ns: int | None
    waiting_tid: int
    waiting_site: int
    acquired: int
    contended: int
    failed: int
    released: int
    wait_total_ns: int
    wait_max_ns: int
    hold_total_ns: int
    hold_max_ns: int
    doubtful: int
    made_at: int
    steady: bool


@dataclass(frozen=True)
class StateFile:
    """A whole state file. `sites` maps the ids of records and books; they mean the same in all processes of a
    server.
    """

    process: ProcessId
    parent_pid: int
    sequence: int
    lost: int
    untraced: int
    active: bool
    since_ns: int
    lost_by_viewer: dict[ProcessId, int]
    locks: tuple[LockBook, ...]
    sites: dict[int, Site]


def decode_state(data: bytes, again: bytes | None = None) -> StateFile | None:
    """Decode a state file; None if it is not one of this version, not ready or cut short.

    For a living process read the file twice and give both. A hold is consistent only if SINCE was the same in both
    readings (WHO lies before SINCE, so the later WHO was read in between).
    """
    later = data if again is None else again
    if min(len(data), len(later)) < STATE_SIZE:
        return None
    before, words = _words(data), _words(later)
    if words[Header.MAGIC] != STATE_MAGIC or words[Header.VERSION] != VERSION:
        return None
    if (words[Header.LOCK_SLOTS], words[Header.SITE_SLOTS]) != (LOCK_SLOTS, SITE_SLOTS):
        return None
    return StateFile(
        process=ProcessId(words[Header.PID], words[Header.START_TICKS]),
        parent_pid=words[Header.PARENT_PID],
        sequence=words[Header.SEQUENCE],
        lost=words[Header.LOST],
        untraced=words[Header.UNTRACED],
        active=words[Header.STATUS] == Status.ACTIVE,
        since_ns=words[Header.SINCE],
        lost_by_viewer=dict(_viewers(words)),
        locks=tuple(_books(before, words, later)),
        sites=dict(_sites(later, min(words[Header.SITES], SITE_SLOTS))),
    )


def _words(data: bytes) -> Sequence[int]:
    return struct.unpack_from(f"<{SITES_AT_BYTES // 8}Q", data)


def _viewers(words: Sequence[int]) -> Iterator[tuple[ProcessId, int]]:
    for index in range(VIEWER_SLOTS):
        at = viewer_at(index)
        if words[at + ViewerWord.PID]:
            viewer = ProcessId(words[at + ViewerWord.PID], words[at + ViewerWord.START_TICKS])
            yield viewer, words[at + ViewerWord.LOST]


def _books(before: Sequence[int], words: Sequence[int], data: bytes) -> Iterator[LockBook]:
    for slot in range(LOCK_SLOTS):
        at = lock_at(slot)
        if words[at + LockWord.INODE]:
            steady = all(before[at + word] == words[at + word] for word in (LockWord.INODE, LockWord.SINCE))
            yield _book(words[at : at + LOCK_WORDS], slot, _name(data, at), steady)


def _book(words: Sequence[int], slot: int, name: str | None, steady: bool) -> LockBook:
    identity = words[LockWord.IDENTITY]
    kind = KINDS.get(identity >> 32 & 0xFF, Kind.UNKNOWN)
    count, released = _count(words, kind)
    return LockBook(
        slot=slot,
        lock=semaphore(identity & 0xFFFFFFFF, words[LockWord.INODE]),
        kind=kind,
        flags=Flag(identity >> 40 & 1),
        name=name,
        tid=words[LockWord.WHO] >> 32,
        site=words[LockWord.WHO] & 0xFFFFFFFF,
        since_ns=words[LockWord.SINCE] or None,
        count=count,
        trying=words[LockWord.TRYING] >> 32,
        waiting=words[LockWord.WAITING],
        waiting_since_ns=words[LockWord.WAITING_SINCE] or None,
        waiting_tid=words[LockWord.WAITING_WHO] >> 32,
        waiting_site=words[LockWord.WAITING_WHO] & 0xFFFFFFFF,
        acquired=words[LockWord.ACQUIRED],
        contended=words[LockWord.CONTENDED],
        failed=words[LockWord.FAILED],
        released=released,
        wait_total_ns=words[LockWord.WAIT_TOTAL],
        wait_max_ns=words[LockWord.WAIT_MAX],
        hold_total_ns=words[LockWord.HOLD_TOTAL],
        hold_max_ns=words[LockWord.HOLD_MAX],
        doubtful=words[LockWord.DOUBTFUL],
        made_at=words[LockWord.MADE_AT],
        steady=steady,
    )


def _count(words: Sequence[int], kind: Kind) -> tuple[int, int]:
    """Units held and number of releases. Of a mutex they follow from the hold: two stores less at each acquire."""
    count = words[LockWord.COUNT]
    count -= (count >> 63) << 64
    if kind not in (Kind.LOCK, Kind.RLOCK):
        return count, words[LockWord.RELEASED]
    held = 1 if words[LockWord.SINCE] else 0
    return count + held, max(0, words[LockWord.ACQUIRED] - held - words[LockWord.RELEASED])


def _name(data: bytes, at: int) -> str | None:
    start = (at + LockWord.NAME) * 8
    return data[start : start + NAME_BYTES].partition(b"\0")[0].decode("utf-8", "replace") or None


def _sites(data: bytes, count: int) -> Iterator[tuple[int, Site]]:
    for index in range(count):
        number, line, file = SITE.unpack_from(data, site_at(index))
        yield number, Site(file.partition(b"\0")[0].decode("utf-8", "surrogateescape"), line)
