"""The line of `/proc/PID/task/TID/syscall`: the system call in which a thread is, its arguments and its stack pointer.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64, riscv64), Linux 6.18.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from semtrace.linux.files import not_for_want_of

# Name: (x86_64, generic). None: that architecture has no such call.
_TABLE: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "poll": (7, None),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "select": (23, None),
    "pause": (34, None),
    "nanosleep": (35, 101),
    "accept": (43, 202),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "wait4": (61, 260),
    "fcntl": (72, 25),
    "flock": (73, 32),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_nanosleep": (230, 115),
    "epoll_wait": (232, None),
    "waitid": (247, 95),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "epoll_pwait": (281, 22),
    "accept4": (288, 242),
    "preadv": (295, 69),
    "pwritev": (296, 70),
    "recvmmsg": (299, 243),
    "sendmmsg": (307, 269),
    "preadv2": (327, 286),
    "pwritev2": (328, 287),
    "epoll_pwait2": (441, 441),
    "futex_waitv": (449, 449),
    "futex_wait": (455, 455),
}

_COLUMN = {"x86_64": 0, "aarch64": 1, "riscv64": 1}

# The form of the line in fs/proc/base.c proc_pid_syscall: number, six arguments, stack pointer, program counter.
_FIELDS = 9


def numbers_of(machine: str) -> dict[int, str]:
    """Return the name of each number; empty for an architecture that is not known here."""
    column = _COLUMN.get(machine)
    if column is None:
        return {}
    return {number: name for name, row in _TABLE.items() if (number := row[column]) is not None}


NAMES = numbers_of(os.uname().machine)
NUMBERS = {name: number for number, name in NAMES.items()}

# The number that the kernel gives for a thread that is in no call: it was stopped, or moved aside, in its own code.
NO_SYSCALL = -1
_RUNNING = b"running"


class SystemCall(NamedTuple):
    """`number` is None while the thread runs, NO_SYSCALL when it is off the processor in its own code."""

    number: int | None
    arguments: tuple[int, ...] = ()
    stack: int | None = None


def read_line(pid: int, tid: int) -> bytes | None:
    """Return the line, None if the thread ended. Needs the right to attach (PTRACE_MODE_ATTACH): PermissionError."""
    try:
        fd = os.open(f"/proc/{pid}/task/{tid}/syscall", os.O_RDONLY)
    except PermissionError:
        raise
    except OSError as error:
        not_for_want_of(error)
        return None
    try:
        return os.read(fd, 256)
    except PermissionError:
        raise
    except OSError:
        return None
    finally:
        os.close(fd)


def parse_call(line: bytes) -> SystemCall | None:
    """Parse `NR ARG1 … ARG6 SP PC`, `-1 SP PC` or `running`; None for any other line, or if the thread ended (`-1 0x0
    0x0`: it has no stack any more).
    """
    fields = line.split()
    if fields == [_RUNNING]:
        return SystemCall(None)
    try:
        number = int(fields[0])
        rest = [int(each, 16) for each in fields[1:]]
    except (ValueError, IndexError):
        return None
    if number == NO_SYSCALL and len(rest) == 2:
        return SystemCall(NO_SYSCALL, (), rest[0]) if rest[0] else None
    return SystemCall(number, tuple(rest[:6]), rest[6]) if len(fields) == _FIELDS else None
