"""The viewers' FIFOs: found, checked, written to without ever waiting.

A descriptor is never closed while a thread may be about to write to it. /dev/null is put in its place, and the number
is used again for the next viewer. The numbers are high ones, which the kernel gives to nobody else as long as lower
ones are free. So an application that closes all descriptors rarely gets one of ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import stat
from _signal import SIG_IGN, SIGPIPE, getsignal  # type: ignore[import-not-found]
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from semtrace.instrument import places
from semtrace.instrument.state_writer import Books, Words
from semtrace.model import ProcessId
from semtrace.wire.event import EVENT_WORDS
from semtrace.wire.offsets import VIEWER_SLOTS, Header
from semtrace.wire.place import parse_fifo_name

Emit = Callable[[bytes, int, int, int], None]
_OPEN = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Target:
    """One viewer's FIFO, open for writing. `index` is its slot in the state file, and decides its descriptor."""

    name: str
    descriptor: int
    inode: tuple[int, int]
    index: int


class Viewers:
    """The viewers of this process. `changed` is called when one was dropped."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.targets: tuple[Target, ...] = ()
        self.books: Books | None = None
        self.numbers = count(1)
        self._changed = changed
        self._spare: dict[int, int] = {}  # descriptors that lead to /dev/null, by slot

    def scan(self, directory: int) -> None:
        """Open every FIFO that is not open yet, and forget those that are not ours any more."""
        self.revalidate()
        known = {target.name for target in self.targets}
        for name in sorted(os.listdir(directory)):
            viewer = parse_fifo_name(name)
            if viewer is not None and name not in known:
                self._welcome(name, viewer, directory)

    def revalidate(self) -> None:
        """Forget what is not our FIFO any more, neither writing to the number nor closing it.

        After a fork the application's code may have closed all descriptors that it did not know.
        """
        self.targets = tuple(target for target in self.targets if self._is_intact(target))

    def _welcome(self, name: str, viewer: ProcessId, directory: int) -> None:
        free = set(range(VIEWER_SLOTS)) - {target.index for target in self.targets}
        if not free:
            return
        try:
            opened = os.open(name, _OPEN, dir_fd=directory)
        except OSError:  # ENXIO: nobody reads; ELOOP: a symbolic link; EACCES: not for us
            with contextlib.suppress(OSError):
                self._sweep(name, viewer, directory)
            return
        try:
            found = os.fstat(opened)
            if stat.S_ISFIFO(found.st_mode) and found.st_uid in (os.geteuid(), 0):
                self._add(name, viewer, opened, (found.st_dev, found.st_ino), min(free))
        finally:
            os.close(opened)

    def _add(self, name: str, viewer: ProcessId, opened: int, inode: tuple[int, int], index: int) -> None:
        descriptor = self._spare.pop(index, -1)
        if _is_null(descriptor):
            os.dup2(opened, descriptor, inheritable=False)
        else:
            descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _high_number())
        if self.books is not None:
            self.books.set_viewer(index, viewer)
        self.targets = (*self.targets, Target(name, descriptor, inode, index))

    def _sweep(self, name: str, viewer: ProcessId, directory: int) -> None:
        """A FIFO that nobody reads, of a viewer that is dead, is left over."""
        if places.is_alive(viewer) or not stat.S_ISFIFO(os.lstat(name, dir_fd=directory).st_mode):
            return
        os.unlink(name, dir_fd=directory)

    def _is_intact(self, target: Target) -> bool:
        try:
            found = os.fstat(target.descriptor)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == target.inode

    def drop(self, target: Target) -> None:
        """Its reader is gone."""
        self.targets = tuple(other for other in self.targets if other is not target)
        if self._is_intact(target):
            with contextlib.suppress(OSError):  # no descriptor left: then this one stays as it is
                null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                os.dup2(null, target.descriptor, inheritable=False)
                os.close(null)
                self._spare[target.index] = target.descriptor
        self._changed()

    def emitter(self, words: Words) -> Emit | None:
        """Return the function that writes one record to all viewers; None without any, which the hot paths check."""
        targets = [(target.descriptor, target) for target in self.targets]
        if not targets:
            return None
        write, pack, number, sequence = os.write, EVENT_WORDS.pack, self.numbers.__next__, int(Header.SEQUENCE)
        failed, handler = self._failed, getsignal

        def emit(prefix: bytes, who: int, time_ns: int, value: int) -> None:
            words[sequence] = this = number()
            record = prefix + pack(who, this, time_ns, value)
            for descriptor, target in targets:
                try:
                    if handler(SIGPIPE) != SIG_IGN:  # the application's own: a viewer that has gone would kill it
                        raise BlockingIOError
                    write(descriptor, record)
                except OSError as error:
                    failed(target, error)

        return emit

    def _failed(self, target: Target, error: OSError) -> None:
        if not isinstance(error, BlockingIOError):
            self.drop(target)
        elif self.books is not None:
            self.books.count_lost(target.index)


def _is_null(descriptor: int) -> bool:
    try:
        return os.fstat(descriptor).st_rdev == os.stat(os.devnull).st_rdev
    except OSError:
        return False


def _high_number() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1024 if soft == resource.RLIM_INFINITY else min(soft, 1024)
    return max(3, most - 2 * VIEWER_SLOTS)
