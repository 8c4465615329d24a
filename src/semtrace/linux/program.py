"""Read what psutil lacks about the program of a process: its signal handlers, memory layout and namespaces.

A process may end, or refuse, at any of these reads: the answer is then None, never an exception.
"""

from __future__ import annotations

import re
import signal

from semtrace.lazydata import dataclass
from semtrace.linux import withheld
from semtrace.linux.files import read_whole
from semtrace.linux.process import Stat, read_stat
from semtrace.model import ProcessId

# The most that is read of a file whose length another process decides.
_LIMIT = 1 << 20

# How the standard library's multiprocessing, celery's billiard and joblib's loky start their children.
_SPAWNED = re.compile(r"from (multiprocessing|billiard)\.(spawn|forkserver) import |loky\.backend\.popen_loky")

# Lib/multiprocessing/forkserver.py ensure_running; 3.14 imports sys first.
_FORKSERVER = re.compile(r"-c (?:import sys; )?from (multiprocessing|billiard)\.forkserver import ")
_TRACKER = re.compile(r"-c from (multiprocessing|billiard|loky\.backend)\.(resource_|semaphore_)tracker import ")

# In this order since Linux 2.6; the process's own name, which comes before them, is escaped and cannot hold a new line.
_STATUS = re.compile(rb"^Tgid:\t(\d+)$.*?^SigCgt:\t([0-9a-f]+)$", re.MULTILINE | re.DOTALL)

_SIGNALS = re.compile(rb"^SigBlk:\t([0-9a-f]+)$.*?^SigCgt:\t([0-9a-f]+)$", re.MULTILINE | re.DOTALL)

# include/linux/sched.h: a kernel thread has no program.
_PF_KTHREAD = 0x00200000

# The signals below 32, without the one that CPython itself handles (SIGINT) and those of faults, which faulthandler
# catches: what is caught of the rest is the program's own.
_NOT_OF_PROGRAM = (
    signal.SIGINT,
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGSEGV,
)
OF_PROGRAM = (1 << 31) - 1 - sum(1 << (number - 1) for number in _NOT_OF_PROGRAM)


@dataclass(frozen=True)
class Status:
    """Some of `/proc/PID/status`, which everybody may read (proc.rst, table 1-2).

    `tgid` is the process's pid, also for one of its threads; `caught` the mask of the signals that have a handler, bit
    n-1 for signal n.
    """

    tgid: int
    caught: int

    def catches(self, *signals: signal.Signals) -> bool:
        mask = sum(1 << (number - 1) for number in signals)
        return self.caught & mask == mask


def read(path: str, limit: int = _LIMIT) -> bytes | None:
    """The first `limit` bytes of the file, or None if it cannot be read."""
    try:
        withheld.check(path)
        return read_whole(path, limit)
    except OSError:
        return None


def read_status(pid: int) -> Status | None:
    return parse_status(read(f"/proc/{pid}/status", 16384) or b"")


def parse_status(raw: bytes) -> Status | None:
    """None if a line is missing or garbled."""
    found = _STATUS.search(raw)
    return Status(int(found[1]), int(found[2], 16)) if found else None


def namespace_pids(pid: int) -> tuple[int, ...]:
    """Its pid here, and in each pid namespace below this one that it is in: what it calls itself is the last."""
    found = re.search(rb"^NSpid:((?:\t\d+)+)$", read(f"/proc/{pid}/status", 16384) or b"", re.MULTILINE)
    return tuple(map(int, found[1].split())) if found else (pid,)


def user_ids(pid: int) -> frozenset[int]:
    """The users whose rights it has or may take up: real, effective, saved, file system's (proc.rst, table 1-2)."""
    found = re.search(rb"^Uid:((?:\t\d+)+)$", read(f"/proc/{pid}/status", 16384) or b"", re.MULTILINE)
    return frozenset(map(int, found[1].split())) if found else frozenset()


def effective_user(process: ProcessId) -> int | None:
    """The user with whose rights it acts, None if it ended."""
    found = re.search(rb"^Uid:\t\d+\t(\d+)", read(f"/proc/{process.pid}/status", 16384) or b"", re.MULTILINE)
    stat = read_stat(process.pid)
    return int(found[1]) if found and stat is not None and stat.id == process and not stat.ended else None


def may_handle_signal(pid: int, tid: int) -> bool:
    """Return True if the thread may be inside a signal handler. A signal that the process catches is blocked in it then
    (proc.rst, table 1-2: SigBlk, SigCgt), as each is while its handler runs. True also if that cannot be read.
    """
    raw = read(f"/proc/{pid}/task/{tid}/status", 16384) or b""
    found = _SIGNALS.search(raw)
    return found is None or int(found[1], 16) & int(found[2], 16) != 0


def session_id(pid: int) -> int | None:
    """Return its session (`/proc/PID/stat`, field 6), None if it ended."""
    raw = read(f"/proc/{pid}/stat", 4096) or b""
    try:
        return int(raw[raw.rindex(b")") + 2 :].split()[3])
    except (ValueError, IndexError):
        return None


def image(pid: int) -> tuple[int, int] | None:
    """Return where code and stack begin (`/proc/PID/stat`, fields 26 and 28): random at each exec, the same after a
    fork.

    None if it may not be seen (the kernel then shows 0 or 1: fs/proc/array.c, do_task_stat).
    """
    raw = read(f"/proc/{pid}/stat", 4096) or b""
    fields = raw[raw.rfind(b")") + 2 :].split()
    try:
        start_code, start_stack = int(fields[23]), int(fields[25])
    except (ValueError, IndexError):
        return None
    return (start_code, start_stack) if start_stack > 1 else None


def is_kernel_thread(stat: Stat) -> bool:
    return bool(stat.flags & _PF_KTHREAD)


def is_spawned(command: tuple[str, ...]) -> bool:
    """Return True for a child that multiprocessing, billiard or loky started with the spawn or forkserver method.

    Not for a resource tracker: it runs nothing of the application's. setproctitle, merely imported, has the arguments
    come without the NULs between them, torn at every blank.
    """
    return _SPAWNED.search(" ".join(command)) is not None


def is_forkserver(command: tuple[str, ...]) -> bool:
    """True for the server of the forkserver method, and for what it forked (Lib/multiprocessing/forkserver.py)."""
    return _FORKSERVER.search(" ".join(command)) is not None


def is_resource_tracker(command: tuple[str, ...]) -> bool:
    """True for the process that removes named semaphores at the end (Lib/multiprocessing/resource_tracker.py)."""
    return _TRACKER.search(" ".join(command)) is not None
