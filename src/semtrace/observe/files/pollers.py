"""Threads that poll for a file lock, which the kernel does not show as waiters. Asked about twice a second.

Only a process with a thread that sleeps for a time is asked for its stacks, and one in which no thread polls is asked
less and less often.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from semtrace.cpython.forks import own_frames
from semtrace.cpython.polling import Polling, polling
from semtrace.cpython.stack import PyFrame, StackReader
from semtrace.lazydata import dataclass, replace
from semtrace.linux.blocked import Call, read_blocked
from semtrace.linux.process import thread_ids
from semtrace.model import ProcessId, SemId, ThreadId
from semtrace.observe.files.filenames import absolute, file_at
from semtrace.observe.history.history import Since
from semtrace.observe.watch.watched import Watched

_EVERY_S = 0.5
_SHARE = 50
# A thread that has polled for a second, as a stuck one has, was at it when any other was asked less than that ago.
_FRESH_S = 1.0
_FORGET_S = 5.0
_BUDGET_S = 0.02
_PAUSE_S, _MOST_PAUSE_S = 2.0, 16.0
_MOST_THREADS = 64


@dataclass(frozen=True)
class Poller:
    """A thread in `acquire`. `path` is absolute, as the process sees it; `file` is what lies there, as stat(2) has it.
    It was so at `asked_s`. `for_s` is for how long it has been in this call. `unbroken`: the library itself keeps when
    the call began, and the thread was asked less than a second ago, or nobody could release the lock since.
    """

    thread: ThreadId
    polling: Polling
    path: str
    file: SemId | None
    asked_s: float
    for_s: float | None = None
    unbroken: bool = False
    frames: tuple[PyFrame, ...] = ()


@dataclass(frozen=True)
class _Asked:
    """The last answer of a process, and when it is due to be asked again, after which pause."""

    asked_s: float
    again_s: float
    pause_s: float
    found: tuple[Poller, ...] = ()


_NEVER = _Asked(0.0, 0.0, _PAUSE_S / 2)


class Pollers:
    def __init__(self) -> None:
        self._readers: dict[ProcessId, StackReader] = {}
        self._asked: dict[ProcessId, _Asked] = {}
        self._since: Since[tuple[ThreadId, str, float | None]] = Since()
        self._due_s = 0.0

    def read(self, now_s: float, watched: Sequence[Watched]) -> tuple[Poller, ...]:
        """Return those of the last pass, with how long they have polled; a pass is made where one is due."""
        if now_s >= self._due_s:
            self._pass(now_s, watched)
        asked = [self._asked[each.id] for each in watched if each.id in self._asked]
        return tuple(
            self._timed(now_s, poller) for each in asked if now_s - each.asked_s < _FORGET_S for poller in each.found
        )

    def _pass(self, now_s: float, watched: Sequence[Watched]) -> None:
        began = time.thread_time()
        living = {each.id for each in watched}
        self._readers = {process: reader for process, reader in self._readers.items() if process in living}
        self._asked = {process: asked for process, asked in self._asked.items() if process in living}
        for each in sorted(watched, key=lambda each: self._asked.get(each.id, _NEVER).asked_s):
            asked = self._asked.get(each.id, _NEVER)
            if now_s < asked.again_s or each.memory is None:
                continue
            if time.thread_time() - began > _BUDGET_S:
                break
            threads = list(_sleeping(each))
            found = self._pollers(now_s, each, threads) if threads else ()
            if threads and asked.found and not found:
                found = self._pollers(now_s, each, threads)  # its stack may have moved while it was read, during a try
            # To ask which call a thread is in is cheap; it is the stacks that cost.
            failed = bool(threads) and not found
            pause_s = min(2 * asked.pause_s, _MOST_PAUSE_S) if failed else _PAUSE_S / 2
            self._asked[each.id] = _Asked(now_s, now_s + pause_s if failed else now_s, pause_s, found)
        self._since.update(now_s, (_key(each) for asked in self._asked.values() for each in asked.found))
        self._due_s = now_s + max(_EVERY_S, _SHARE * (time.thread_time() - began))

    def _pollers(self, now_s: float, watched: Watched, threads: Sequence[ThreadId]) -> tuple[Poller, ...]:
        assert watched.memory is not None
        reader = self._readers.get(watched.id) or StackReader(watched.id.pid, watched.memory)
        self._readers[watched.id] = reader
        sample = reader.sample()
        found = []
        for thread in sample.threads if sample is not None else ():
            tid = watched.tid_of(thread.pthread_id)
            asked = next((each for each in threads if each.tid == tid), None)
            frames = own_frames(sample, thread.frames, watched.stat.forked) if asked and sample else ()
            call = polling(sample, frames) if frames and sample else None
            if asked is not None and call is not None:
                path = absolute(watched.id.pid, call.path)
                found.append(Poller(asked, call, path, file_at(watched.id.pid, path), now_s, frames=tuple(frames)))
        return tuple(found)

    def _timed(self, now_s: float, poller: Poller) -> Poller:
        seen = replace(poller, for_s=self._since.seconds(now_s, _key(poller)))
        return still_polling(seen, now_s) if now_s - poller.asked_s < _FRESH_S else seen


def still_polling(poller: Poller, now_s: float) -> Poller:
    """Return a poller that is known to be in the same call, with how long it has been if the library keeps that."""
    began_s = poller.polling.began_s
    if began_s is None or not 0 < began_s <= now_s:
        return poller
    return replace(poller, for_s=now_s - began_s, unbroken=True)


def _key(poller: Poller) -> tuple[ThreadId, str, float | None]:
    return poller.thread, poller.path, poller.polling.began_s


def _sleeping(watched: Watched) -> Iterator[ThreadId]:
    """Yield the threads that sleep for a time, or run: between two tries."""
    pid = watched.id.pid
    tids = (pid,) if watched.stat.threads == 1 else thread_ids(pid)[:_MOST_THREADS]
    for tid in tids:
        try:
            blocked = read_blocked(pid, tid, None)
        except PermissionError:
            return
        if blocked is not None and blocked.call in (Call.SLEEP, Call.RUNNING):
            yield ThreadId(watched.id, tid)
