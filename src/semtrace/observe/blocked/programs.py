"""Follow the programs that threads of a server wait for: their children that are no members, as a shell and what it
runs. A thread waits for the end of a program, or for what it writes or reads at the other end of a pipe.

All threads of such a program must sleep in calls that the kernel alone explains, or nothing is concluded from any of
them. An interval timer (setitimer, alarm) is not seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import field
from signal import Signals

from semtrace.lazydata import dataclass, replace
from semtrace.linux.blocked import Blocked, Call, read_blocked
from semtrace.linux.futex import run_time_ns
from semtrace.linux.process import read_stat, thread_ids
from semtrace.linux.program import OF_PROGRAM, read, read_status
from semtrace.model import ProcessId, ThreadId, WaitKind
from semtrace.observe.blocked import waitfor
from semtrace.observe.blocked.asleep import Sleeper
from semtrace.observe.blocked.waitfor import About, Reason
from semtrace.observe.history.sleepers import Sleepers

# A pipeline of a shell has some processes; a process that starts more is not followed to the end, and counts as able.
MOST_PROCESSES, MOST_DEPTH, MOST_THREADS = 32, 4, 16

# Whether another call ends by itself is not seen without the program's memory.
_EXPLAINED = (Call.READ, Call.WRITE, Call.RECEIVE, Call.SEND, Call.WAIT)

# A shell handles SIGCHLD to reap its children: that one of them ends is followed anyway. bash handles all signals that
# would end it (sig.c initialize_terminating_signals), to end in order; a shell that waits runs no trap before that.
_HANDLERS = OF_PROGRAM & ~(1 << (Signals.SIGCHLD - 1))
_SHELLS = ("sh", "dash", "bash")


@dataclass(frozen=True)
class Followed:
    """The waits of programs of which each thread waits, and how long each had run then."""

    reasons: Mapping[ThreadId, Reason] = field(default_factory=dict)
    ran_ns: Mapping[ThreadId, int | None] = field(default_factory=dict)

    @property
    def processes(self) -> frozenset[ProcessId]:
        return frozenset(thread.process for thread in self.reasons)


Others = Callable[[Reason], Iterable[ProcessId]]


def _nobody(_: Reason) -> Iterable[ProcessId]:
    return ()


class Programs:
    """Remember for how long the threads of the programs have slept."""

    def __init__(self) -> None:
        self._sleepers = Sleepers()

    def follow(self, now_s: float, reasons: Iterable[Reason], about: About, others: Others = _nobody) -> Followed:
        """Return the waits of the programs that these waits are for, and of those that they wait for in turn. `others`
        gives the processes with the other ends of what a wait is for, as far as they are known.
        """
        found, ran_ns = _walk(reasons, about, others)
        if not found:
            self._sleepers = Sleepers()
            return Followed()
        self._sleepers.update(now_s, found)
        slept = {thread: self._sleepers.seconds(thread) for thread in found}
        return Followed({each: _with_sleep(reason, slept[each]) for each, reason in found.items()}, ran_ns)


def _with_sleep(reason: Reason, slept_s: float | None) -> Reason:
    return replace(reason, wait=replace(reason.wait, asleep_s=slept_s, for_s=slept_s))


def _walk(
    reasons: Iterable[Reason], about: About, others: Others
) -> tuple[dict[ThreadId, Reason], dict[ThreadId, int | None]]:
    found: dict[ThreadId, Reason] = {}
    ran_ns: dict[ThreadId, int | None] = {}
    seen: set[ProcessId] = set()
    family = {process.pid for process in about.members}
    queue = deque((process, 0) for reason in reasons for process in (*_awaited(reason), *_kin(others(reason), family)))
    while queue and len(seen) < MOST_PROCESSES:
        process, depth = queue.popleft()
        if process in seen or process in about.members:
            continue
        seen.add(process)
        threads = _threads(process)
        waits = {thread: _reason(thread, blocked, about) for thread, (blocked, _) in threads.items()}
        known = {thread: reason for thread, reason in waits.items() if reason is not None}
        if len(known) < len(waits):
            continue
        found |= known
        family.add(process.pid)
        ran_ns |= {thread: ran for thread, (_, ran) in threads.items()}
        if depth < MOST_DEPTH:
            queue.extend(
                (each, depth + 1)
                for reason in known.values()
                for each in (*_awaited(reason), *_kin(others(reason), family))
            )
    return found, ran_ns


def _kin(processes: Iterable[ProcessId], family: Collection[int]) -> Iterator[ProcessId]:
    """Yield the children of members and of programs that were followed."""
    for process in processes:
        stat = read_stat(process.pid)
        if stat is not None and stat.id == process and stat.ppid in family:
            yield process


def _awaited(reason: Reason) -> tuple[ProcessId, ...]:
    wait = reason.wait
    return wait.wakers.processes if wait.target.kind is WaitKind.PROCESS_END else ()


def _reason(thread: ThreadId, blocked: Blocked, about: About) -> Reason | None:
    try:
        return waitfor.reason(Sleeper(thread, 0.0, blocked), about)
    except PermissionError:
        return None


def _threads(process: ProcessId) -> dict[ThreadId, tuple[Blocked, int | None]]:
    """Return where each of its threads is blocked, and how long it has run; nothing if one may go on by itself."""
    if not _may_be_followed(process):
        return {}
    tids = thread_ids(process.pid)
    found: dict[ThreadId, tuple[Blocked, int | None]] = {}
    for tid in tids if len(tids) <= MOST_THREADS else ():
        ran = run_time_ns(process.pid, tid)
        blocked = _blocked(process.pid, tid)
        if blocked is None or ran is None or _may_handle(process, blocked):
            return {}
        if run_time_ns(process.pid, tid) != ran:
            return {}
        found[ThreadId(process, tid)] = blocked, ran
    stat = read_stat(process.pid)
    return found if stat is not None and stat.id == process and thread_ids(process.pid) == tids else {}


def _may_be_followed(process: ProcessId) -> bool:
    """Return False for a program that has a timer (proc_pid_timers(5)), is stopped or has ended."""
    stat = read_stat(process.pid)
    if stat is None or stat.id != process or stat.ended:
        return False
    return stat.state == "sleeping" and not read(f"/proc/{process.pid}/timers", 64)


def _may_handle(process: ProcessId, blocked: Blocked) -> bool:
    """Return True if a signal handler may end this wait."""
    stat, status = read_stat(process.pid), read_status(process.pid)
    if stat is None or status is None:
        return True
    return bool(status.caught & _HANDLERS) and not (blocked.call is Call.WAIT and stat.comm in _SHELLS)


def _blocked(pid: int, tid: int) -> Blocked | None:
    try:
        blocked = read_blocked(pid, tid, None)
    except PermissionError:
        return None
    return None if blocked is None or blocked.timed or blocked.call not in _EXPLAINED else blocked
