"""One process as `/proc/PID/stat` shows it: one read of a few µs, instead of psutil's several, for the refresh."""

from __future__ import annotations

import os
import time
from functools import cache, lru_cache

from semtrace.lazydata import dataclass
from semtrace.linux.files import not_for_want_of, read_whole
from semtrace.model import ProcessId

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")

# The PIDs of more children than a machine can have (kernel/pid.c PID_MAX_LIMIT, 4 Mi, of seven digits and a blank).
_MOST_OF_CHILDREN = 1 << 25

# include/linux/sched.h: set by fork, cleared by execve, so a process that has it runs its parent's program image.
PF_FORKNOEXEC = 0x00000040

# fs/proc/array.c task_state_array, in psutil's words.
_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "disk-sleep",
    "T": "stopped",
    "t": "tracing-stop",
    "X": "dead",
    "Z": "zombie",
    "P": "parked",
    "I": "idle",
}


@dataclass(frozen=True)
class Stat:
    """`/proc/PID/stat` (Documentation/filesystems/proc.rst, table 1-4): times in ticks, sizes in bytes.

    `reaped` grows with each child that ended and was waited for: the sum of their page faults (fields 11 and 13), of
    which every process has some. It begins with 0 at a fork (kernel/fork.c copy_signal).
    """

    id: ProcessId
    comm: str
    state: str
    ppid: int
    flags: int
    cpu_ticks: int
    threads: int
    vsize: int
    rss: int
    reaped: int = 0

    @property
    def forked(self) -> bool:
        """Return True if it runs on from a fork, without an exec of its own."""
        return bool(self.flags & PF_FORKNOEXEC)

    @property
    def ended(self) -> bool:
        """Return True if all threads have ended. The kernel calls it a zombie as soon as the first one has."""
        return self.state in ("zombie", "dead") and self.threads <= 1

    @property
    def dying(self) -> bool:
        """Return True once no thread of it can run any more. It has ended, or its last thread has given up its memory
        and is about to end (the kernel shows no size then, fs/proc/array.c do_task_stat).
        """
        return self.ended or (self.threads <= 1 and not self.vsize)

    @property
    def started_at(self) -> float:
        """Seconds since the epoch."""
        return boot_time() + self.id.start_ticks / TICKS_PER_S


def read_stat(pid: int) -> Stat | None:
    """The process that has this pid now, or None."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError as error:
        not_for_want_of(error)
        return None
    try:
        raw = os.read(fd, 4096)
    except OSError:  # ESRCH: it ended between the open and the read
        return None
    finally:
        os.close(fd)
    return parse_stat(pid, raw)


@lru_cache(1024)  # the line of a process that sleeps is the same again
def parse_stat(pid: int, raw: bytes) -> Stat | None:
    """None if `raw` is not a whole line. `comm` may itself hold blanks and parentheses: the last `)` ends it."""
    opening, closing = raw.find(b"("), raw.rfind(b")")
    if opening < 0 or closing < opening:
        return None
    f = raw[closing + 2 :].split()  # f[0] is field 3
    try:
        return Stat(
            id=ProcessId(pid, int(f[19])),
            comm=raw[opening + 1 : closing].decode(errors="replace"),
            state=_STATES.get(f[0].decode(errors="replace"), "unknown"),
            ppid=int(f[1]),
            flags=int(f[6]),
            cpu_ticks=int(f[11]) + int(f[12]),
            threads=int(f[17]),
            vsize=int(f[20]),
            rss=int(f[21]) * PAGE_SIZE,
            reaped=int(f[8]) + int(f[10]),
        )
    except (ValueError, IndexError):
        return None


def process_ids() -> set[int]:
    """Return the PIDs that can be seen."""
    return {int(name) for name in os.listdir("/proc") if name.isdecimal()}


def still(process: ProcessId) -> bool:
    """Return True while this very process, not a later one of the same pid, is alive."""
    stat = read_stat(process.pid)
    return stat is not None and stat.id == process and not stat.ended


def thread_ids(pid: int) -> list[int]:
    """The kernel's thread ids of a process, none if it ended."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def thread_age_s(pid: int, tid: int) -> float | None:
    """Return for how long a thread has existed, None if it ended."""
    try:
        with open(f"/proc/{pid}/task/{tid}/stat", "rb", buffering=0) as f:
            stat = parse_stat(tid, f.read(4096))
    except OSError:
        return None
    return None if stat is None else time.clock_gettime(time.CLOCK_BOOTTIME) - stat.id.start_ticks / TICKS_PER_S


def is_thread(tid: int) -> bool:
    """Return True for a thread that is not the first of its process: /proc shows it by its number, too."""
    try:
        with open(f"/proc/{tid}/status", "rb") as file:
            return any(line.startswith(b"Tgid:") and int(line[5:]) != tid for line in file)
    except OSError:
        return False


def door(stat: Stat) -> int:
    """The number under which /proc shows its memory: the pid, or a thread's once the first thread has ended."""
    pid = stat.id.pid
    if stat.state not in ("zombie", "dead"):
        return pid
    return next((tid for tid in thread_ids(pid) if tid != pid), pid)


def children(stat: Stat) -> list[int]:
    """The pids of its children, by `/proc/PID/task/TID/children`.

    The kernel may leave some out while others exit (proc.rst, 3.7): who follows a tree keeps those it knows to be
    alive.
    """
    pid = stat.id.pid
    found: list[int] = []
    for tid in [pid] if stat.threads == 1 else thread_ids(pid):
        try:
            found += map(int, read_whole(f"/proc/{pid}/task/{tid}/children", _MOST_OF_CHILDREN).split())
        except OSError:
            continue
    return found


def last_pid() -> int:
    """The last pid or tid that this machine gave out (`/proc/loadavg`, field 5).

    While it does not change nobody has forked, in this pid namespace or one below it, so no tree has grown.
    """
    try:
        return int(read_whole("/proc/loadavg", 256).split()[4])
    except OSError as error:
        not_for_want_of(error)
        raise


@cache
def boot_time() -> float:
    """Return when the machine booted, in seconds since the epoch; `/proc/stat` has it too (btime), but in whole
    seconds.
    """
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
