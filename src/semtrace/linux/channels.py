"""Say what a descriptor is, and which processes have the other end of it: for a thread that waits for a pipe or socket.

Nothing is opened: to open a pipe through `/proc/PID/fd` would make semtrace one of its readers or writers. A descriptor
on its way through a unix socket is not seen, nor are those of a thread that shares none with its process.
"""

from __future__ import annotations

import os
import re
import stat as modes
from collections.abc import Collection, Mapping
from typing import NamedTuple

from semtrace.lazydata import dataclass
from semtrace.linux.blocked import pidfd_process
from semtrace.linux.descriptors import listening
from semtrace.linux.files import not_for_want_of
from semtrace.linux.lineage import may_descend
from semtrace.linux.openfiles import MOST_DESCRIPTORS, identify
from semtrace.linux.process import Stat, door, read_stat
from semtrace.linux.program import read
from semtrace.linux.sockdiag import listening_inodes, unix_sockets
from semtrace.linux.sweep import Asking, hides_processes, sees_all_processes
from semtrace.model import SemId, Word


class ChannelKind(Word):
    """Kinds of descriptors. SOCKET: of a network, or a unix socket whose peer cannot be seen. OTHER: a terminal, a
    device, a timer, a directory and the like.
    """

    PIPE = "pipe"
    UNIX_SOCKET = "unix-socket"
    LISTENING = "listening"
    SOCKET = "socket"
    PIDFD = "pidfd"
    EVENTFD = "eventfd"
    FILE = "file"
    OTHER = "other"


class ChannelId(NamedTuple):
    """The key that descriptors share which are open on the same pipe, socket or file. `device` is (0, 0) where there is
    only one for all of a kind.
    """

    kind: ChannelKind
    device: tuple[int, int]
    number: int

    @property
    def file(self) -> SemId:
        return SemId(*self.device, self.number)


@dataclass(frozen=True)
class Channel:
    """The kind of a descriptor. `reads` and `writes`: the modes in which it was opened.

    `id` is None where nobody else can be looked for by it. `peer` is the socket that a unix socket is connected with.
    `unaccepted`: it is connected, but nobody has that end open: it was closed, or the connection still waits to be
    accepted. `pid` is the process behind a pidfd, None if it was reaped. `path` is that of a file or FIFO.

    Others than those who have it open can write to a FIFO, which anybody may open by its path, and to an eventfd, which
    the kernel may signal.
    """

    kind: ChannelKind
    id: ChannelId | None = None
    reads: bool = True
    writes: bool = True
    peer: ChannelId | None = None
    unaccepted: bool = False
    pid: int | None = None
    path: str | None = None

    @property
    def other_end(self) -> ChannelId | None:
        """Return what to ask `find_ends` for: its writers wake who reads here, its readers wake who writes here."""
        if self.kind in (ChannelKind.PIPE, ChannelKind.EVENTFD):
            return self.id
        return self.peer if self.kind is ChannelKind.UNIX_SOCKET else None


_NOWHERE = (0, 0)
_LINK = re.compile(r"(pipe|socket):\[(\d+)\]")
_EVENTFD = "anon_inode:[eventfd]"
_PIDFD = re.compile(r"anon_inode:\[pidfd\]|pidfd:\[\d+\]")  # the second is pidfs before Linux 6.9.1 was released

# Documentation/filesystems/proc.rst, 3.8: octal; include/uapi/asm-generic/fcntl.h O_ACCMODE.
_FLAGS = re.compile(rb"^flags:\t([0-7]+)$", re.MULTILINE)
# fs/eventfd.c eventfd_show_fdinfo, since Linux 5.2.
_EVENTFD_ID = re.compile(rb"^eventfd-id: *(\d+)$", re.MULTILINE)
_INODE = re.compile(rb"^ino:\t(\d+)$", re.MULTILINE)


def channel(pid: int, fd: int) -> Channel | None:
    """Return None without such a descriptor. Raises PermissionError. `pid` may be a thread's id: that is exact where
    the process's first thread has ended or a thread has descriptors of its own.
    """
    try:
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
    except PermissionError:
        raise
    except OSError as error:
        not_for_want_of(error)
        return None
    known = _LINK.fullmatch(target)
    if known and known[1] == "socket":
        return _socket(pid, int(known[2]))
    reads, writes = _directions(_fdinfo(pid, fd))
    if known:
        return Channel(ChannelKind.PIPE, ChannelId(ChannelKind.PIPE, _NOWHERE, int(known[2])), reads, writes)
    if target == _EVENTFD:
        return Channel(ChannelKind.EVENTFD, _eventfd(_fdinfo(pid, fd)))
    if _PIDFD.fullmatch(target):
        return Channel(ChannelKind.PIDFD, pid=pidfd_process(pid, fd))
    if target.startswith("/"):
        return _file(f"/proc/{pid}/fd/{fd}", target, reads, writes)
    return Channel(ChannelKind.OTHER)


def _fdinfo(pid: int, fd: int | str) -> bytes:
    return read(f"/proc/{pid}/fdinfo/{fd}", 1024) or b""


def _directions(fdinfo: bytes) -> tuple[bool, bool]:
    """Return both as True if the flags cannot be read."""
    found = _FLAGS.search(fdinfo)
    access = int(found[1], 8) & os.O_ACCMODE if found else os.O_RDWR
    return access != os.O_WRONLY, access != os.O_RDONLY


def _eventfd(fdinfo: bytes) -> ChannelId | None:
    found = _EVENTFD_ID.search(fdinfo)
    return ChannelId(ChannelKind.EVENTFD, _NOWHERE, int(found[1])) if found else None


def _file(link: str, path: str, reads: bool, writes: bool) -> Channel:
    found = identify(link)
    if found is None:
        return Channel(ChannelKind.OTHER, path=path)
    file, mode = found
    kind = _kind_of(mode)
    number = None if kind is ChannelKind.OTHER else ChannelId(kind, (file.major, file.minor), file.inode)
    return Channel(kind, number, reads, writes, path=path)


def _kind_of(mode: int) -> ChannelKind:
    if modes.S_ISFIFO(mode):
        return ChannelKind.PIPE
    return ChannelKind.FILE if modes.S_ISREG(mode) else ChannelKind.OTHER


def _socket(pid: int, inode: int) -> Channel:
    number = ChannelId(ChannelKind.SOCKET, _NOWHERE, inode)
    found = unix_sockets([inode]).get(inode)
    if found is None:
        return Channel(ChannelKind.LISTENING if _listens(pid, inode) else ChannelKind.SOCKET, number)
    if found.listening:
        return Channel(ChannelKind.LISTENING, number)
    if not found.stream or found.peer is None:
        return Channel(ChannelKind.SOCKET, number)
    peer = ChannelId(ChannelKind.SOCKET, _NOWHERE, found.peer) if found.peer else None
    return Channel(ChannelKind.UNIX_SOCKET, number, peer=peer, unaccepted=peer is None)


def _listens(pid: int, inode: int) -> bool:
    try:
        ours = os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")
    except OSError:
        ours = False
    return inode in listening_inodes() if ours else bool(listening(pid, frozenset([str(inode).encode()])))


@dataclass(frozen=True)
class Ends:
    """The processes that have a channel open: for reading, for writing. A socket is open for both."""

    readers: frozenset[int] = frozenset()
    writers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Found:
    """The answer of a sweep over all processes.

    `hidden_kin` are the processes that could not be asked and may have inherited any descriptor of the server.
    `hidden_others` could not be asked either. They have one only if it was handed to them through a socket, or if it
    was made above the server, as a shell's pipe is. `settled`: False if processes start faster than they can be asked.
    `sees_all`: False in a container, or where /proc hides processes.
    """

    ends: Mapping[ChannelId, Ends]
    hidden_kin: tuple[int, ...]
    hidden_others: tuple[int, ...]
    settled: bool
    sees_all: bool


def find_ends(wanted: Collection[ChannelId], root: Stat | None) -> Found:
    """Ask every process of the machine for these channels. `root` is the oldest process of the server."""
    asking = _Asking(frozenset(wanted))
    settled = asking.run()
    kin: list[int] = []
    others: list[int] = []
    for pid, stat in asking.unasked().items():
        (kin if stat is None or root is None or may_descend(stat, root) else others).append(pid)
    ends = {each: _ends(asking.uses.get(each, {})) for each in wanted}
    return Found(ends, tuple(kin), tuple(others), settled, sees_all_processes() and not hides_processes())


def ends_among(wanted: Collection[ChannelId], pids: Collection[int]) -> tuple[dict[ChannelId, Ends], tuple[int, ...]]:
    """Ask only these processes, and return also which of them could not be asked: a tenth of a millisecond for each,
    where a sweep asks all of the machine.
    """
    asking = _Asking(frozenset(wanted))
    uses: dict[ChannelId, dict[int, tuple[bool, bool]]] = {}
    hidden = []
    for stat in filter(None, map(read_stat, pids)):
        try:
            answers = {} if stat.dying else asking.question(stat)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended
        except OSError as error:
            not_for_want_of(error)
            hidden.append(stat.id.pid)
            continue
        for number, use in answers.items():
            uses.setdefault(number, {})[stat.id.pid] = use
    return {each: _ends(uses.get(each, {})) for each in wanted}, tuple(hidden)


def _ends(uses: Mapping[int, tuple[bool, bool]]) -> Ends:
    return Ends(
        frozenset(pid for pid, (reads, _) in uses.items() if reads),
        frozenset(pid for pid, (_, writes) in uses.items() if writes),
    )


class _Asking(Asking[ChannelId, "tuple[bool, bool]"]):
    def __init__(self, wanted: Collection[ChannelId]) -> None:
        super().__init__()
        self._links = {_link(each): each for each in wanted if each.device == _NOWHERE}
        self._files = {each.file: each for each in wanted if each.device != _NOWHERE}
        self._inodes = {each.inode for each in self._files}
        self._eventfds = any(each.kind is ChannelKind.EVENTFD for each in wanted)

    def question(self, stat: Stat) -> dict[ChannelId, tuple[bool, bool]]:
        """Return for each channel whether the process has it open for reading, and for writing."""
        tid = door(stat)
        found: dict[ChannelId, tuple[bool, bool]] = {}
        names = os.listdir(f"/proc/{tid}/fd")
        if len(names) > MOST_DESCRIPTORS:
            raise OSError(f"it has {len(names)} files open")
        for name in names:
            try:
                number = self._which(tid, name, os.readlink(f"/proc/{tid}/fd/{name}"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # closed meanwhile
            if number is not None:
                reads, writes = self._directions(tid, name, number)
                before = found.get(number, (False, False))
                found[number] = before[0] or reads, before[1] or writes
        return found

    def _which(self, tid: int, name: str, target: str) -> ChannelId | None:
        if target == _EVENTFD and self._eventfds:
            number = _eventfd(_fdinfo(tid, name))
            return number if number in self._links.values() else None
        if self._files and target.startswith("/"):
            return self._file(tid, name)
        return self._links.get(target)

    def _file(self, tid: int, name: str) -> ChannelId | None:
        inode = _INODE.search(_fdinfo(tid, name))
        if inode is not None and int(inode[1]) not in self._inodes:
            return None
        found = identify(f"/proc/{tid}/fd/{name}")
        return None if found is None else self._files.get(found[0])

    def _directions(self, tid: int, name: str, number: ChannelId) -> tuple[bool, bool]:
        return (True, True) if number.kind is ChannelKind.SOCKET else _directions(_fdinfo(tid, name))


def _link(number: ChannelId) -> str:
    return f"{number.kind.value}:[{number.number}]"
