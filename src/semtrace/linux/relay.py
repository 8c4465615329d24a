"""Signals as something to read, and output that is passed on: for a parent that stands between a child and the rest."""

from __future__ import annotations

import ctypes
import os
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
    """Whoever reads our pipe waits until all who can write to it have ended. So a child gets a pipe of its own for each
    of the streams that are pipes, and what it writes there is passed on.
    """

    def __init__(self, streams: Collection[int] = (1, 2)) -> None:
        self._theirs = {stream: os.pipe() for stream in streams if _is_pipe(stream)}
        self.open = {theirs[0]: stream for stream, theirs in self._theirs.items()}

    def in_child(self) -> None:
        for stream, (reads, writes) in self._theirs.items():
            os.close(reads)
            os.dup2(writes, stream)
            os.close(writes)

    def in_parent(self) -> None:
        for reads, writes in self._theirs.values():
            os.close(writes)
            os.set_blocking(reads, False)

    def pass_on(self, fd: int) -> None:
        """All that can be read now. If nobody reads on, the child gets to know."""
        try:
            while data := os.read(fd, _PIECE):
                while data:
                    data = data[os.write(self.open[fd], data) :]
        except BlockingIOError:
            return
        except OSError:
            pass
        del self.open[fd]
        os.close(fd)

    def close(self) -> None:
        for fd in list(self.open):
            self.pass_on(fd)
        for fd in self.open:
            os.close(fd)
        self.open.clear()


def _is_pipe(stream: int) -> bool:
    try:
        mode = os.fstat(stream).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
