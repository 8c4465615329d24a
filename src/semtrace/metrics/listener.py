"""The listener: a process of its own without any rights, so that a scraper reaches neither sampling nor memory.

It gets each new page as a file in memory, and keeps only the newest. A page that it has no time for is skipped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from semtrace.errors import SemtraceError
from semtrace.linux import privileges
from semtrace.linux.process import read_stat
from semtrace.metrics.access import BACKLOG, Access
from semtrace.metrics.answering import Site

_LENGTHS = struct.Struct("=QQ")
_WANTED = b"o"
# OpenMetrics costs more to render than the plain format, so it is made only if somebody asked for it lately.
_WANTED_S = 120.0
_ASK_EVERY_S = 10.0

_END_S = 1.0
_LOOK_EVERY_S = 1.0

_NOBODY = 65534


class Listener:
    """The parent's end."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._wanted_until_s = time.monotonic() + _WANTED_S  # Prometheus asks for it unless it was set otherwise

    def check(self) -> None:
        """Raise SemtraceError if the listener has ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            raise SemtraceError(f"the listener ended with {os.waitstatus_to_exitcode(status)}", "start it again")

    def wants_openmetrics(self) -> bool:
        with suppress(BlockingIOError):
            while self._channel.recv(64):
                self._wanted_until_s = time.monotonic() + _WANTED_S
        return time.monotonic() < self._wanted_until_s

    def put(self, plain: bytes, openmetrics: bytes | None) -> None:
        """Hand over a page. It is skipped if the listener has not taken the ones before yet."""
        page = os.memfd_create("semtrace-metrics", os.MFD_CLOEXEC)
        try:
            with open(page, "wb", closefd=False) as stream:
                stream.write(plain)
                stream.write(openmetrics or b"")
            lengths = _LENGTHS.pack(len(plain), len(openmetrics or b""))
            with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):  # `check` finds that it has ended
                socket.send_fds(self._channel, [lengths], [page])
        finally:
            os.close(page)

    def stop(self) -> None:
        """Close the channel, which ends the listener, and wait for that. It is another user's: it cannot be killed."""
        self._channel.close()
        deadline_s = time.monotonic() + _END_S
        with suppress(ChildProcessError):
            while not os.waitpid(self.pid, os.WNOHANG)[0] and time.monotonic() < deadline_s:
                time.sleep(0.01)


@contextmanager
def started(listening: socket.socket, access: Access, stale_s: float) -> Iterator[Listener]:
    """Fork the listener. No other thread may run yet."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _be_listener(parent, listening, theirs, ours, access, stale_s)
    theirs.close()
    listening.close()
    ours.setblocking(False)
    listener = Listener(pid, ours)
    try:
        yield listener
    finally:
        listener.stop()


def _be_listener(
    parent: int, listening: socket.socket, channel: socket.socket, other: socket.socket, access: Access, stale_s: float
) -> None:
    """Is the whole life of the child."""
    code = 1
    try:
        other.close()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process, too
        _give_up_rights()
        asyncio.run(_serve(parent, listening, channel, access, stale_s))
        code = 0
    finally:
        os._exit(code)


def _give_up_rights() -> None:
    """Become nobody where that is allowed, and keep no capability in any case."""
    if os.geteuid() == 0:
        with suppress(OSError):
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
    privileges.drop_all()


async def _serve(parent: int, listening: socket.socket, channel: socket.socket, access: Access, stale_s: float) -> None:
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # no client fills the log with what it does wrong
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    asked_s = -_ASK_EVERY_S
    channel.setblocking(False)

    def wanted() -> None:
        nonlocal asked_s
        if loop.time() - asked_s > _ASK_EVERY_S:
            asked_s = loop.time()
            with suppress(BlockingIOError):
                channel.send(_WANTED)

    site = Site(access, stale_s, wanted)

    def take() -> None:
        with suppress(BlockingIOError):
            while True:
                page = _receive(channel)
                if page is None:
                    loop.remove_reader(channel)
                    ended.set_result(None)
                    return
                site.put(*page)

    def poll() -> None:
        """End with a parent that was killed and cannot go, because a file that it reads does not answer."""
        stat = read_stat(parent)
        if os.getppid() != parent or (stat is not None and stat.ended):
            ended.cancel()
        loop.call_later(_LOOK_EVERY_S, poll)

    loop.add_reader(channel, take)
    poll()
    async with await loop.create_server(site.protocol, sock=listening, backlog=BACKLOG):
        with suppress(asyncio.CancelledError):
            await ended


def _receive(channel: socket.socket) -> tuple[bytes, bytes | None] | None:
    """Return the next page; None if the parent has gone. Raises BlockingIOError."""
    try:
        message, descriptors, _, _ = socket.recv_fds(channel, _LENGTHS.size, 1)
    except ConnectionResetError:
        return None
    if not message or not descriptors:
        return None
    plain, openmetrics = _LENGTHS.unpack(message)
    with open(descriptors[0], "rb") as page:
        page.seek(0)
        return page.read(plain), page.read(openmetrics) or None
