"""How processes ended that are not our children: by a descriptor that was opened while they lived (Linux 6.15)."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable

from semtrace.linux.process import read_stat
from semtrace.linux.stopped import exit_code
from semtrace.model import ProcessId

# include/uapi/linux/pidfd.h (6.15): struct pidfd_info in its first published size. `mask` comes first, and `exit_code`,
# a status as wait(2) has it, after `cgroupid` and eleven identities of 32 bits.
_SIZE = 64
_EXIT_CODE_AT = 60
_INFO_EXIT = 1 << 3
# PIDFD_GET_INFO is _IOWR(0xFF, 11, struct pidfd_info); include/uapi/asm-generic/ioctl.h has the bits.
_GET_INFO = 3 << 30 | _SIZE << 16 | 0xFF << 8 | 11


class Endings:
    """Keeps a descriptor of each process, at most `most`. Not for several threads at once."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._open: dict[ProcessId, int] = {}

    def follow(self, processes: Iterable[ProcessId]) -> None:
        """Open a descriptor of each process that is new, and close those of others than these."""
        wanted = set(processes)
        for process in self._open.keys() - wanted:
            os.close(self._open.pop(process))
        for process in wanted:
            if process in self._open or len(self._open) >= self._most:
                continue
            try:
                descriptor = os.pidfd_open(process.pid)
            except OSError:
                continue
            stat = read_stat(process.pid)
            if stat is None or stat.id != process:  # its number is another's by now
                os.close(descriptor)
                continue
            self._open[process] = descriptor

    def exit_code(self, process: ProcessId) -> int | None:
        """Return how it ended, as subprocess does: negative for a signal. None where the kernel does not show it. Its
        descriptor is closed.
        """
        descriptor = self._open.pop(process, None)
        unreaped = _unreaped(process)
        if descriptor is None:
            return unreaped
        try:
            return _reaped(descriptor) if unreaped is None else unreaped
        finally:
            os.close(descriptor)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


def _unreaped(process: ProcessId) -> int | None:
    """Return the exit code of one that its parent has not reaped yet."""
    stat = read_stat(process.pid)
    return exit_code(process.pid) if stat is not None and stat.id == process and stat.ended else None


def _reaped(descriptor: int) -> int | None:
    information = bytearray(_SIZE)
    struct.pack_into("=Q", information, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(descriptor, _GET_INFO, information)
    except OSError:  # older than 6.13
        return None
    (mask,) = struct.unpack_from("=Q", information, 0)
    (status,) = struct.unpack_from("=i", information, _EXIT_CODE_AT)
    return os.waitstatus_to_exitcode(status) if mask & _INFO_EXIT else None
