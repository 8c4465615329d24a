"""Threads that have slept for long: the call that each sleeps in, and its Python stack. Asked about once a second.

All of it is remembered for as long as the thread does not run, so a server that stands still costs one small read for
each thread and pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from semtrace.cpython.forks import own_frames
from semtrace.cpython.joined import awaited_child
from semtrace.cpython.layout import Layout
from semtrace.cpython.managers import ProxyCall, Service, proxy_call, service
from semtrace.cpython.privatewait import PrivateWait, private_wait
from semtrace.cpython.stack import PyFrame, PyThread, Sample, StackReader
from semtrace.cpython.variables import interrupted
from semtrace.lazydata import dataclass, replace
from semtrace.linux import futex
from semtrace.linux.blocked import Blocked, Call, read_blocked
from semtrace.linux.process import thread_ids
from semtrace.model import ProcessId, ThreadId
from semtrace.observe.history.sleepers import Sleepers
from semtrace.observe.watch.watched import Watched

# From when on a thread is asked what it waits for.
SUSPECT_S = 1.0

# Between two passes; longer where a pass costs more than a hundredth of it.
EVERY_S = 1.0
_SHARE = 100

# How long one pass may read stacks; what is left is read in the next.
_STACKS_S = 0.05
# How often a stack is read again that could not be read whole.
_ATTEMPTS = 4


@dataclass(frozen=True)
class Sleeper:
    """A thread that has not run for `asleep_s`, and had been on a processor for `ran_ns` before. `frames` is innermost
    first and without what lies before a fork, None where they were not or cannot be read. `in_handler`: it is in a
    signal handler that interrupted its own code. `joins` is the PID of a child of a fork server that it waits for.
    `private` is known of one that sleeps in a futex on private memory and whose stack could be read. `bringers` are the
    threads of its process that may bring the result of a Pool's job, None unless it waits for one. `proxy` is the
    call to a Manager whose answer it waits for, `service` what it serves as a thread of a Manager. `read` is False
    while its stack is still to be read.
    """

    thread: ThreadId
    asleep_s: float
    blocked: Blocked
    frames: tuple[PyFrame, ...] | None = None
    in_handler: bool = False
    joins: int | None = None
    private: PrivateWait | None = None
    bringers: tuple[int, ...] | None = None
    proxy: ProxyCall | None = None
    service: Service | None = None
    ran_ns: int | None = None
    read: bool = True


@dataclass(frozen=False)
class _Known:
    """The facts read about a thread when it had run for `ran_ns`. `asked`: its stack was read."""

    ran_ns: int | None
    blocked: Blocked
    frames: tuple[PyFrame, ...] | None = None
    asked: bool = False
    attempts: int = 0
    in_handler: bool = False
    joins: int | None = None
    private: PrivateWait | None = None
    bringers: tuple[int, ...] | None = None
    proxy: ProxyCall | None = None
    service: Service | None = None


class LongSleepers:
    """Keep one stack reader for each process, and what is known of each thread that sleeps."""

    def __init__(self) -> None:
        self._sleepers = Sleepers()
        self._known: dict[ThreadId, _Known] = {}
        self._readers: dict[ProcessId, StackReader] = {}
        self._counts: dict[ProcessId, int] = {}
        self._due_s = 0.0
        self.unfinished = False

    def layouts(self) -> dict[ProcessId, Layout]:
        """Return the layouts of the interpreters whose stacks were read."""
        return {process: reader.layout for process, reader in self._readers.items() if reader.layout is not None}

    def due(self, now_s: float) -> bool:
        """Return True if it is time for another pass."""
        return now_s >= self._due_s

    def read(self, now_s: float, watched: Sequence[Watched]) -> tuple[Sleeper, ...]:
        """Return the threads that have slept for long, with what is known of each."""
        began = time.thread_time()
        able = {each.id: each for each in watched if each.memory is not None}
        threads = [ThreadId(each.id, tid) for each in able.values() for tid in self._threads(each)]
        self._sleepers.update(now_s, threads)
        long = [each for each in threads if (self._sleepers.seconds(each) or 0.0) >= SUSPECT_S]
        known = {each: self._look(each, able[each.process]) for each in long}
        self._known = {each: found for each, found in known.items() if found is not None}
        self._readers = {process: reader for process, reader in self._readers.items() if process in able}
        self._read_stacks(able)
        self._due_s = now_s + max(EVERY_S, _SHARE * (time.thread_time() - began))
        return tuple(self._sleeper(each) for each in self._known)

    def _sleeper(self, thread: ThreadId) -> Sleeper:
        known, asleep_s = self._known[thread], self._sleepers.seconds(thread) or 0.0
        return Sleeper(
            thread,
            asleep_s,
            known.blocked,
            known.frames,
            known.in_handler,
            known.joins,
            known.private,
            known.bringers,
            known.proxy,
            known.service,
            known.ran_ns,
            known.asked,
        )

    def _threads(self, watched: Watched) -> Iterable[int]:
        return (watched.id.pid,) if watched.stat.threads == 1 else thread_ids(watched.id.pid)

    def _look(self, thread: ThreadId, watched: Watched) -> _Known | None:
        """Return what is known, None if it runs or ended."""
        ran_ns = self._sleepers.ran_ns(thread)
        before = self._known.get(thread)
        if before is not None and before.ran_ns == ran_ns:
            _refresh(before, watched)
            return before
        try:
            blocked = read_blocked(thread.process.pid, thread.tid, watched.memory)
        except PermissionError:
            return None
        if blocked is None or blocked.call is Call.RUNNING:
            return None
        return _Known(ran_ns, blocked) if futex.run_time_ns(thread.process.pid, thread.tid) == ran_ns else None

    def _read_stacks(self, able: Mapping[ProcessId, Watched]) -> None:
        """Read the stacks of processes that have a thread whose stack is not known yet."""
        wanted: dict[ProcessId, list[ThreadId]] = {}
        for thread, known in self._known.items():
            if not known.asked:
                wanted.setdefault(thread.process, []).append(thread)
        end = time.monotonic() + _STACKS_S
        self.unfinished = False
        for process, threads in wanted.items():
            if time.monotonic() > end:
                self.unfinished = True
                break
            self._read_stack(able[process], threads)

    def _read_stack(self, watched: Watched, threads: Iterable[ThreadId]) -> None:
        if watched.memory is None:
            return
        reader = self._readers.get(watched.id)
        if reader is None:
            reader = self._readers[watched.id] = StackReader(watched.id.pid, watched.memory)
        sample = reader.sample()
        found = {} if sample is None else {watched.tid_of(each.pthread_id): each for each in sample.threads}
        for thread in threads:
            known, seen = self._known[thread], found.get(thread.tid)
            if sample is not None and seen is not None:
                _explain(known, sample, seen, watched)
            known.attempts += 1
            if futex.run_time_ns(thread.process.pid, thread.tid) != known.ran_ns:
                del self._known[thread]
            elif (sample is None or sample.cut) and known.attempts < _ATTEMPTS:
                self.unfinished = True  # it was too slow, or its memory was in motion
            else:
                known.asked = True


def _refresh(known: _Known, watched: Watched) -> None:
    """Read the owner of the lock again that the thread waits for, and all of it if a thread has ended that could bring
    its result.
    """
    if known.bringers and not set(thread_ids(watched.id.pid)).issuperset(known.bringers):
        known.asked, known.attempts = False, 0
    private = known.private
    if private is not None and private.owner_at is not None and watched.memory is not None:
        known.private = replace(private, owner_pthread=watched.memory.u64(private.owner_at) or None)


def _explain(known: _Known, sample: Sample, thread: PyThread, watched: Watched) -> None:
    """Note all that the sample shows of one thread."""
    frames = own_frames(sample, thread.frames, watched.stat.forked)
    known.frames = frames
    known.in_handler = interrupted(sample, frames) is not None
    known.joins = awaited_child(sample, frames)
    known.proxy = proxy_call(sample, frames)
    known.service = service(sample, frames)
    if known.blocked.private and known.blocked.futex is not None:
        known.private = private_wait(sample, replace(thread, frames=frames), known.blocked.futex)
        known.bringers = _bringers(known.private, watched)


def _bringers(private: PrivateWait, watched: Watched) -> tuple[int, ...] | None:
    if private.result is None:
        return None
    tids = [watched.tid_of(each) for each in private.result.threads]
    return None if None in tids else tuple(tid for tid in tids if tid is not None)
