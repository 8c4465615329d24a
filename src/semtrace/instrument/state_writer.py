"""The process's state file: made, mapped, filled. What is written at each acquire is written by the hot paths.

A mapping is never closed. CPython's mmap keeps a duplicate of the descriptor and closes that number with it. By then it
may be a file of the application (daemons close all descriptors).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import sys
from time import monotonic_ns

from semtrace.errors import SemtraceError
from semtrace.model import ProcessId, SemId
from semtrace.wire.offsets import (
    LOCK_SLOTS,
    LOCK_WORDS,
    NAME_BYTES,
    STATE_SIZE,
    Header,
    LockWord,
    ViewerWord,
    encode_header,
    encode_name,
    identity_word,
    lock_at,
    site_at,
    viewer_at,
)
from semtrace.wire.place import CONTROL, CONTROL_SIZE, control_is_valid, encode_control, state_name
from semtrace.wire.words import Flag, Kind

_MAPPED: list[mmap.mmap] = []
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC

Words = memoryview  # of format "Q"


class Scratch:
    """Memory that the hot paths write to while tracing is off, so that they need no branch for it."""

    words: Words = memoryview(bytearray(STATE_SIZE)).cast("Q")
    control: Words = memoryview(bytearray(CONTROL_SIZE)).cast("Q")


class Books:
    """One state file. `words` is the mapping as 64-bit words."""

    def __init__(self, directory: int, process: ProcessId) -> None:
        self.process = process
        self._name = state_name(process)
        mapping = self._map(directory)
        self.words: Words = memoryview(mapping).cast("Q")
        self._bytes = memoryview(mapping)
        header = encode_header(process, os.getppid(), monotonic_ns())
        for index, word in reversed(list(enumerate(header))):  # the magic word last
            self.words[index] = word

    def _map(self, directory: int) -> mmap.mmap:
        descriptor = self._create(directory)
        try:
            os.posix_fallocate(descriptor, 0, STATE_SIZE)  # a full /dev/shm: ENOSPC here, never SIGBUS later
            return _map(descriptor, STATE_SIZE)
        except BaseException:
            os.unlink(self._name, dir_fd=directory)
            raise
        finally:
            os.close(descriptor)

    def _create(self, directory: int) -> int:
        flags = _FLAGS | os.O_CREAT | os.O_EXCL
        try:
            return os.open(self._name, flags, 0o600, dir_fd=directory)
        except FileExistsError:  # of this very process before an exec
            os.unlink(self._name, dir_fd=directory)
            return os.open(self._name, flags, 0o600, dir_fd=directory)

    def open_slot(self, slot: int, lock: SemId, kind: Kind, flags: Flag, name: str, made_at: int) -> None:
        """Fill a lock slot; the inode last, which shows it to viewers."""
        at = lock_at(slot)
        for word in range(LOCK_WORDS):
            self.words[at + word] = 0
        self.words[at + LockWord.IDENTITY] = identity_word(lock, kind, flags, slot)
        self.words[at + LockWord.MADE_AT] = made_at
        start = (at + LockWord.NAME) * 8
        self._bytes[start : start + NAME_BYTES] = encode_name(name)
        self.words[at + LockWord.INODE] = lock.inode

    def close_slot(self, slot: int) -> None:
        self.words[lock_at(slot) + LockWord.INODE] = 0

    def add_site(self, index: int, encoded: bytes) -> None:
        self._bytes[site_at(index) : site_at(index + 1)] = encoded
        self.words[Header.SITES] = index + 1

    def set_viewer(self, index: int, viewer: ProcessId) -> None:
        at = viewer_at(index)
        self.words[at + ViewerWord.LOST] = 0
        self.words[at + ViewerWord.START_TICKS] = viewer.start_ticks
        self.words[at + ViewerWord.PID] = viewer.pid

    def count_lost(self, index: int) -> None:
        self.words[Header.LOST] += 1
        self.words[viewer_at(index) + ViewerWord.LOST] += 1

    def holds_something(self) -> bool:
        """Return True if this process holds a lock now: its file is then evidence, even after a normal end."""
        return any(map(self.is_held, range(LOCK_SLOTS)))

    def is_held(self, slot: int) -> bool:
        at = lock_at(slot)
        return bool(self.words[at + LockWord.INODE] and self.words[at + LockWord.SINCE])

    def remove(self, directory: int) -> None:
        """Remove the file, if it is still the one of this process."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=directory)


def open_control(directory: int, namespace: int) -> Words:
    """The control file as words, made if it is not there."""
    try:
        descriptor = os.open(CONTROL, _FLAGS, dir_fd=directory)
    except FileNotFoundError:
        _make_control(directory, namespace)
        descriptor = os.open(CONTROL, _FLAGS, dir_fd=directory)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise SemtraceError("the control file is not this user's", "remove the directory")
        if not control_is_valid(os.pread(descriptor, CONTROL_SIZE + 1, 0)):
            raise SemtraceError("the control file is of another version of semtrace", "restart the whole server")
        return memoryview(_map(descriptor, CONTROL_SIZE)).cast("Q")
    finally:
        os.close(descriptor)


def _make_control(directory: int, namespace: int) -> None:
    """Complete before it has its name, so that nobody maps half of it; the first of several makers wins."""
    temporary = f"{CONTROL}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    descriptor = os.open(temporary, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    try:
        os.posix_fallocate(descriptor, 0, CONTROL_SIZE)
        os.pwrite(descriptor, encode_control(namespace), 0)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, CONTROL, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.close(descriptor)
        os.unlink(temporary, dir_fd=directory)


def _map(descriptor: int, size: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        mapping = mmap.mmap(descriptor, size, trackfd=False)
    else:
        mapping = mmap.mmap(descriptor, size)
    _MAPPED.append(mapping)
    return mapping
