"""Signals as something to read, and output that is passed on: for a parent that stands between a child and the rest."""

from __future__ import annotations

import ctypes
import os
import select
import stat
import struct
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

# sys/signalfd.h: struct signalfd_siginfo begins with u32 signo, i32 errno, i32 code; sigset_t is 128 bytes.
_INFO_SIZE = 128
_INFO = struct.Struct("=Iii")
_SET_SIZE = 128
_SFD_NONBLOCK, _SFD_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_PIECE = 1 << 16


class Came(NamedTuple):
    """A signal. Somebody sent it if `code` is not above 0 (SI_USER); the terminal sends with SI_KERNEL."""

    number: int
    code: int


class Signals:
    """Blocked signals, to be read from `fd` as they come."""

    def __init__(self, numbers: Collection[int]) -> None:
        mask = bytearray(_SET_SIZE)
        for number in numbers:
            mask[(number - 1) // 8] |= 1 << (number - 1) % 8
        self.fd = ctypes.CDLL(None, use_errno=True).signalfd(-1, bytes(mask), _SFD_NONBLOCK | _SFD_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def read(self) -> list[Came]:
        found = []
        with suppress(BlockingIOError):
            while len(data := os.read(self.fd, _INFO_SIZE)) == _INFO_SIZE:
                number, _, code = _INFO.unpack_from(data)
                found.append(Came(number, code))
        return found

    def close(self) -> None:
        os.close(self.fd)


class Relay:
    """A relay for a child's output. The reader of our pipe waits until all its writers have ended. So a child gets its
    own pipe for each of the streams that are pipes, and its output is passed on.
    """

    def __init__(self, streams: Collection[int] = (1, 2)) -> None:
        self._theirs = {stream: os.pipe() for stream in streams if _is_pipe(stream)}
        self.open = {theirs[0]: stream for stream, theirs in self._theirs.items()}
        self._rest: dict[int, bytes] = {}

    def in_child(self) -> None:
        for stream, (reads, writes) in self._theirs.items():
            os.close(reads)
            os.dup2(writes, stream)
            os.close(writes)

    def in_parent(self) -> None:
        for reads, writes in self._theirs.values():
            os.close(writes)
            os.set_blocking(reads, False)

    @property
    def sources(self) -> list[int]:
        """Return the pipes to read from: earlier data has been passed on."""
        return [fd for fd in self.open if fd not in self._rest]

    @property
    def targets(self) -> list[int]:
        """Return the streams that have data to write."""
        return [self.open[fd] for fd in self._rest]

    def pass_on(self, ready: Collection[int], takes: Collection[int]) -> None:
        """Read the sources that are ready, and write to the targets that take something, without waiting."""
        for fd in [fd for fd in self._rest if self.open[fd] in takes]:
            self._give(fd)
        for fd in [fd for fd in self.sources if fd in ready]:
            self._take(fd)

    def _take(self, fd: int) -> None:
        """Read what there is, to be written once its reader takes it."""
        with suppress(BlockingIOError):
            if data := os.read(fd, _PIECE):
                self._rest[fd] = data
            else:
                self._end(fd)

    def _give(self, fd: int) -> None:
        """Write as much as select(2) vouches for. If nobody reads on, the child gets to know."""
        data = self._rest.pop(fd)
        try:
            written = os.write(self.open[fd], data[: select.PIPE_BUF])
        except BlockingIOError:
            written = 0
        except OSError:
            self._end(fd)
            return
        if written < len(data):
            self._rest[fd] = data[written:]

    def _end(self, fd: int) -> None:
        del self.open[fd]
        os.close(fd)

    def close(self) -> None:
        """Pass the rest on, however long that takes: who waits no longer can end us."""
        for fd in list(self.open):
            before = -1
            while fd in self.open and before != 0:
                while fd in self._rest:
                    select.select([], [self.open[fd]], [])
                    self._give(fd)
                if fd in self.open:
                    self._take(fd)
                    before = len(self._rest.get(fd, b""))
        for fd in list(self.open):
            self._end(fd)


def _is_pipe(stream: int) -> bool:
    try:
        mode = os.fstat(stream).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
