"""Threads blocked in the kernel: what each one sleeps in, as `/proc/PID/task/TID/syscall` shows it."""

from __future__ import annotations

from dataclasses import field

from semtrace.lazydata import dataclass
from semtrace.linux.files import read_whole
from semtrace.linux.process import thread_ids
from semtrace.linux.syscalls import NO_SYSCALL as NO_SYSCALL
from semtrace.linux.syscalls import NUMBERS, SystemCall, parse_call, read_line

# futex(2) itself: None on a processor whose numbers are not known here.
NUMBER = NUMBERS.get("futex")

# restart_syscall(2), as which a timed wait goes on after a stop, with its arguments as they were.
_FUTEX = {NUMBER, NUMBERS.get("restart_syscall")} - {None}

# False on a processor whose numbers are not known here: a thread in futex then looks like one in any other call.
KNOWN = bool(_FUTEX)

# include/uapi/linux/futex.h: the operations that sleep on a word, without their flag bits.
_FLAGS = 128 | 256
_WAIT, _WAIT_BITSET = 0, 9


@dataclass(frozen=True)
class Thread:
    """The position of one thread. `syscall` is None while it runs, NO_SYSCALL when it is off the processor in its own
    code. `futex` is the address of the word that it sleeps on, `timed` whether a timeout will wake it, `stack` its
    stack pointer there.
    """

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
    line = read_line(pid, tid)
    return None if line is None else parse_syscall(tid, line)


def parse_syscall(tid: int, line: bytes) -> Thread | None:
    """Parse the line (see `syscalls`). Another restarted call whose second argument looks like a wait is taken for one
    too: on an address of no semaphore.
    """
    call = parse_call(line)
    return None if call is None else _thread(tid, call)


def _thread(tid: int, call: SystemCall) -> Thread:
    number, arguments, stack = call
    if number in _FUTEX and arguments[1] & ~_FLAGS in (_WAIT, _WAIT_BITSET):
        return Thread(tid, number, arguments[0], timed=arguments[3] != 0, stack=stack)  # futex(2): its fourth argument
    return Thread(tid, number, stack=stack)


@dataclass(frozen=True)
class RunTime:
    """A thread's time on processors so far, in ns, and how many times it got onto one."""

    ns: int
    slices: int


def run_time(pid: int, tid: int) -> RunTime | None:
    """Return fields 1 and 3 of `/proc/PID/task/TID/schedstat` (sched-stats.rst), None if they are not known: a kernel
    that does not count gives zeros (fs/proc/base.c proc_pid_schedstat).
    """
    try:
        ns, _, slices = map(int, read_whole(f"/proc/{pid}/task/{tid}/schedstat", 256).split()[:3])
    except (OSError, ValueError):
        return None
    return RunTime(ns, slices) if ns else None


def run_time_ns(pid: int, tid: int) -> int | None:
    """Return how many ns a thread has been on a processor so far, None if that is not known."""
    ran = run_time(pid, tid)
    return None if ran is None else ran.ns
