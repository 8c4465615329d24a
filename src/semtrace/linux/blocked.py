"""Say in which call a thread is blocked, on which descriptors, on which child, and whether a timeout ends the wait.

The kernel reads the arrays of poll and select when the call begins, so their copies in the thread's memory are what it
waits for. They are true of a thread that did not run while it was read: the caller compares its run time. What a
socket's SO_RCVTIMEO or an alarm signal ends is not seen.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

from semtrace.lazydata import dataclass
from semtrace.linux.memory import Memory
from semtrace.linux.process import children, read_stat
from semtrace.linux.program import namespace_pids, read
from semtrace.linux.syscalls import NAMES, NO_SYSCALL, SystemCall, parse_call, read_line
from semtrace.model import Word


class Call(Word):
    """Kinds of system calls. RUNNING: in no call, or in one that only passes through. OTHER: nothing is known of it."""

    FUTEX = "futex"
    READ = "read"
    WRITE = "write"
    POLL = "poll"
    SELECT = "select"
    EPOLL = "epoll"
    WAIT = "wait"
    FLOCK = "flock"
    FCNTL_LOCK = "fcntl"
    ACCEPT = "accept"
    RECEIVE = "receive"
    SEND = "send"
    SLEEP = "sleep"
    PAUSE = "pause"
    OTHER = "other"
    RUNNING = "running"


# What `Blocked.child` is for a thread that waits for any of its children.
ANY_CHILD = -1

# A thread that waits for more descriptors than this has `complete` False.
MOST_DESCRIPTORS = 1024


@dataclass(frozen=True)
class Awaited:
    """A descriptor that a thread waits for, until it is readable or writable; until it fails if neither."""

    fd: int
    readable: bool = False
    writable: bool = False


@dataclass(frozen=True)
class Blocked:
    """The system call that a thread is blocked in.

    `futex` is the address of the word; `private`: only threads of this process can wake it. `fds` are the descriptors,
    of epoll those that it watches; `complete` is False if some of them could not be read, so that others may wake the
    thread. `child` is the PID, by the numbers of our own PID namespace, that wait4 or waitid names, ANY_CHILD for any
    or a group, None if it cannot be seen. `number` is the system call's.
    """

    call: Call
    timed: bool = False
    futex: int | None = None
    fds: tuple[Awaited, ...] = ()
    complete: bool = True
    child: int | None = None
    stack: int | None = None
    number: int | None = None
    private: bool = False


def read_blocked(pid: int, tid: int, memory: Memory | None) -> Blocked | None:
    """Return None if the thread ended. Raises PermissionError as `futex.read_thread` does. Without `memory` the arrays
    of poll and select are not read.
    """
    line = read_line(pid, tid)
    for _ in range(3):
        call = None if line is None else parse_call(line)
        if call is None:
            return None
        found = _decode(pid, tid, call, memory)
        again = read_line(pid, tid)
        if again == line:
            return found
        line = again
    return Blocked(Call.RUNNING)


def _decode(pid: int, tid: int, call: SystemCall, memory: Memory | None) -> Blocked:
    name = NAMES.get(call.number if call.number is not None else NO_SYSCALL)
    if name == "restart_syscall":
        name = _restarted(pid, tid)
    decode = _DECODERS.get(name or "")
    asked = _Asked(pid, tid, call.arguments, memory)
    if call.number in (None, NO_SYSCALL):
        found = Blocked(Call.RUNNING)
    else:
        found = Blocked(Call.OTHER) if decode is None else decode(asked)
    return replace(found, stack=call.stack, number=call.number)


# The calls that go on as restart_syscall(2) (struct restart_block), by the function of the kernel in which they sleep.
# Its arguments are those of the first call. ppoll, select and epoll_wait never go on so. wchan leaves out functions of
# the scheduler, and all of a nanosleep that goes on are (kernel/time/hrtimer.c hrtimer_nanosleep_restart: __sched):
# what remains is the entry of the call, such as do_syscall_64.
_RESTARTED = (
    (b"poll", "poll"),
    (b"nanosleep", "nanosleep"),
    (b"nsleep", "nanosleep"),
    (b"futex", "futex"),
    (b"syscall", "nanosleep"),
)


def _restarted(pid: int, tid: int) -> str:
    """Return the call's name by `/proc/PID/task/TID/wchan`, "" if that does not decide."""
    where = read(f"/proc/{pid}/task/{tid}/wchan", 128) or b""
    return next((name for part, name in _RESTARTED if part in where), "")


@dataclass(frozen=True)
class _Asked:
    """A system call that is to be decoded."""

    pid: int
    tid: int
    arguments: tuple[int, ...]
    memory: Memory | None

    def signed(self, index: int) -> int:
        """Return an argument that is an int in C: the upper half of the register is not defined."""
        return (self.arguments[index] & 0xFFFFFFFF ^ 0x80000000) - 0x80000000

    def given(self, index: int) -> bool:
        """Return True for a pointer that is not NULL."""
        return self.arguments[index] != 0

    def read(self, address: int, size: int) -> bytes | None:
        return None if self.memory is None else self.memory.read(address, size)


# include/uapi/linux/futex.h: flag bits, and the operations that sleep: WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI,
# LOCK_PI2. The fourth argument is the timeout of each.
_FUTEX_PRIVATE = 128
_FUTEX_FLAGS = _FUTEX_PRIVATE | 256
_FUTEX_WAITS = (0, 6, 9, 11, 13)


def _futex(asked: _Asked) -> Blocked:
    if asked.arguments[1] & ~_FUTEX_FLAGS not in _FUTEX_WAITS:
        return Blocked(Call.RUNNING)  # a wake passes through
    private = bool(asked.arguments[1] & _FUTEX_PRIVATE)
    return Blocked(Call.FUTEX, asked.given(3), asked.arguments[0], private=private)


def _on_one(call: Call, readable: bool = False, writable: bool = False) -> Callable[[_Asked], Blocked]:
    return lambda asked: Blocked(call, fds=(Awaited(asked.signed(0), readable, writable),))


_read, _write = _on_one(Call.READ, readable=True), _on_one(Call.WRITE, writable=True)
_accept = _on_one(Call.ACCEPT, readable=True)
_receive, _send = _on_one(Call.RECEIVE, readable=True), _on_one(Call.SEND, writable=True)


# include/uapi/asm-generic/fcntl.h: F_SETLKW, and F_OFD_SETLKW.
_FCNTL_WAITS = (7, 38)


def _fcntl(asked: _Asked) -> Blocked:
    if asked.signed(1) not in _FCNTL_WAITS:
        return Blocked(Call.OTHER)
    return Blocked(Call.FCNTL_LOCK, fds=(Awaited(asked.signed(0)),))


# include/uapi/asm-generic/poll.h: struct pollfd {int fd; short events; short revents}, and its events.
_POLLFD = struct.Struct("=ihh")
_POLL_READABLE = 0x0001 | 0x0002 | 0x0040 | 0x0080 | 0x2000  # POLLIN PRI RDNORM RDBAND RDHUP
_POLL_WRITABLE = 0x0004 | 0x0100 | 0x0200  # POLLOUT WRNORM WRBAND


def _awaited(fd: int, events: int) -> Awaited:
    return Awaited(fd, bool(events & _POLL_READABLE), bool(events & _POLL_WRITABLE))


def _poll(asked: _Asked) -> Blocked:
    return _polled(asked, asked.signed(2) >= 0)


def _ppoll(asked: _Asked) -> Blocked:
    return _polled(asked, asked.given(2))


def _polled(asked: _Asked, timed: bool) -> Blocked:
    many = asked.arguments[1] & 0xFFFFFFFF  # nfds: unsigned int in fs/select.c
    if not many:
        return _without_descriptors(timed)
    taken = min(many, MOST_DESCRIPTORS)
    raw = asked.read(asked.arguments[0], taken * _POLLFD.size)
    # A negative descriptor is left out (poll(2)).
    fds = tuple(_awaited(fd, events) for fd, events, _ in _POLLFD.iter_unpack(raw or b"") if fd >= 0)
    return Blocked(Call.POLL, timed, fds=fds, complete=raw is not None and taken == many)


def _without_descriptors(timed: bool) -> Blocked:
    """Return the sleep that poll(2) and select(2) are without descriptors: up to Python 3.10 it is `time.sleep`."""
    return Blocked(Call.SLEEP if timed else Call.PAUSE, timed)


def _select(asked: _Asked) -> Blocked:
    """Decode select and pselect6. The sets are arrays of unsigned long, one bit for each descriptor below nfds.

    fs/select.c core_sys_select. The kernel writes its answer into them only when it returns.
    """
    many, timed = asked.signed(0), asked.given(4)
    taken = min(many, MOST_DESCRIPTORS)
    if taken <= 0 or not any(map(asked.given, (1, 2, 3))):
        return _without_descriptors(timed)
    size = (taken + 63) // 64 * 8
    sets = [asked.read(address, size) if address else bytes(size) for address in asked.arguments[1:4]]
    bits = [int.from_bytes(each or b"", "little") for each in sets]
    fds = tuple(_selected(bits, taken))
    complete = None not in sets and taken == many
    return (
        Blocked(Call.SELECT, timed, fds=fds, complete=complete) if fds or not complete else _without_descriptors(timed)
    )


def _selected(bits: list[int], many: int) -> Iterator[Awaited]:
    readable, writable, exceptional = bits
    for fd in range(many):
        if (readable | writable | exceptional) >> fd & 1:
            # An exceptional condition is urgent data: it comes from the other end, too.
            yield Awaited(fd, bool((readable | exceptional) >> fd & 1), bool(writable >> fd & 1))


def _epoll(asked: _Asked) -> Blocked:
    return _watching(asked, asked.signed(3) >= 0)


def _epoll2(asked: _Asked) -> Blocked:
    return _watching(asked, asked.given(3))


# fs/eventpoll.c ep_show_fdinfo: `tfd:        3 events:       19 data:                3  pos:0 ino:567e1 sdev:5`
_WATCHED = re.compile(rb"^tfd: +(\d+) events: +([0-9a-f]+) .*? ino:([0-9a-f]+) ", re.MULTILINE)
_INODE = re.compile(rb"^ino:\t(\d+)$", re.MULTILINE)


def _watching(asked: _Asked, timed: bool) -> Blocked:
    limit = MOST_DESCRIPTORS * 128
    raw = read(f"/proc/{asked.tid}/fdinfo/{asked.signed(0)}", limit)
    found = _WATCHED.findall(raw or b"")
    fds = tuple(
        _awaited(int(fd), int(events, 16))
        for fd, events, inode in found[:MOST_DESCRIPTORS]
        if _is_still(asked.tid, int(fd), int(inode, 16))
    )
    return Blocked(Call.EPOLL, timed, fds=fds, complete=raw is not None and len(raw) < limit and len(fds) == len(found))


def _is_still(tid: int, fd: int, inode: int) -> bool:
    """Return False if the number is another file's by now. epoll watches a file until nobody has it open, a child
    included. Before Linux 5.14 that cannot be seen.
    """
    info = read(f"/proc/{tid}/fdinfo/{fd}", 1024)
    found = _INODE.search(info or b"")
    return info is not None and (found is None or int(found[1]) == inode)


# include/uapi/linux/wait.h: the first argument of waitid(2).
_P_PID, _P_PIDFD = 1, 3


def _wait4(asked: _Asked) -> Blocked:
    number = asked.signed(0)  # 0 and below -1: a process group
    return Blocked(Call.WAIT, child=_as_seen_here(asked.pid, number) if number > 0 else ANY_CHILD)


def _waitid(asked: _Asked) -> Blocked:
    kind, number = asked.signed(0), asked.signed(1)
    if kind == _P_PID:
        return Blocked(Call.WAIT, child=_as_seen_here(asked.pid, number))
    if kind == _P_PIDFD:
        return Blocked(Call.WAIT, fds=(Awaited(number, readable=True),), child=pidfd_process(asked.tid, number))
    return Blocked(Call.WAIT, child=ANY_CHILD)


_PIDFD = re.compile(rb"^Pid:\t(-?\d+)$", re.MULTILINE)


def pidfd_process(pid: int, fd: int) -> int | None:
    """Return the PID behind a pidfd, by our own PID namespace (kernel/pid.c pidfd_show_fdinfo). None if that process
    was reaped, cannot be seen from here, or if it is not a pidfd.
    """
    found = _PIDFD.search(read(f"/proc/{pid}/fdinfo/{fd}", 4096) or b"")
    return int(found[1]) if found and int(found[1]) > 0 else None


def _as_seen_here(pid: int, number: int) -> int | None:
    """Translate the PID that a process uses for its child: in a container it has its own numbers."""
    depth = len(namespace_pids(pid))
    if depth == 1:
        return number
    stat = read_stat(pid)
    for child in children(stat) if stat else ():
        known_as = namespace_pids(child)
        if len(known_as) >= depth and known_as[depth - 1] == number:
            return child
    return None


_DECODERS: dict[str, Callable[[_Asked], Blocked]] = {
    **dict.fromkeys(("read", "readv", "pread64", "preadv", "preadv2"), _read),
    **dict.fromkeys(("write", "writev", "pwrite64", "pwritev", "pwritev2"), _write),
    **dict.fromkeys(("accept", "accept4"), _accept),
    **dict.fromkeys(("recvfrom", "recvmsg"), _receive),
    # Its timeout is looked at after each message only, so that it may never come: recvmmsg(2), BUGS.
    "recvmmsg": lambda asked: replace(_receive(asked), timed=asked.given(4)),
    **dict.fromkeys(("sendto", "sendmsg", "sendmmsg"), _send),
    **dict.fromkeys(("nanosleep", "clock_nanosleep"), lambda _: Blocked(Call.SLEEP, timed=True)),
    **dict.fromkeys(("pause", "rt_sigsuspend"), lambda _: Blocked(Call.PAUSE)),
    "rt_sigtimedwait": lambda asked: Blocked(Call.PAUSE, asked.given(2)),
    **dict.fromkeys(("select", "pselect6"), _select),
    **dict.fromkeys(("epoll_wait", "epoll_pwait"), _epoll),
    "epoll_pwait2": _epoll2,
    "poll": _poll,
    "ppoll": _ppoll,
    "futex": _futex,
    # kernel/futex/syscalls.c: (uaddr, val, mask, flags, timeout, clockid); (waiters, nr_futexes, flags, timeout, …)
    "futex_wait": lambda asked: Blocked(Call.FUTEX, asked.given(4), asked.arguments[0]),
    "futex_waitv": lambda asked: Blocked(Call.FUTEX, asked.given(3), complete=False),
    "wait4": _wait4,
    "waitid": _waitid,
    "flock": _on_one(Call.FLOCK),
    "fcntl": _fcntl,
}
