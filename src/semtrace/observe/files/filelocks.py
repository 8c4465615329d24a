"""The file locks that a server's processes hold, wait for or poll: which file, who holds it, who waits.

The kernel's list names who took a lock. Where that does not decide, the descriptors do: an flock outlives its taker in
a child that inherited the open file, and an OFD lock names nobody. Locks whose takers are in another PID namespace are
hidden by the kernel: there only those who wait are seen.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field

from semtrace.cpython.name_walk import Walk
from semtrace.lazydata import dataclass, replace
from semtrace.linux.blocked import Blocked, Call, read_blocked
from semtrace.linux.filelocks import FileLock, HeldFile, LockTable, file_of, path_of
from semtrace.linux.process import read_stat, thread_ids
from semtrace.linux.sweep import sees_all_processes
from semtrace.model import FileClaim, FileLockType, Lock, ProcessId, SemId, ThreadId
from semtrace.observe.files.descriptors import Descriptors
from semtrace.observe.files.filenames import FileNames, LostLock
from semtrace.observe.files.filerows import FileRows, FileState
from semtrace.observe.files.filewaits import FileWait, Held, is_shared
from semtrace.observe.files.pollers import Poller, Pollers, still_polling
from semtrace.observe.files.softlocks import soft_holder
from semtrace.observe.watch.watched import Watched

# How large a part of the time reading the machine's list may take.
_SHARE = 500
_MOST_FILES = 256
_MOST_THREADS = 256


@dataclass(frozen=True)
class FileLocksSeen:
    """The rows, the waits, and the processes whose descriptors may not be read though that would decide."""

    locks: tuple[Lock, ...] = ()
    waits: Mapping[ThreadId, FileWait] = field(default_factory=dict)
    hidden: tuple[ProcessId, ...] = ()


@dataclass(frozen=True)
class _Index:
    """The machine's locks, sorted once for each new list or new processes. `undecided` are files that others locked, or
    whose locks name nobody; `own` those that members locked.
    """

    locks: tuple[FileLock, ...] = ()
    pids: frozenset[int] = frozenset()
    by_file: Mapping[SemId, Sequence[FileLock]] = field(default_factory=dict)
    asked: tuple[FileLock, ...] = ()
    undecided: frozenset[SemId] = frozenset()
    own: frozenset[SemId] = frozenset()


class FileLocks:
    """Read the machine's list, and ask processes where it does not decide."""

    def __init__(self) -> None:
        self._table = LockTable()
        self._descriptors = Descriptors()
        self._pollers = Pollers()
        self._rows = FileRows()
        self._names = FileNames()
        self._index = _Index()
        self._due_s = 0.0
        self._paths: dict[SemId, str | None] = {}
        self._hidden = not sees_all_processes()

    @property
    def unfinished(self) -> bool:
        """Return True while descriptors are still to be asked for somebody who waits."""
        return self._descriptors.unfinished

    def read(
        self,
        now_s: float,
        watched: Sequence[Watched],
        semaphores: Collection[SemId],
        walks: Mapping[ProcessId, Walk],
    ) -> FileLocksSeen:
        """Return the locks of the server now, by the names of the walks. Files that are semaphores are left out:
        semtrace itself locks those.
        """
        members = {each.id.pid: each for each in watched}
        self._list(now_s, frozenset(members))
        index = self._index
        self._names.update(walks)
        pollers = self._pollers.read(now_s, watched)
        dropped = self._names.lost(now_s, watched, index.locks, lambda: self._table.read() or ())
        if not index.locks and not pollers and not dropped and not self._hidden:
            self._descriptors.step(now_s, (), frozenset(), frozenset())
            return FileLocksSeen()
        awaited = [lock for lock in index.asked if any(_asked_by(each, members) for each in lock.waiters)]
        polled = {_polled_file(each, index.by_file, self._descriptors) for each in pollers}
        urgent = {lock.file for lock in awaited if lock.type is not FileLockType.POSIX}
        urgent |= {file for file in polled if file is not None and is_shared(index.by_file.get(file, ()))}
        ids = [each.id for each in watched]
        long = self._rows.long_held
        wanted = index.undecided if long <= index.undecided else index.undecided | long
        self._descriptors.step(now_s, ids, wanted, frozenset(urgent))
        waits = {wait.thread: wait for wait in self._waits(now_s, awaited, pollers, members)}
        if self._hidden:
            waits = {**{wait.thread: wait for wait in _unseen_waits(watched)}, **waits}
        lost = {w.file: w.path for w in waits.values() if w.path and not w.holders and w.type is not FileLockType.SOFT}
        self._descriptors.search(now_s, ids, {wait.file for wait in waits.values()}, lost)
        files = set(index.own) | {file for file in self._descriptors.files() if file in index.by_file}
        files |= {wait.file for wait in waits.values()} | {each.file for each in dropped}
        files = set(sorted(files.difference(semaphores))[:_MOST_FILES])
        states = self._states(files, waits, dropped, members)
        undecided = any(each.unknown for state in states for each in state.held)
        rows = self._rows.read(now_s, states, members)
        return FileLocksSeen(rows, waits, self._descriptors.hidden() if undecided else ())

    def _states(
        self,
        files: Collection[SemId],
        waits: Mapping[ThreadId, FileWait],
        dropped: Sequence[LostLock],
        members: Mapping[int, Watched],
    ) -> list[FileState]:
        self._paths = {file: path for file, path in self._paths.items() if file in files}
        held = {file: [self._held(lock, members) for lock in self._index.by_file.get(file, ())] for file in files}
        waiting: dict[SemId, list[FileWait]] = {file: [] for file in files}
        for wait in waits.values():
            if wait.file in waiting:
                waiting[wait.file].append(wait)
        found = []
        for file in files:
            lost = [each for each in dropped if each.file == file]
            state = FileState(file, None, None, held[file], waiting[file], lost)
            path = self._state_path(state)
            found.append(replace(state, path=path, name=self._names.name_of(file, path)))
        return found

    def _state_path(self, state: FileState) -> str | None:
        shown = next((wait.path for wait in state.waiting if wait.path), None) or next(
            (each.path for each in state.lost), None
        )
        holding = state.holding
        return shown or self._path(state.file, holding[0].pid if holding else 0)

    def _list(self, now_s: float, pids: frozenset[int]) -> None:
        locks = self._index.locks
        if now_s >= self._due_s:
            began = time.thread_time()
            locks = self._table.read() or ()
            self._due_s = now_s + _SHARE * (time.thread_time() - began)
        if locks is not self._index.locks or pids != self._index.pids:
            self._index = _sorted(locks, pids)

    # -- who holds

    def _held(self, lock: FileLock, members: Mapping[int, Watched]) -> Held:
        """Return who has a lock of the list."""
        taker = None if lock.pid is None else _living(lock.pid, members)
        if lock.type is FileLockType.POSIX:
            return Held(lock, (_claim(lock, taker),) if taker is not None else (), unknown=taker is None)
        hits = [each for each in self._descriptors.of(lock.file) if _is_same(each[1].lock, lock)]
        ended = lock.pid is not None and taker is None
        claims = tuple(
            replace(_claim(lock, process, each.fd), taker_ended=ended)
            for process, each in {process: (process, each) for process, each in hits}.values()
        )
        asked = taker is not None and self._descriptors.asked_since(0.0, lock.file, (taker,))
        if taker is not None and not asked and all(each.process != taker for each in claims):
            claims = (_claim(lock, taker), *claims)
        return Held(lock, claims, unknown=not claims)

    # -- who waits

    def _waits(
        self, now_s: float, awaited: Sequence[FileLock], pollers: Sequence[Poller], members: Mapping[int, Watched]
    ) -> Iterator[FileWait]:
        pids = {each.pid for lock in awaited for each in lock.waiters if each.pid in members}
        if any(each.type is FileLockType.OFD for lock in awaited for each in lock.waiters):
            pids |= set(members)
        for pid in sorted(pid for pid in pids if pid is not None):
            if members[pid].memory is None and members[pid].stat.threads == 1:
                yield from self._listed_wait(now_s, members[pid], awaited, members)
            for tid, blocked in _blocked_threads(members[pid]):
                wait = self._kernel_wait(now_s, ThreadId(members[pid].id, tid), blocked, awaited, members)
                if wait is not None:
                    yield wait
        for poller in pollers:
            yield self._polled_wait(now_s, poller, members)

    def _listed_wait(
        self, now_s: float, member: Watched, awaited: Sequence[FileLock], members: Mapping[int, Watched]
    ) -> Iterator[FileWait]:
        """Yield what the list says of a process that may not be read: its only thread waits."""
        pid = member.id.pid
        asked = [(lock, each) for lock in awaited for each in lock.waiters if each.pid == pid]
        if asked:
            lock, own = asked[0]
            held = [self._held(each, members) for each, _ in asked if each.file == lock.file]
            yield self._wait(now_s, ThreadId(member.id, pid), lock.file, own.type, own.exclusive, held, members)

    def _kernel_wait(
        self,
        now_s: float,
        thread: ThreadId,
        blocked: Blocked,
        awaited: Sequence[FileLock],
        members: Mapping[int, Watched],
    ) -> FileWait | None:
        """Make the wait of a thread in flock or fcntl; None if what it asks for is not in the list (any more)."""
        pid = thread.process.pid
        file = file_of(pid, blocked.fds[0].fd) if blocked.fds else None
        flock = blocked.call is Call.FLOCK
        asked: list[tuple[FileLock, FileLock]] = []
        for lock in awaited:
            if (file is None or lock.file == file) and (lock.type is FileLockType.FLOCK) is flock:
                asked += [(lock, each) for each in lock.waiters if each.pid in (pid, thread.tid, None)]
        if not asked:
            return None
        file = asked[0][0].file
        held = [self._held(lock, members) for lock, _ in asked if lock.file == file]
        return self._wait(now_s, thread, file, asked[0][1].type, asked[0][1].exclusive, held, members)

    def _polled_wait(self, now_s: float, poller: Poller, members: Mapping[int, Watched]) -> FileWait:
        file = _polled_file(poller, self._index.by_file, self._descriptors) or SemId(0, 0, 0)
        call = poller.polling
        if call.soft:
            holder = soft_holder(poller.thread.process.pid, poller.path)
            holders = (holder.process,) if holder is not None and holder.process is not None else ()
            poller = self._kept(now_s, poller, holders)
            return FileWait(
                poller.thread, file, poller.path, True, FileLockType.SOFT, holders, False, (), poller, holder
            )
        pid = poller.thread.process.pid
        asked = [lock for lock in self._index.by_file.get(file, ()) if call.exclusive or lock.exclusive]
        own = [lock for lock in asked if lock.type is FileLockType.POSIX and lock.pid == pid]
        # A process's own POSIX locks never block it.
        asked = [lock for lock in asked if lock not in own]
        held = [self._held(lock, members) for lock in asked]
        kind = asked[0].type if asked else own[0].type if own else FileLockType.FLOCK
        holds = own or any(each.process == poller.thread.process for one in held for each in one.claims)
        if poller.asked_s < now_s and holds:
            poller = replace(poller, unbroken=False)  # it may have the lock by now, and poll no more
        else:
            poller = self._kept(now_s, poller, [each.process for one in held for each in one.claims])
        return self._wait(now_s, poller.thread, file, kind, call.exclusive, held, members, poller)

    def _kept(self, now_s: float, poller: Poller, holders: Sequence[ProcessId | None]) -> Poller:
        """Return a poller that is in its call still if no holder has run, and so none released, since it was asked."""
        asleep = (0.0 if each is None else self._rows.sleepers.seconds((each, each.pid)) or 0.0 for each in holders)
        kept = min(asleep, default=0.0) >= now_s - poller.asked_s
        return still_polling(poller, now_s) if kept else poller

    def _wait(
        self,
        now_s: float,
        thread: ThreadId,
        file: SemId,
        kind: FileLockType,
        exclusive: bool,
        held: Sequence[Held],
        members: Mapping[int, Watched],
        poller: Poller | None = None,
    ) -> FileWait:
        holders = tuple(sorted({each.process for one in held for each in one.claims if each.process is not None}))
        shared = any(one.lock.type is not FileLockType.POSIX for one in held)
        hidden = tuple(each.pid for each in self._descriptors.hidden()) if shared else ()
        ids = [each.id for each in members.values()]
        asleep_s = poller.for_s if poller else self._rows.sleepers.seconds((thread.process, thread.tid))
        asked = not shared or self._descriptors.asked_since(now_s - (asleep_s or 0.0), file, ids)
        # A process outside the server may have the descriptor of one that died, or share it.
        complete = bool(held) and asked and not hidden and not any(one.unknown for one in held)
        path = poller.path if poller else self._path(file, thread.process.pid)
        return FileWait(thread, file, path, exclusive, kind, holders, complete, hidden, poller)

    def _path(self, file: SemId, pid: int) -> str | None:
        """Return its path by a descriptor that is known, or by one of a process that has it open."""
        known = next((each.path for _, each in self._descriptors.of(file) if each.path), None) or self._paths.get(file)
        if known is None:
            known = self._paths[file] = path_of(pid, file)
        return known


def _asked_by(waiter: FileLock, members: Mapping[int, Watched]) -> bool:
    return waiter.pid is None or waiter.pid in members


def _living(pid: int, members: Mapping[int, Watched]) -> ProcessId | None:
    member = members.get(pid)
    if member is not None:
        return member.id
    stat = read_stat(pid)
    return None if stat is None or stat.ended else stat.id


def _is_same(seen: FileLock, lock: FileLock) -> bool:
    """Return True for the `lock:` line of a lock of the list."""
    return (seen.type, seen.exclusive, seen.pid, seen.file, seen.start, seen.end) == (
        lock.type,
        lock.exclusive,
        lock.pid,
        lock.file,
        lock.start,
        lock.end,
    )


def _claim(lock: FileLock, process: ProcessId | None, fd: int | None = None) -> FileClaim:
    return FileClaim(process, lock.type, lock.exclusive, lock.start, lock.end, fd, lock.pid)


def _blocked_threads(watched: Watched) -> Iterator[tuple[int, Blocked]]:
    """Yield the threads that are in flock or fcntl."""
    pid = watched.id.pid
    for tid in (pid,) if watched.stat.threads == 1 else thread_ids(pid)[:_MOST_THREADS]:
        try:
            blocked = read_blocked(pid, tid, None)
        except PermissionError:
            return
        if blocked is not None and blocked.call in (Call.FLOCK, Call.FCNTL_LOCK):
            yield tid, blocked


def _unseen_waits(watched: Sequence[Watched]) -> Iterator[FileWait]:
    """Yield threads that wait for a lock of which the kernel's list may show nothing."""
    for each in watched:
        for tid, blocked in _blocked_threads(each):
            fd = blocked.fds[0].fd if blocked.fds else -1
            file = file_of(each.id.pid, fd) if fd >= 0 else None
            if file is not None:
                kind = FileLockType.FLOCK if blocked.call is Call.FLOCK else FileLockType.POSIX
                path = path_of(each.id.pid, file)
                yield FileWait(ThreadId(each.id, tid), file, path, True, kind, unseen=True)


def _sorted(locks: tuple[FileLock, ...], pids: frozenset[int]) -> _Index:
    by_file: dict[SemId, list[FileLock]] = {}
    for lock in locks:
        by_file.setdefault(lock.file, []).append(lock)
    undecided = frozenset(lock.file for lock in locks if lock.pid not in pids)
    own = frozenset(lock.file for lock in locks if lock.pid in pids)
    return _Index(locks, pids, by_file, tuple(lock for lock in locks if lock.waiters), undecided, own)


def _polled_file(poller: Poller, by_file: Mapping[SemId, Sequence[FileLock]], descriptors: Descriptors) -> SemId | None:
    """Return the kernel's identity of the file: stat(2) can show another device (btrfs, overlayfs), and then a
    descriptor with this path and a lock decides.
    """
    if poller.file is None or poller.file in by_file:
        return poller.file
    for file in descriptors.files():
        if any(_is_at(each, poller.path) for _, each in descriptors.of(file)):
            return file
    return poller.file


def _is_at(held: HeldFile, path: str) -> bool:
    return held.path == path
