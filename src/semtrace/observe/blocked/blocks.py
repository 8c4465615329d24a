"""Find what the threads of a server are blocked on other than shared locks: pipes, joins, private locks, files.

The threads that wait for a lock cost nothing more in a refresh. All others are asked about once a second, and the whole
machine is asked for the other ends of pipes only where the answer decides whether somebody is stuck.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field
from functools import cache
from signal import Signals

from semtrace.cpython.layout import Layout
from semtrace.lazydata import dataclass, replace
from semtrace.linux import futex
from semtrace.linux.blocked import Call, read_blocked
from semtrace.linux.channels import ChannelId, ChannelKind, Ends, ends_among, find_ends
from semtrace.linux.filelocks import read_file_locks
from semtrace.linux.process import read_stat
from semtrace.linux.program import OF_PROGRAM, Status, read_status
from semtrace.linux.stopped import Defunct, defunct_children, frozen
from semtrace.model import Doubt, EndedChild, Frame, ProcessId, ThreadId, Wait, WaitKind, Wakers
from semtrace.observe.blocked import waitfor
from semtrace.observe.blocked.asleep import LongSleepers, Sleeper
from semtrace.observe.blocked.eventloops import EventLoops
from semtrace.observe.blocked.managed import managed
from semtrace.observe.blocked.programs import Programs
from semtrace.observe.blocked.waitfor import About, Reason
from semtrace.observe.files.filewaits import FileWait
from semtrace.observe.watch.watched import Watched

_OTHER_TIMERS = (Signals.SIGVTALRM, Signals.SIGPROF)

# How often the machine is asked again who has the other ends of the same pipes, and how large a part of the time that
# may take at most. Those who have them sleep, so there is seldom news.
_ASK_EVERY_S = 10.0
_ASK_SHARE = 20


@dataclass(frozen=True)
class Blocks:
    """The answer of one pass. `ran_ns` is how long each thread had run then: who has run since waits no more.

    `idle` are threads that wait for work in a library. `doing` is the call that the first thread of a process is in.
    `programs` are the processes outside the server that its threads wait for and whose threads wait themselves: all of
    each. `loops` are the processes whose first thread runs an asyncio event loop.
    """

    taken_s: float = 0.0
    reasons: Mapping[ThreadId, Reason] = field(default_factory=dict)
    stacks: Mapping[ThreadId, tuple[Frame, ...]] = field(default_factory=dict)
    idle: frozenset[ThreadId] = frozenset()
    in_handler: frozenset[ThreadId] = frozenset()
    handlers: frozenset[ProcessId] = frozenset()
    alarms: frozenset[ProcessId] = frozenset()
    ran_ns: Mapping[ThreadId, int | None] = field(default_factory=dict)
    ended: tuple[EndedChild, ...] = ()
    frozen: frozenset[ProcessId] = frozenset()
    doing: Mapping[ProcessId, Call] = field(default_factory=dict)
    programs: frozenset[ProcessId] = frozenset()
    loops: frozenset[ProcessId] = frozenset()


class Blocking:
    """Remember the last pass between refreshes."""

    def __init__(self, names: Callable[[ProcessId], Mapping[int, str]]) -> None:
        self._names = names
        self._sleepers = LongSleepers()
        self._programs = Programs()
        self._handling = _Handling()
        self._loops = EventLoops()
        self._last = Blocks()
        self._ends: dict[ChannelId, Ends] = {}
        self._asked: frozenset[ChannelId] = frozenset()
        self._hidden: tuple[int, ...] = ()
        self._due_s = 0.0
        self._has_new_ends = False

    @property
    def unfinished(self) -> bool:
        """Return True while stacks are still to be read, or programs at the other ends of pipes to be followed."""
        return self._sleepers.unfinished or self._has_new_ends

    def layouts(self) -> dict[ProcessId, Layout]:
        """Return the layouts of the interpreters whose stacks were read."""
        return self._sleepers.layouts()

    def read(
        self,
        now_s: float,
        watched: Sequence[Watched],
        serving: Collection[ProcessId] = (),
        shown: Collection[ThreadId] = (),
        files: Mapping[ThreadId, FileWait] | None = None,
    ) -> Blocks:
        """Return what is known now: by a new pass where one is due, else by the last one, without who has run since.

        Of the stacks those of the threads `shown` are right in either case: others are not looked at again.
        """
        if self._sleepers.due(now_s) or self.unfinished:
            self._has_new_ends = False
            self._last = self._pass(now_s, watched, serving, files or {})
            self._ends = {channel: ends for channel, ends in self._ends.items() if channel in self._asked}
        else:
            self._last = _those_asleep(self._last, shown)
        return self._last

    def _pass(
        self,
        now_s: float,
        watched: Sequence[Watched],
        serving: Collection[ProcessId],
        files: Mapping[ThreadId, FileWait],
    ) -> Blocks:
        sleepers = self._sleepers.read(now_s, watched)
        # Who is in a handler already is blocked in it; that it is called again helps nobody.
        in_handler = frozenset(each.thread for each in sleepers if each.in_handler)
        interrupted = {each.process for each in in_handler}
        first = {each.thread.process: each for each in sleepers if each.thread.tid == each.thread.process.pid}
        statuses = self._handling.statuses(now_s, (each.id for each in watched if each.id not in interrupted), first)
        # Nor do the handlers that gunicorn installs know of the application.
        handlers = frozenset(each for each, status in statuses.items() if _handles_signals(status)) - set(serving)
        about = self._about(watched, handlers, files)
        reasons = {each.thread: found for each in sleepers if (found := _reason(each, about)) is not None}
        reasons |= managed(sleepers, reasons, about)
        followed = self._programs.follow(now_s, reasons.values(), about, self._others)
        stacks = {each.thread: stack for each in sleepers if (stack := waitfor.stack(each.frames))}
        doing = {each.id: call for each in watched if (call := _call(each, first.get(each.id))) is not None}
        frames = {each: sleeper.frames for each, sleeper in first.items() if sleeper.frames}
        return Blocks(
            now_s,
            {**reasons, **followed.reasons},
            stacks,
            frozenset(each.thread for each in sleepers if waitfor.is_idle(each.frames)),
            in_handler,
            handlers,
            frozenset(each for each, status in statuses.items() if _has_alarm(status)),
            {each.thread: each.ran_ns for each in sleepers} | dict(followed.ran_ns),
            tuple(_ended(each) for each in defunct_children([each.stat for each in watched])),
            frozenset(each.id for each in watched if frozen(each.id.pid)),
            doing,
            followed.processes,
            self._loops.read(now_s, watched, doing, frames, self._sleepers.unfinished),
        )

    def _about(
        self, watched: Sequence[Watched], handlers: Collection[ProcessId], files: Mapping[ThreadId, FileWait]
    ) -> About:
        children: dict[ProcessId, list[ProcessId]] = {}
        by_pid, by_id = {each.id.pid: each.id for each in watched}, {each.id: each for each in watched}
        for each in watched:
            parent = by_pid.get(each.stat.ppid)
            if parent is not None and not each.stat.ended:
                children.setdefault(parent, []).append(each.id)
        return About(
            children,
            self._names,
            lambda process, pthread: by_id[process].tid_of(pthread) if process in by_id else None,
            cache(lambda: read_file_locks() or ()),
            by_id,
            handlers,
            files,
        )

    def waits(self, now_s: float) -> tuple[Wait, ...]:
        """Return the waits of the last pass, with who has the other ends as far as that was asked."""
        later = now_s - self._last.taken_s
        return tuple(self._wait(reason, later) for reason in self._last.reasons.values())

    def _wait(self, reason: Reason, later_s: float) -> Wait:
        wait = reason.wait
        slept = (wait.asleep_s or 0.0) + later_s
        wait = replace(wait, asleep_s=slept, for_s=slept)
        if reason.client is not None and (holder := _only_thread(self._ends.get(reason.client))) is not None:
            wait = replace(wait, wakers=Wakers((holder,)), holders=(holder,))
        if not reason.channels or not self._ends.keys() >= {channel for channel, _ in reason.channels}:
            return wait
        wakers = _wakers(reason, self._ends, self._doubt(reason))
        return replace(wait, wakers=self._with_handlers(wait, wakers))

    def _others(self, reason: Reason) -> tuple[ProcessId, ...]:
        """Return the processes with the other ends of what a thread waits for, as they were last seen."""
        known = tuple((channel, writers) for channel, writers in reason.channels if channel in self._ends)
        return _processes(known, self._ends)

    def _with_handlers(self, wait: Wait, wakers: Wakers) -> Wakers:
        """Doubt that a thread waits endlessly for data that a signal handler may send it: through a self-pipe,
        signal.set_wakeup_fd, or on the way to an end.
        """
        reads = wait.target.kind is WaitKind.PIPE_READ
        able = self._last.handlers.intersection(wakers.processes) if reads and wakers.doubt is None else ()
        return replace(wakers, doubt=Doubt.HANDLER, pids=tuple(sorted(each.pid for each in able))) if able else wakers

    def _doubt(self, reason: Reason) -> Wakers:
        """Return the reason's own doubt, else what is left open of who has the other ends."""
        own = reason.wait.wakers
        if own.doubt not in (None, Doubt.UNASKED):
            return Wakers(doubt=own.doubt, pids=own.pids)
        if not self._asked.issuperset(channel for channel, _ in reason.channels):
            return Wakers(doubt=Doubt.UNASKED)
        # The kernel says that somebody has the other end of a connected socket; it may be a server of another user.
        unseen = any(each.kind is ChannelKind.SOCKET and self._ends[each] == Ends() for each, _ in reason.channels)
        return Wakers(doubt=Doubt.UNREADABLE, pids=self._hidden) if self._hidden or unseen else Wakers()

    def ask_members(self, threads: Collection[ThreadId], members: Iterable[ProcessId]) -> bool:
        """Ask the server's own processes who has the other ends of what these threads wait for: that is cheap. Return
        True if there is an answer that is new.
        """
        # A Manager's client holds what others wait for, whether or not it could be stuck itself.
        clients = {each.client for each in self._last.reasons.values() if each.client is not None}
        wanted = (self._channels(threads) | clients) - self._ends.keys()
        if not wanted:
            return False
        ends, _ = ends_among(wanted, [member.pid for member in members])
        self._ends = {**self._ends, **ends}
        return True

    def ask_everybody(self, now_s: float, threads: Collection[ThreadId], root: ProcessId) -> bool:
        """Ask all of the machine. Return True if there is an answer that is new."""
        wanted = self._channels(threads)
        if not wanted or (wanted <= self._asked and now_s < self._due_s):
            return False
        began = time.monotonic()
        found = find_ends(wanted, read_stat(root.pid))
        # A process that escaped a sweep that did not settle would be one that forks and ends again and again.
        seen = {thread.process.pid for thread in self._last.reasons}
        new = (found.ends[each] for each in wanted - self._asked)
        self._has_new_ends = any((ends.readers | ends.writers) - seen for ends in new)
        self._ends, self._asked, self._hidden = dict(found.ends), wanted, found.hidden_kin
        self._due_s = now_s + max(_ASK_EVERY_S, _ASK_SHARE * (time.monotonic() - began))
        return True

    def _channels(self, threads: Collection[ThreadId]) -> frozenset[ChannelId]:
        reasons = (self._last.reasons[each] for each in threads if each in self._last.reasons)
        channels = ((*(channel for channel, _ in each.channels), each.client) for each in reasons)
        return frozenset(each for every in channels for each in every if each is not None)


def _reason(sleeper: Sleeper, about: About) -> Reason | None:
    try:
        return waitfor.reason(sleeper, about)
    except PermissionError:
        return None


def _those_asleep(blocks: Blocks, shown: Collection[ThreadId]) -> Blocks:
    """Return the same without the threads that have run since, as far as that matters."""
    ran = {
        thread
        for thread, before in blocks.ran_ns.items()
        if (thread in blocks.reasons or thread in shown or thread.process in blocks.programs)
        and (before is None or futex.run_time_ns(thread.process.pid, thread.tid) != before)
    }
    if not ran:
        return blocks
    going = {thread.process for thread in ran} & blocks.programs  # its other threads may be woken by that one
    ran |= {thread for thread in blocks.reasons if thread.process in going}
    return replace(
        blocks,
        reasons={thread: reason for thread, reason in blocks.reasons.items() if thread not in ran},
        stacks={thread: stack for thread, stack in blocks.stacks.items() if thread not in ran},
        ran_ns={thread: before for thread, before in blocks.ran_ns.items() if thread not in ran},
        programs=blocks.programs - going,
    )


def _wakers(reason: Reason, ends: Mapping[ChannelId, Ends], doubt: Wakers) -> Wakers:
    """Return everyone with the other end of what a thread waits for."""
    own = reason.wait.wakers
    processes = {*_processes(reason.channels, ends), *own.processes}
    return replace(doubt, threads=own.threads, processes=tuple(sorted(processes)))


def _processes(channels: Iterable[tuple[ChannelId, bool]], ends: Mapping[ChannelId, Ends]) -> tuple[ProcessId, ...]:
    """Return the living processes that may wake who waits for these channels."""
    pids: set[int] = set()
    for channel, writers in channels:
        pids |= ends[channel].writers if writers else ends[channel].readers
    return tuple(stat.id for pid in sorted(pids) if (stat := read_stat(pid)) is not None and not stat.ended)


def _only_thread(ends: Ends | None) -> ThreadId | None:
    """Return the thread of the only process that has a channel, None if there are more."""
    stats = [read_stat(pid) for pid in ends.readers | ends.writers] if ends is not None else []
    only = stats[0] if len(stats) == 1 else None
    return ThreadId(only.id, only.id.pid) if only is not None and only.threads == 1 and not only.ended else None


def _ended(child: Defunct) -> EndedChild:
    return EndedChild(child.id, child.parent, child.exit_code, child.ended_s)


def _call(watched: Watched, first: Sleeper | None) -> Call | None:
    """Return the call that its first thread is in, which is known of one that has not run."""
    if first is not None:
        return first.blocked.call
    try:
        blocked = read_blocked(watched.id.pid, watched.id.pid, None)
    except PermissionError:
        return None
    return None if blocked is None else blocked.call


class _Handling:
    """Remember the signal handlers of each process while its first thread has not run, which alone makes handlers in
    Python. They are not kept for long, for code in C may make them in any thread.
    """

    _AGAIN_S = 10.0

    def __init__(self) -> None:
        self._known: dict[ProcessId, tuple[int | None, float, Status | None]] = {}

    def statuses(
        self, now_s: float, processes: Iterable[ProcessId], first: Mapping[ProcessId, Sleeper]
    ) -> dict[ProcessId, Status | None]:
        before, self._known = self._known, {}
        for process in processes:
            ran_ns = first[process].ran_ns if process in first else None
            known = before.get(process)
            if known is None or known[0] != ran_ns or ran_ns is None or now_s - known[1] >= self._AGAIN_S:
                known = ran_ns, now_s, read_status(process.pid)
            self._known[process] = known
        return {process: status for process, (_, _, status) in self._known.items()}


def _handles_signals(status: Status | None) -> bool:
    """Return True if the program has handlers of its own for signals, or if that cannot be read."""
    return status is None or bool(status.caught & OF_PROGRAM)


def _has_alarm(status: Status | None) -> bool:
    """Return True if the program handles SIGALRM: its timer itself is not seen (proc_pid_stat(5), itrealvalue). A
    program that handles the signals of all timers handles whatever would end it, to clean up first (billiard, celery).
    """
    return status is None or (status.catches(Signals.SIGALRM) and not status.catches(*_OTHER_TIMERS))
