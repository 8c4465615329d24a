"""A viewer's own FIFO in a traced server's directory: made, announced, read in batches, removed.

The server opens it for writing and never waits for it. What a killed viewer left is removed by the next one.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import itertools
import os
import select
import time
from collections.abc import Iterable

from semtrace.errors import SemtraceError
from semtrace.linux import safefile
from semtrace.linux.process import read_stat, still
from semtrace.model import ProcessId
from semtrace.tracing.events import Decoder, Event
from semtrace.tracing.tracedirs import Directory
from semtrace.wire.place import (
    CONTROL,
    CONTROL_SIZE,
    ControlWord,
    control_is_valid,
    fifo_name,
    generation,
    parse_fifo_name,
)

# fcntl(2): 1 MiB is what everybody may have (/proc/sys/fs/pipe-max-size), as long as his pipes are not too many. Root
# may have more: room for 400 ms of 300,000 records a second, in which a busy machine may not let us run.
_SIZES = (1 << 23, 1 << 20, 1 << 18, 1 << 17)
_F_SETPIPE_SZ = 1031
_PIECE = 1 << 18

_numbers = itertools.count()


def this_viewer() -> ProcessId:
    """Return this process as the names of our FIFOs and the slots of the state files have it."""
    own = read_stat(os.getpid())
    if own is None:
        raise SemtraceError("this process cannot read /proc/self/stat", "mount /proc")
    return own.id


class EventPipe:
    """Open in the constructor, which raises OSError where the directory does not let us; `close` removes the FIFO. No
    signal may come between the two: its maker is `undisturbed` until somebody has it who will close it.
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._decoder = Decoder()
        self._name = fifo_name(this_viewer(), next(_numbers))
        self._pid = os.getpid()
        remove_dead(directory)
        os.mkfifo(self._name, 0o600, dir_fd=directory.fd)
        try:
            self.fd = self._open()
        except BaseException:
            os.unlink(self._name, dir_fd=directory.fd)
            raise
        atexit.register(self.close)

    def _open(self) -> int:
        """Open for writing too: else it would be at its end whenever no worker has it open."""
        fd = safefile.fifo(self._name, os.O_RDWR, self.directory.fd)
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid() or found.st_nlink != 1:
                raise FileExistsError(f"{self._name} was replaced by something else")
            if self.directory.uid != found.st_uid:
                os.fchown(fd, self.directory.uid, -1)
            self.capacity = _grow(fd)
            _announce(self.directory)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @property
    def malformed(self) -> int:
        """Records that were none, and were dropped."""
        return self._decoder.malformed

    def read(self) -> list[Event]:
        """All that there is now, at most four times 4,096 events; never waits."""
        events: list[Event] = []
        for _ in range(4):
            try:
                data = os.read(self.fd, _PIECE)
            except BlockingIOError:
                break
            events += self._decoder.decode(data)
            if len(data) < _PIECE:
                break
        return events

    def decode(self, data: bytes) -> list[Event]:
        """Return the events in what was read from `fd` by somebody else."""
        return self._decoder.decode(data)

    def close(self) -> None:
        """Also by `atexit`; a fork of ours leaves it alone."""
        atexit.unregister(self.close)
        if self.fd < 0 or self._pid != os.getpid():
            return
        with contextlib.suppress(OSError):
            ours = os.fstat(self.fd)
            there = os.stat(self._name, dir_fd=self.directory.fd, follow_symlinks=False)
            if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                os.unlink(self._name, dir_fd=self.directory.fd)
        os.close(self.fd)
        self.fd = -1


def wait_for_events(pipes: Iterable[EventPipe], timeout_s: float, wake: int | None = None) -> None:
    """Wait until any of them, or the descriptor `wake`, has something to read."""
    poll = select.poll()
    for fd in [*(pipe.fd for pipe in pipes), *([] if wake is None else [wake])]:
        poll.register(fd, select.POLLIN)
    poll.poll(max(int(timeout_s * 1000), 0))


def remove_dead(directory: Directory) -> None:
    """Remove the FIFOs of viewers that were killed: nobody of that name lives, and nobody reads it."""
    for name in directory.names():
        viewer = parse_fifo_name(name)
        if viewer is None or still(viewer):
            continue
        try:
            os.close(safefile.fifo(name, os.O_WRONLY, directory.fd))
        except OSError:  # ENXIO; a viewer of another pid namespace would be reading
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory.fd)


def _grow(fd: int) -> int:
    for size in _SIZES:
        with contextlib.suppress(OSError):
            return fcntl.fcntl(fd, _F_SETPIPE_SZ, size)
    return 1 << 16


def _announce(directory: Directory) -> None:
    """Make the traced processes look for FIFOs at their next event."""
    control = directory.open_file(CONTROL, os.O_RDWR, CONTROL_SIZE)
    if control is None:
        raise FileNotFoundError("the server's directory has no control file of its own")
    try:
        if not control_is_valid(os.pread(control, CONTROL_SIZE, 0)):
            raise OSError("the server was traced by another version of semtrace")
        word = generation(time.monotonic_ns(), os.getpid())
        os.pwrite(control, word.to_bytes(8, "little"), ControlWord.GENERATION * 8)
    finally:
        os.close(control)
