"""Who waits for a locked `threading` lock, and who has it; asked only of those whose semaphore says somebody waits."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from semtrace.cpython import layout as at
from semtrace.cpython.layout import Layout
from semtrace.cpython.threadlock import FoundThreadLock
from semtrace.cpython.withblocks import inside
from semtrace.history import Asleep, Since
from semtrace.linux import futex
from semtrace.linux.memory import Memory
from semtrace.linux.shm import parse_sem
from semtrace.model import Holder, ProcessId, Waiter
from semtrace.watched import Watched

# So long has to be waited before frames are read for the holder, and the pause between two readings, doubled each time.
SUSPECT_S = 1.0
PAUSE_S, MOST_PAUSE_S = 1.0, 30.0

Key = tuple[ProcessId, int]  # a process and the address of its lock
Thread = tuple[ProcessId, int]


@dataclass(frozen=True, slots=True)
class Copy:
    """One process's copy of a lock, which was seen locked."""

    watched: Watched
    lock: FoundThreadLock
    layout: Layout

    @property
    def key(self) -> Key:
        return self.watched.id, self.lock.address


@dataclass(frozen=True, slots=True)
class Waits:
    holder: Holder | None
    waiters: tuple[Waiter, ...]


@dataclass(slots=True)
class _Asked:
    """What the frames last said of one lock: its holder, and how long that had run then, or nobody."""

    tid: int | None
    ran_ns: int | None
    again_s: float
    pause_s: float


class ThreadWaits:
    """Remembers since when, and who was proved to be inside."""

    def __init__(self) -> None:
        self._since: Since[tuple[Key, int]] = Since()
        self._asleep: Asleep[Thread] = Asleep()
        self._asked: dict[Key, _Asked] = {}

    def read(self, now_s: float, locked: Sequence[Copy]) -> dict[Key, Waits]:
        """Of those locks that somebody waits for."""
        blocked = {copy: found for copy in locked if (found := _blocked(copy))}
        owners = {copy.key: _owner(copy) for copy in blocked}
        self._since.update(now_s, ((copy.key, each.tid) for copy, found in blocked.items() for each in found))
        threads = {(copy.watched.id, each.tid) for copy, found in blocked.items() for each in found}
        threads |= {(key[0], tid) for key, tid in owners.items() if tid is not None}
        threads |= {(key[0], asked.tid) for key, asked in self._asked.items() if asked.tid is not None}
        self._asleep.update(time.monotonic(), {each: futex.run_time_ns(each[0].pid, each[1]) for each in threads})
        told = {copy: tuple(self._waiter(now_s, copy, each) for each in found) for copy, found in blocked.items()}
        self._ask(now_s, [copy for copy, waiters in told.items() if _is_suspect(copy, waiters)])
        self._asked = {key: asked for key, asked in self._asked.items() if key in owners}
        return {
            copy.key: Waits(self._holder(copy, owners[copy.key] or self._inside(copy.key)), waiters)
            for copy, waiters in told.items()
        }

    def _waiter(self, now_s: float, copy: Copy, thread: futex.Thread) -> Waiter:
        process = copy.watched.id
        return Waiter(
            process,
            thread.tid,
            self._since.seconds(now_s, (copy.key, thread.tid)),
            asleep_s=self._asleep.seconds((process, thread.tid)),
            timed=thread.timed,
        )

    def _holder(self, copy: Copy, tid: int | None) -> Holder | None:
        if tid is None:
            return None
        return Holder(copy.watched.id, tid, 1, asleep_s=self._asleep.seconds((copy.watched.id, tid)))

    # ---- the frames

    def _inside(self, key: Key) -> int | None:
        """Who was found inside, as long as it has not run since."""
        asked = self._asked.get(key)
        if asked is None or asked.tid is None:
            return None
        return asked.tid if futex.run_time_ns(key[0].pid, asked.tid) == asked.ran_ns else None

    def _ask(self, now_s: float, suspects: Sequence[Copy]) -> None:
        due = [copy for copy in suspects if self._is_due(now_s, copy.key)]
        for watched in {copy.watched.id: copy.watched for copy in due}.values():
            mine = [copy for copy in due if copy.watched is watched]
            found = _found_inside(watched, {copy.lock.address for copy in mine})
            for copy in mine:
                before = self._asked.get(copy.key)
                pause = min(2 * before.pause_s, MOST_PAUSE_S) if before else PAUSE_S
                tid, ran_ns = found.get(copy.lock.address, (None, None))
                self._asked[copy.key] = _Asked(tid, ran_ns, now_s + pause, pause)

    def _is_due(self, now_s: float, key: Key) -> bool:
        asked = self._asked.get(key)
        return asked is None or (self._inside(key) is None and now_s >= asked.again_s)


def _blocked(copy: Copy) -> tuple[futex.Thread, ...]:
    """The threads that sleep on the lock's semaphore (Python/thread_pthread.h, USE_SEMAPHORES: up to 3.13)."""
    memory = copy.watched.memory
    if memory is None or copy.lock.form in ("semaphore", "flag") or not copy.layout.tried:
        return ()
    pointer = memory.u64(copy.lock.address + at.LOCK_SEMAPHORE)
    semaphore = parse_sem(memory.read(pointer, 8)) if pointer else None
    if semaphore is None or semaphore[1] == 0:
        return ()
    return tuple(thread for thread in copy.watched.threads() if thread.futex == pointer)


def _owner(copy: Copy) -> int | None:
    """Of an RLock, which keeps it."""
    memory = copy.watched.memory
    if memory is None or copy.lock.form != "rlock":
        return None
    return copy.watched.tid_of(memory.u64(copy.lock.address + at.RLOCK_OWNER) or 0)


def _is_suspect(copy: Copy, waiters: Iterable[Waiter]) -> bool:
    """True where somebody has slept in it for long, and the lock does not tell its holder."""
    return copy.lock.form == "lock" and any((waiter.asleep_s or 0.0) >= SUSPECT_S for waiter in waiters)


def _found_inside(watched: Watched, locks: set[int]) -> dict[int, tuple[int, int]]:
    """By lock, the one thread that is inside `with` it and how long it has run; none where two are, or where it ran."""
    pid = watched.id.pid
    before = {thread.tid: futex.run_time_ns(pid, thread.tid) for thread in watched.threads()}
    found: dict[int, set[int | None]] = {}
    try:
        with Memory(pid) as memory:
            for lock, words in inside(pid, memory, locks):
                tids = {tid for word in words if (tid := watched.tid_of(word)) is not None}
                found.setdefault(lock, set()).add(next(iter(tids)) if len(tids) == 1 else None)
    except OSError:
        return {}
    sure: dict[int, tuple[int, int]] = {}
    for lock, owners in found.items():
        tid = next(iter(owners)) if len(owners) == 1 else None
        ran_ns = None if tid is None else before.get(tid)
        if tid is not None and ran_ns is not None and _sleeps(watched, tid, ran_ns):
            sure[lock] = (tid, ran_ns)
    return sure


def _sleeps(watched: Watched, tid: int, ran_ns: int) -> bool:
    """It sleeps now, and has not run since: then its frames stood still while they were read."""
    try:
        thread = futex.read_thread(watched.id.pid, tid)
    except PermissionError:
        return False
    if thread is None or thread.syscall in (None, futex.NO_SYSCALL):
        return False
    return futex.run_time_ns(watched.id.pid, tid) == ran_ns
