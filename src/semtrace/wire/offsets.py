"""The layout of a state file, and what is written into it: a header, viewers, locks, call sites, all of fixed size."""

from __future__ import annotations

import struct
from binascii import crc32
from enum import IntEnum

from semtrace.model import ProcessId, SemId
from semtrace.wire.words import VERSION, Flag, Kind, device_number

STATE_MAGIC = int.from_bytes(b"semstate", "little")
LOCK_SLOTS = 256
SITE_SLOTS = 512
VIEWER_SLOTS = 8

HEADER_WORDS = 16
VIEWER_WORDS = 4
LOCK_WORDS = 32
VIEWERS_AT = HEADER_WORDS  # in words
LOCKS_AT = VIEWERS_AT + VIEWER_SLOTS * VIEWER_WORDS
SITES_AT_BYTES = (LOCKS_AT + LOCK_SLOTS * LOCK_WORDS) * 8
SITE = struct.Struct("<II152s")  # id, line, file
STATE_SIZE = SITES_AT_BYTES + SITE_SLOTS * SITE.size


class Header(IntEnum):
    """The words of the header, by index."""

    MAGIC = 0  # written last when the file is made: a file without it is not ready
    VERSION = 1
    PID = 2
    START_TICKS = 3
    PARENT_PID = 4
    SEQUENCE = 5  # the last sequence number that was taken; brought up to date while somebody watches
    LOCK_SLOTS = 6  # as many lock slots as the file has
    SITE_SLOTS = 7
    SITES = 8  # as many sites as are in use; they are only ever appended
    LOST = 9  # records that a viewer did not take, over all viewers
    UNTRACED = 10  # locks that found no free slot and are not traced
    STATUS = 11
    SINCE = 12  # CLOCK_MONOTONIC ns when the file was made


class Status(IntEnum):
    ACTIVE = 1
    OFF = 2  # uninstalled, or an error of our own: the books below are of that moment


class ViewerWord(IntEnum):
    """One viewer slot, which a later viewer may reuse; PID 0: free."""

    PID = 0
    START_TICKS = 1
    LOST = 2  # records that this viewer did not take from this process


class LockWord(IntEnum):
    """One lock slot, by word.

    INODE is written last when a slot is filled and first, as 0, when it is freed: 0 is a free slot. At an acquire
    TRYING is written, the semaphore is taken, then WHO and SINCE are written; at a release SINCE becomes 0, the
    semaphore is posted, TRYING becomes 0. WHO stays: it is the last holder. SINCE is unique for each hold, so that two
    readings of the same hold can be recognised (`decode_state`).
    """

    INODE = 0
    IDENTITY = 1  # device u32, kind u8, flags u8, slot u16: as in a record
    WHO = 2  # tid << 32 | site of the last acquire
    SINCE = 3  # CLOCK_MONOTONIC ns of the acquire that is held; 0: not held
    COUNT = 4  # i64. Semaphores: units held. Lock, RLock: units held in addition to the one that SINCE stands for
    TRYING = 5  # tid << 32 of the thread that last began an acquire; 0 after a release or a refusal
    WAITING = 6  # threads that wait
    WAITING_SINCE = 7  # when the one that began last began
    WAITING_WHO = 8  # and who that is
    ACQUIRED = 9  # counters of this process, from its start (a forked child's begin at 0)
    CONTENDED = 10  # of the acquired: had to wait
    FAILED = 11
    # For semaphores. For Lock and RLock (outermost only) it follows from ACQUIRED and SINCE. There this counts the
    # holds that were ended after the process's death, whose lengths nobody measured.
    RELEASED = 12
    WAIT_TOTAL = 13  # ns, of the contended
    WAIT_MAX = 14
    HOLD_TOTAL = 15  # ns, of the released
    HOLD_MAX = 16
    DOUBTFUL = 17  # times that a signal broke into the book-keeping: the counters may be off by as many
    MADE_AT = 18  # the site that made the lock, or was the first to use it here
    NAME = 19  # and the words up to the end of the slot: UTF-8, zero-padded


NAME_BYTES = (LOCK_WORDS - LockWord.NAME) * 8


def encode_header(process: ProcessId, parent_pid: int, since_ns: int) -> list[int]:
    """The header's words, the magic one included, for a file in which nothing happened yet."""
    words = [0] * HEADER_WORDS
    words[Header.MAGIC] = STATE_MAGIC
    words[Header.VERSION] = VERSION
    words[Header.PID], words[Header.START_TICKS] = process
    words[Header.PARENT_PID] = parent_pid
    words[Header.LOCK_SLOTS], words[Header.SITE_SLOTS] = LOCK_SLOTS, SITE_SLOTS
    words[Header.STATUS] = Status.ACTIVE
    words[Header.SINCE] = since_ns
    return words


def viewer_at(index: int) -> int:
    """The first word of a viewer slot."""
    return VIEWERS_AT + index * VIEWER_WORDS


def lock_at(slot: int) -> int:
    """The first word of a lock slot."""
    return LOCKS_AT + slot * LOCK_WORDS


def site_at(index: int) -> int:
    """The first *byte* of a site."""
    return SITES_AT_BYTES + index * SITE.size


def identity_word(lock: SemId, kind: Kind, flags: Flag, slot: int) -> int:
    return device_number(lock) | kind << 32 | flags << 40 | slot << 48


def encode_name(name: str) -> bytes:
    """A name cut to what the slot holds, at a character's border, zero-padded."""
    return _cut(name.encode("utf-8", "replace"), NAME_BYTES).ljust(NAME_BYTES, b"\0")


def site_id(file: str, line: int) -> int:
    """The same in every process, so that a viewer that knows one worker's sites knows the others'. Never 0."""
    return crc32(f"{file}:{line}".encode("utf-8", "surrogateescape")) or 1


def encode_site(file: str, line: int) -> bytes:
    """A site; of a long path the end is kept, for it says more."""
    encoded = file.encode("utf-8", "surrogateescape")
    if len(encoded) > _FILE_BYTES:
        encoded = b"..." + encoded[3 - _FILE_BYTES :].lstrip(bytes(range(0x80, 0xC0)))
    return SITE.pack(site_id(file, line), line, encoded)


_FILE_BYTES = 152


def _cut(encoded: bytes, size: int) -> bytes:
    return encoded[:size].decode("utf-8", "ignore").encode()
