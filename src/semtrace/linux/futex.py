"""Threads blocked in the kernel: what each one sleeps in, as `/proc/PID/task/TID/syscall` shows it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from semtrace.linux.files import not_for_want_of
from semtrace.linux.machine import MACHINE
from semtrace.linux.process import thread_ids

_FUTEX = tuple(number for number in (MACHINE.futex, MACHINE.restart_syscall) if number is not None)

# False on a processor whose numbers are not known here: a thread in futex then looks like one in any other call.
KNOWN = bool(_FUTEX)

# That of futex(2) itself.
NUMBER = MACHINE.futex

# include/uapi/linux/futex.h: the operations that sleep on a word, without their flag bits.
_FLAGS = 128 | 256
_WAIT, _WAIT_BITSET = 0, 9

# What the file says of a thread that is on a processor, and the number it gives for one that was stopped outside a
# call.
_RUNNING = b"running"
NO_SYSCALL = -1


@dataclass(frozen=True, slots=True)
class Thread:
    """Where one thread is. `syscall` is None while it runs, NO_SYSCALL when it is off the processor in its own code;
    `futex` is the address of the word that it sleeps on, `timed` whether a timeout will wake it, `stack` its stack
    pointer there."""

    tid: int
    syscall: int | None
    futex: int | None = None
    timed: bool = False
    stack: int | None = field(default=None, compare=False)

    @property
    def blocked(self) -> bool:
        """Return False for a thread that runs or could run. In futex only a wait blocks: a wake passes through."""
        return self.futex is not None or self.syscall not in (None, NO_SYSCALL, NUMBER)


def threads(pid: int, single: bool = False) -> list[Thread] | None:
    """Every thread of a process that could be read; None if none could. `single` spares the listing of one that has
    one.

    Needs the right to attach (PTRACE_MODE_ATTACH), as memory does: raises PermissionError.
    """
    found = [thread for tid in ([pid] if single else thread_ids(pid)) if (thread := read_thread(pid, tid))]
    return found or None


def read_thread(pid: int, tid: int) -> Thread | None:
    """None if it ended; raises PermissionError."""
    try:
        fd = os.open(f"/proc/{pid}/task/{tid}/syscall", os.O_RDONLY)
    except PermissionError:
        raise
    except OSError as error:
        not_for_want_of(error)
        return None
    try:
        return parse_syscall(tid, os.read(fd, 256))
    except PermissionError:
        raise
    except OSError:
        return None
    finally:
        os.close(fd)


def parse_syscall(tid: int, line: bytes) -> Thread | None:
    """`NR ARG1 … ARG6 SP PC`, `-1 SP PC`, or `running` (fs/proc/base.c proc_pid_syscall).

    Another restarted call whose second argument looks like a wait is taken for one too: on an address of no semaphore.
    """
    f = line.split()
    if not f:
        return None
    if f[0] == _RUNNING:
        return Thread(tid, None)
    try:
        number = int(f[0])
        if number in _FUTEX and int(f[2], 16) & ~_FLAGS in (_WAIT, _WAIT_BITSET):
            timed = int(f[4], 16) != 0  # futex(2): its fourth argument
            return Thread(tid, number, int(f[1], 16), timed, stack=int(f[-2], 16))
    except (ValueError, IndexError):
        return None
    return Thread(tid, number, stack=_stack_pointer(f))


def _stack_pointer(fields: list[bytes]) -> int | None:
    try:
        return int(fields[-2], 16)
    except (ValueError, IndexError):
        return None


@dataclass(frozen=True, slots=True)
class RunTime:
    """A thread's time on processors so far, in ns, and how many times it got onto one."""

    ns: int
    slices: int


def run_time(pid: int, tid: int) -> RunTime | None:
    """Return fields 1 and 3 of `/proc/PID/task/TID/schedstat` (sched-stats.rst), None if they are not known: a kernel
    that does not count gives zeros (fs/proc/base.c proc_pid_schedstat).
    """
    try:
        with open(f"/proc/{pid}/task/{tid}/schedstat", "rb", buffering=0) as f:
            ns, _, slices = map(int, f.read().split()[:3])
    except (OSError, ValueError):
        return None
    return RunTime(ns, slices) if ns else None


def run_time_ns(pid: int, tid: int) -> int | None:
    """Return how many ns a thread has been on a processor so far, None if that is not known."""
    ran = run_time(pid, tid)
    return None if ran is None else ran.ns
