"""What the threads of a server are blocked on besides the locks of the snapshot: pipes, joins, private locks, files.

The threads that wait for a lock cost nothing more in a refresh. All others are asked about once a second, and the whole
machine is asked for the other ends of pipes only where the answer decides whether somebody is stuck.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from signal import Signals

from semtrace.linux import futex
from semtrace.linux.channels import ChannelId, Found, find_ends
from semtrace.linux.process import read_stat
from semtrace.linux.program import read_status
from semtrace.model import Doubt, Frame, ProcessId, ThreadId, Wait, Wakers
from semtrace.observe import waitfor
from semtrace.observe.asleep import LongSleepers, Sleeper
from semtrace.observe.waitfor import Reason
from semtrace.observe.watched import Watched

# How often the machine is asked again who has the other ends of the same pipes, and how large a part of the time that
# may take at most. Those who have them sleep, so there is seldom news.
_ASK_EVERY_S = 10.0
_ASK_SHARE = 20

# The signals below 32, without the one that CPython itself handles (SIGINT) and those of faults, which faulthandler
# catches: what is caught of the rest is the program's own.
_NOT_OF_PROGRAM = (Signals.SIGINT, Signals.SIGILL, Signals.SIGABRT, Signals.SIGBUS, Signals.SIGFPE, Signals.SIGSEGV)
_OF_PROGRAM = (1 << 31) - 1 - sum(1 << (number - 1) for number in _NOT_OF_PROGRAM)


@dataclass(frozen=True, slots=True)
class Blocks:
    """The answer of one pass. `ran_ns` is how long each thread had run then: who has run since waits no more."""

    taken_s: float = 0.0
    reasons: Mapping[ThreadId, Reason] = field(default_factory=dict)
    stacks: Mapping[ThreadId, tuple[Frame, ...]] = field(default_factory=dict)
    idle: frozenset[ThreadId] = frozenset()
    in_handler: frozenset[ThreadId] = frozenset()
    handlers: frozenset[ProcessId] = frozenset()
    ran_ns: Mapping[ThreadId, int | None] = field(default_factory=dict)


class Blocking:
    """Remembers the last pass between refreshes."""

    def __init__(self) -> None:
        self._sleepers = LongSleepers()
        self._last = Blocks()
        self._found: Found | None = None
        self._asked: frozenset[ChannelId] = frozenset()
        self._due_s = 0.0

    @property
    def unfinished(self) -> bool:
        """True while stacks are still to be read."""
        return self._sleepers.unfinished

    def read(self, now_s: float, watched: Sequence[Watched]) -> Blocks:
        """Return what is known now: by a new pass where one is due, else by the last one, without who has run since."""
        if self._sleepers.due(now_s) or self._sleepers.unfinished:
            self._last = self._pass(now_s, watched)
        else:
            self._last = _those_asleep(self._last)
        return self._last

    def _pass(self, now_s: float, watched: Sequence[Watched]) -> Blocks:
        sleepers = self._sleepers.read(now_s, watched)
        children: dict[ProcessId, list[ProcessId]] = {}
        by_pid = {each.id.pid: each.id for each in watched}
        for each in watched:
            parent = by_pid.get(each.stat.ppid)
            if parent is not None and not each.stat.ended:
                children.setdefault(parent, []).append(each.id)
        reasons = {each.thread: found for each in sleepers if (found := _reason(each, children)) is not None}
        stacks = {each.thread: stack for each in sleepers if (stack := waitfor.stack(each.frames))}
        handlers = frozenset(each.id for each in watched if _handles_signals(each.id.pid))
        # Who is in a handler already is blocked in it; that it is called again helps nobody.
        in_handler = frozenset(each.thread for each in sleepers if each.in_handler)
        return Blocks(
            now_s,
            reasons,
            stacks,
            frozenset(each.thread for each in sleepers if waitfor.is_idle(each.frames)),
            in_handler,
            handlers - {each.process for each in in_handler},
            {each.thread: futex.run_time_ns(each.thread.process.pid, each.thread.tid) for each in sleepers},
        )

    def waits(self, now_s: float) -> tuple[Wait, ...]:
        """Return the waits of the last pass, with who has the other ends as far as that was asked."""
        later = now_s - self._last.taken_s
        return tuple(self._wait(reason, later) for reason in self._last.reasons.values())

    def _wait(self, reason: Reason, later_s: float) -> Wait:
        wait = reason.wait
        slept = (wait.asleep_s or 0.0) + later_s
        wait = replace(wait, asleep_s=slept, for_s=slept)
        if not reason.channels or self._found is None or not self._asked.issuperset(c for c, _ in reason.channels):
            return wait
        return replace(wait, wakers=_wakers(reason, self._found))

    def ask(self, now_s: float, threads: Collection[ThreadId], root: ProcessId) -> bool:
        """Ask the machine who has the other ends of what these threads wait for. Return True if there is an answer that
        is new.
        """
        chosen = (self._last.reasons[each] for each in threads if each in self._last.reasons)
        wanted = frozenset(end for reason in chosen for end, _ in reason.channels)
        if not wanted or (wanted <= self._asked and now_s < self._due_s):
            return False
        began = time.monotonic()
        self._found, self._asked = find_ends(wanted, read_stat(root.pid)), wanted
        self._due_s = now_s + max(_ASK_EVERY_S, _ASK_SHARE * (time.monotonic() - began))
        return True


def _reason(sleeper: Sleeper, children: Mapping[ProcessId, Sequence[ProcessId]]) -> Reason | None:
    try:
        return waitfor.reason(sleeper, children)
    except PermissionError:
        return None


def _those_asleep(blocks: Blocks) -> Blocks:
    """Return the same without the threads that have run since."""
    ran = {
        thread
        for thread, before in blocks.ran_ns.items()
        if before is None or futex.run_time_ns(thread.process.pid, thread.tid) != before
    }
    if not ran:
        return blocks
    return replace(
        blocks,
        reasons={thread: reason for thread, reason in blocks.reasons.items() if thread not in ran},
        stacks={thread: stack for thread, stack in blocks.stacks.items() if thread not in ran},
        ran_ns={thread: before for thread, before in blocks.ran_ns.items() if thread not in ran},
    )


def _wakers(reason: Reason, found: Found) -> Wakers:
    """Return everyone with the other end of what a thread waits for, and the doubt where somebody may hide."""
    pids: set[int] = set()
    for channel, writers in reason.channels:
        ends = found.ends[channel]
        pids |= ends.writers if writers else ends.readers
    processes = {stat.id for pid in pids if (stat := read_stat(pid)) is not None and not stat.ended}
    processes |= set(reason.wait.wakers.processes)
    # A process that escaped a sweep that did not settle would be one that forks and ends again and again.
    doubt = Doubt.UNREADABLE if found.hidden_kin else None
    return Wakers((), tuple(sorted(processes)), doubt, found.hidden_kin)


def _handles_signals(pid: int) -> bool:
    """Return True if the program has handlers of its own for signals, or if that cannot be read."""
    status = read_status(pid)
    return status is None or bool(status.caught & _OF_PROGRAM)
