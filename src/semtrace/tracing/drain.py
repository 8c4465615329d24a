"""Empty pipes in a thread that does nothing else: what comes fast waits in memory to be decoded, not in a small pipe.

The memory is bounded. Where much waits it is packed, to a tenth. When the memory is full, the pipes fill up, and the
server counts what it cannot write.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable

from semtrace.tracing.packing import packed, unpacked
from semtrace.tracing.reader import EventPipe

MOST_BYTES = 64 << 20
_PIECE = 1 << 20
_PACK_FROM = 8 << 20
_LEAST_PACKED = 1 << 14
# A pipe of this size takes 300,000 records a second for 50 ms. Of a smaller one each piece is read as it comes.
_LARGE, _PAUSE_S, _LONG_PAUSE_S = 1 << 20, 0.003, 0.015
_MUCH = 1 << 17
_FULL_PAUSE_S = 0.005
_SWITCH_S = 0.0005  # by default a thread that computes keeps the interpreter lock ten times as long
_PATIENCE_MS = 250


class Drain:
    """Take the data from the pipes that it follows. `take` returns all data since the last time.

    It reads its own descriptors, so that the maker of a pipe can close it at any time.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._came = self._taken = 0  # bytes; each is counted by one thread alone
        self._pieces: deque[tuple[EventPipe, bytes, bool]] = deque()  # the last: packed
        self._fds: dict[EventPipe, int] = {}
        self._wanted: tuple[EventPipe, ...] = ()
        self._changed = threading.Event()
        self._stopped = False
        self._awaited = self._tell_always = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ready = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="semtrace-drain", daemon=True)

    def follow(self, pipes: Iterable[EventPipe]) -> None:
        """Read from these, and from no others any more. Returns when it does."""
        wanted = tuple(pipes)
        if wanted == self._wanted:
            return
        for pipe in wanted:
            if pipe not in self._wanted:
                self._fds[pipe] = os.dup(pipe.fd)
        self._wanted = wanted
        self._changed.clear()
        if self._thread.ident is None:
            sys.setswitchinterval(_SWITCH_S)
            self._thread.start()
        os.eventfd_write(self._wake, 1)
        self._changed.wait(1.0)

    def take(self, most: int | None = None) -> list[tuple[EventPipe, bytes]]:
        """Return what came, in the order in which it came through each pipe; about `most` bytes of it, or all."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._ready)
        found, size = [], 0
        for _ in range(len(self._pieces)):
            pipe, kept, is_packed = self._pieces.popleft()
            self._taken += len(kept)
            data = unpacked(kept) if is_packed else kept
            size += len(data)
            found.append((pipe, data))
            if most is not None and size >= most:
                break
        return found

    def wait(self, seconds: float) -> None:
        """Wait until there is something to take."""
        self._awaited = True
        if not self._pieces:
            select.select([self._ready], [], [], max(seconds, 0.0))
        self._awaited = False

    @property
    def waiting(self) -> int:
        """Return how many bytes wait to be taken."""
        return self._came - self._taken

    @property
    def ready(self) -> int:
        """Return a descriptor that can be read when there is something to take."""
        self._tell_always = True
        return self._ready

    def close(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is not None:
            self._thread.join(2.0)
        if not self._thread.is_alive():
            for fd in (*self._fds.values(), self._wake, self._ready):
                os.close(fd)

    def _run(self) -> None:
        """Each call of the system gives the interpreter lock away, and a thread that computes may keep it for
        `_SWITCH_S`: so there are as few as can be.
        """
        poll: select.poll | None = None
        while not self._stopped:
            if poll is None or not self._changed.is_set():
                poll = self._adopt()
            if self.waiting >= self._most:
                time.sleep(_FULL_PAUSE_S)
            elif not self._read(self._wanted):
                self._idle(poll)

    def _idle(self, poll: select.poll) -> None:
        if any(fd == self._wake for fd, _ in poll.poll(_PATIENCE_MS)):
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)

    def _adopt(self) -> select.poll:
        """Take over which pipes are wanted, and close the others."""
        wanted = self._wanted
        for pipe in [pipe for pipe in list(self._fds) if pipe not in wanted]:
            os.close(self._fds.pop(pipe))
        poll = select.poll()
        for fd in (*(self._fds[pipe] for pipe in wanted), self._wake):
            poll.register(fd, select.POLLIN)
        if wanted == self._wanted:
            self._changed.set()
        return poll

    def _read(self, pipes: Iterable[EventPipe]) -> bool:
        """Read what there is, and let more come together; return False if there was nothing."""
        small, came = False, 0
        for pipe in pipes:
            try:
                data = os.read(self._fds[pipe], _PIECE)
            except (BlockingIOError, KeyError):  # KeyError: it is wanted since a moment, or no more
                continue
            is_packed = self.waiting > _PACK_FROM and len(data) >= _LEAST_PACKED
            kept = packed(data) if is_packed else data
            self._pieces.append((pipe, kept, is_packed))
            self._came += len(kept)
            came, small = came + len(data), small or pipe.capacity < _LARGE
        if came and (self._awaited or self._tell_always):
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self._ready, 1)
        if came and not small:
            time.sleep(_PAUSE_S if came > _MUCH else _LONG_PAUSE_S)
        return came > 0
