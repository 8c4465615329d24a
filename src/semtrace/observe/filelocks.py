"""The file locks that a server's processes hold, wait for or poll: which file, who holds it, who waits.

The kernel's list names who took a lock. Where that does not decide, the descriptors do: an flock outlives its taker in
a child that inherited the open file, and an OFD lock names nobody. Locks that the kernel hides, because their takers
are in another PID namespace, are not seen.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field

from semtrace.lazydata import dataclass, replace
from semtrace.linux.blocked import Blocked, Call, read_blocked
from semtrace.linux.filelocks import FileLock, HeldFile, LockTable, count_open, file_of, path_of
from semtrace.linux.process import read_stat, thread_ids
from semtrace.model import (
    FileClaim,
    FileLockType,
    Holder,
    Lock,
    LockedFile,
    ProcessId,
    SemId,
    ThreadId,
    Waiter,
)
from semtrace.observe.descriptors import Descriptors
from semtrace.observe.history import Since, longer
from semtrace.observe.pollers import Poller, Pollers
from semtrace.observe.sleepers import Sleepers
from semtrace.observe.softlocks import SoftHolder, soft_holder
from semtrace.observe.watched import Watched

FILE = "file"
_DELETED = " (deleted)"

# How large a part of the time reading the machine's list may take.
_SHARE = 500
_MOST_FILES = 256
# Of a lock that was held for so long it is asked who else has the open file.
_LONG_S = 0.5
# How often it is asked how many times a file is open.
_OPEN_AGAIN_S = 10.0
_MOST_THREADS = 256


@dataclass(frozen=True)
class FileWait:
    """A thread that waits for a lock on a file, and who holds what it waits for. `complete`: nobody else can have it.
    `since_s` ago a polling thread began; `call` has its frames.
    """

    thread: ThreadId
    file: SemId
    path: str | None
    exclusive: bool
    type: FileLockType
    holders: tuple[ProcessId, ...] = ()
    complete: bool = False
    hidden: tuple[int, ...] = ()
    poller: Poller | None = None
    owner: SoftHolder | None = None


@dataclass(frozen=True)
class FileLocksSeen:
    """The rows, the waits, and the processes whose descriptors may not be read though that would decide."""

    locks: tuple[Lock, ...] = ()
    waits: Mapping[ThreadId, FileWait] = field(default_factory=dict)
    hidden: tuple[ProcessId, ...] = ()


@dataclass(frozen=True)
class _Held:
    """A lock of the kernel's list with its claims; `unknown`: somebody holds it who was not found."""

    lock: FileLock
    claims: tuple[FileClaim, ...]
    unknown: bool


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
    """Keeps the clocks: since when each holder and waiter was seen."""

    def __init__(self) -> None:
        self._table = LockTable()
        self._descriptors = Descriptors()
        self._pollers = Pollers()
        self._holding: Since[tuple[SemId, ProcessId]] = Since()
        self._waiting: Since[tuple[SemId, ThreadId]] = Since()
        self._sleepers = Sleepers()
        self._index = _Index()
        self._long_held: frozenset[SemId] = frozenset()
        self._due_s = 0.0
        self._paths: dict[SemId, str | None] = {}
        self._open: dict[tuple[SemId, ProcessId], tuple[float | None, int]] = {}

    @property
    def unfinished(self) -> bool:
        """True while descriptors are still to be asked for somebody who waits."""
        return self._descriptors.unfinished

    def read(self, now_s: float, watched: Sequence[Watched], semaphores: Collection[SemId]) -> FileLocksSeen:
        """Return the locks of the server now. Files that are semaphores are left out: semtrace itself locks those."""
        members = {each.id.pid: each for each in watched}
        self._list(now_s, frozenset(members))
        index = self._index
        pollers = self._pollers.read(now_s, watched)
        if not index.locks and not pollers:
            self._descriptors.step(now_s, (), frozenset(), frozenset())
            return FileLocksSeen()
        awaited = [lock for lock in index.asked if any(_asked_by(each, members) for each in lock.waiters)]
        polled = {_polled_file(each, index.by_file, self._descriptors) for each in pollers}
        urgent = {lock.file for lock in awaited if lock.type is not FileLockType.POSIX}
        urgent |= {file for file in polled if file is not None and _is_shared(index.by_file.get(file, ()))}
        ids = [each.id for each in watched]
        long = self._long_held
        wanted = index.undecided if long <= index.undecided else index.undecided | long
        self._descriptors.step(now_s, ids, wanted, frozenset(urgent))
        waits = {wait.thread: wait for wait in self._waits(now_s, awaited, pollers, members)}
        lost = {w.file: w.path for w in waits.values() if w.path and not w.holders and w.type is not FileLockType.SOFT}
        self._descriptors.search(now_s, ids, {wait.file for wait in waits.values()}, lost)
        files = set(index.own) | {file for file in self._descriptors.files() if file in index.by_file}
        files |= {wait.file for wait in waits.values()}
        files = set(sorted(files.difference(semaphores))[:_MOST_FILES])
        return self._seen(now_s, files, waits, members)

    def _list(self, now_s: float, pids: frozenset[int]) -> None:
        locks = self._index.locks
        if now_s >= self._due_s:
            began = time.thread_time()
            locks = self._table.read() or ()
            self._due_s = now_s + _SHARE * (time.thread_time() - began)
        if locks is not self._index.locks or pids != self._index.pids:
            self._index = _sorted(locks, pids)

    # -- who holds

    def _held(self, lock: FileLock, members: Mapping[int, Watched]) -> _Held:
        """Return who has a lock of the list."""
        taker = None if lock.pid is None else _living(lock.pid, members)
        if lock.type is FileLockType.POSIX:
            return _Held(lock, (_claim(lock, taker),) if taker is not None else (), unknown=taker is None)
        hits = [each for each in self._descriptors.of(lock.file) if _is_same(each[1].lock, lock)]
        ended = lock.pid is not None and taker is None
        claims = tuple(
            replace(_claim(lock, process, each.fd), taker_ended=ended)
            for process, each in {process: (process, each) for process, each in hits}.values()
        )
        asked = taker is not None and self._descriptors.asked_since(0.0, lock.file, (taker,))
        if taker is not None and not asked and all(each.process != taker for each in claims):
            claims = (_claim(lock, taker), *claims)
        return _Held(lock, claims, unknown=not claims)

    # -- who waits

    def _waits(
        self, now_s: float, awaited: Sequence[FileLock], pollers: Sequence[Poller], members: Mapping[int, Watched]
    ) -> Iterator[FileWait]:
        pids = {each.pid for lock in awaited for each in lock.waiters if each.pid in members}
        if any(each.type is FileLockType.OFD for lock in awaited for each in lock.waiters):
            pids |= set(members)
        for pid in sorted(pid for pid in pids if pid is not None):
            for tid, blocked in _blocked_threads(members[pid]):
                wait = self._kernel_wait(now_s, ThreadId(members[pid].id, tid), blocked, awaited, members)
                if wait is not None:
                    yield wait
        for poller in pollers:
            yield self._polled_wait(now_s, poller, members)

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
            return FileWait(
                poller.thread, file, poller.path, True, FileLockType.SOFT, holders, False, (), poller, holder
            )
        asked = [lock for lock in self._index.by_file.get(file, ()) if call.exclusive or lock.exclusive]
        held = [self._held(lock, members) for lock in asked]
        kind = asked[0].type if asked else FileLockType.FLOCK
        if poller.asked_s < now_s and any(each.process == poller.thread.process for one in held for each in one.claims):
            poller = replace(poller, unbroken=False)  # it may have the lock by now, and poll no more
        return self._wait(now_s, poller.thread, file, kind, call.exclusive, held, members, poller)

    def _wait(
        self,
        now_s: float,
        thread: ThreadId,
        file: SemId,
        kind: FileLockType,
        exclusive: bool,
        held: Sequence[_Held],
        members: Mapping[int, Watched],
        poller: Poller | None = None,
    ) -> FileWait:
        holders = tuple(sorted({each.process for one in held for each in one.claims if each.process is not None}))
        shared = any(one.lock.type is not FileLockType.POSIX for one in held)
        hidden = tuple(each.pid for each in self._descriptors.hidden()) if shared else ()
        ids = [each.id for each in members.values()]
        asleep_s = poller.for_s if poller else self._sleepers.seconds((thread.process, thread.tid))
        asked = not shared or self._descriptors.asked_since(now_s - (asleep_s or 0.0), file, ids)
        # A process outside the server may have the descriptor of one that died, or share it.
        complete = bool(held) and asked and not hidden and not any(one.unknown for one in held)
        path = poller.path if poller else self._path(file, thread.process.pid)
        return FileWait(thread, file, path, exclusive, kind, holders, complete, hidden, poller)

    def _path(self, file: SemId, pid: int) -> str | None:
        """Return its path by a descriptor that is known, or by one of a process that has it open."""
        known = next((each.path for _, each in self._descriptors.of(file)), None) or self._paths.get(file)
        if known is None:
            known = self._paths[file] = path_of(pid, file)
        return known

    # -- the rows

    def _seen(
        self, now_s: float, files: Collection[SemId], waits: Mapping[ThreadId, FileWait], members: Mapping[int, Watched]
    ) -> FileLocksSeen:
        self._paths = {file: path for file, path in self._paths.items() if file in files}
        self._open = {key: asked for key, asked in self._open.items() if key[0] in files}
        by_file = self._index.by_file
        held = {file: [self._held(lock, members) for lock in by_file.get(file, ())] for file in files}
        waiting: dict[SemId, list[FileWait]] = {file: [] for file in files}
        for wait in waits.values():
            if wait.file in waiting:
                waiting[wait.file].append(wait)
        holding = {file: _holders(each, waiting[file]) for file, each in held.items()}
        self._holding.update(now_s, [(file, process) for file, all_ in holding.items() for process in all_])
        self._long_held = frozenset(
            file
            for file, all_ in holding.items()
            if any((self._holding.seconds(now_s, (file, each)) or 0.0) >= _LONG_S for each in all_)
            and _is_shared(by_file.get(file, ()))
        )
        self._waiting.update(now_s, [(wait.file, wait.thread) for wait in waits.values()])
        single = [(p, p.pid) for all_ in holding.values() for p in all_ if _is_single(p, members)]
        self._sleepers.update(now_s, {*single, *((w.thread.process, w.thread.tid) for w in waits.values())})
        rows = (self._row(now_s, file, held[file], holding[file], waiting[file], members) for file in sorted(files))
        locks = tuple(row for row in rows if row is not None)
        undecided = any(each.unknown for all_ in held.values() for each in all_)
        return FileLocksSeen(locks, waits, self._descriptors.hidden() if undecided else ())

    def _row(
        self,
        now_s: float,
        file: SemId,
        held: Sequence[_Held],
        holding: Sequence[ProcessId],
        waiting: Sequence[FileWait],
        members: Mapping[int, Watched],
    ) -> Lock | None:
        holders = tuple(self._holder(now_s, file, process, members) for process in holding)
        if not waiting and not any(holder.pid in members for holder in holders):
            return None
        waiters = sorted((self._waiter(now_s, each) for each in waiting), key=lambda each: -(each.for_s or 0.0))
        claims = tuple(claim for each in held for claim in each.claims)
        first = claims[0] if claims else None
        owner = next((each.owner for each in waiting if each.owner is not None), None)
        path = self._row_path(file, holding, waiting)
        deleted = path is not None and path.endswith(_DELETED)
        unknown = not holders and (any(each.unknown for each in held) or bool(waiting))
        state = "unknown" if unknown else "contended" if waiters else "held"
        return Lock(
            id=file,
            kind=FILE,
            state=state,  # type: ignore[arg-type]
            value=None,
            maximum=None,
            holders=holders,
            waiters=tuple(waiters),
            mapped_by=tuple(sorted({*(each.process for each in waiters), *holding})),
            reason="its holder was not found among the processes that can be read" if unknown else None,
            file=LockedFile(
                path.removesuffix(_DELETED) if path is not None else None,
                first.type if first else waiting[0].type,
                first.exclusive if first else waiting[0].exclusive,
                deleted,
                claims,
                tuple(self._open_twice(now_s, file, path, claims, members)),
                owner.pid if owner is not None and owner.ended else None,
                owner.host if owner is not None and owner.elsewhere else None,
            ),
        )

    def _open_twice(
        self, now_s: float, file: SemId, path: str | None, claims: Sequence[FileClaim], members: Mapping[int, Watched]
    ) -> Iterator[ProcessId]:
        """Yield who would lose its POSIX lock by closing another descriptor of the file. Databases lock single bytes,
        and know that.
        """
        for claim in claims:
            whole = (claim.type, claim.exclusive, claim.start, claim.end) == (FileLockType.POSIX, True, 0, None)
            process = claim.process
            if not whole or path is None or process is None or process.pid not in members:
                continue
            if (self._holding.seconds(now_s, (file, process)) or 0.0) < _LONG_S:
                continue
            asked_s, times = self._open.get((file, process), (None, 0))
            if asked_s is None or now_s - asked_s >= _OPEN_AGAIN_S:
                times = count_open(process.pid, file, path)
                self._open[file, process] = now_s, times
            if times > 1:
                yield process

    def _row_path(self, file: SemId, holding: Sequence[ProcessId], waiting: Sequence[FileWait]) -> str | None:
        polled = next((each.path for each in waiting if each.path is not None), None)
        return polled or self._path(file, holding[0].pid if holding else 0)

    def _holder(self, now_s: float, file: SemId, process: ProcessId, members: Mapping[int, Watched]) -> Holder:
        single = _is_single(process, members)
        asleep_s = self._sleepers.seconds((process, process.pid)) if single else None
        since_s = longer(self._holding.seconds(now_s, (file, process)), asleep_s)
        return Holder(process, process.pid if single else None, 1, since_s, asleep_s=asleep_s)

    def _waiter(self, now_s: float, wait: FileWait) -> Waiter:
        thread, poller = wait.thread, wait.poller
        seen_s = self._waiting.seconds(now_s, (wait.file, thread))
        if poller is not None:
            asleep_s = poller.for_s if poller.unbroken else None
            return Waiter(
                thread.process, thread.tid, longer(seen_s, poller.for_s), asleep_s=asleep_s, timed=poller.polling.timed
            )
        asleep_s = self._sleepers.seconds((thread.process, thread.tid))
        return Waiter(thread.process, thread.tid, longer(seen_s, asleep_s), asleep_s=asleep_s)


def _holders(held: Sequence[_Held], waiting: Sequence[FileWait]) -> tuple[ProcessId, ...]:
    found = {each.process for one in held for each in one.claims if each.process is not None}
    found |= {process for wait in waiting if wait.type is FileLockType.SOFT for process in wait.holders}
    return tuple(sorted(found))


def _asked_by(waiter: FileLock, members: Mapping[int, Watched]) -> bool:
    return waiter.pid is None or waiter.pid in members


def _living(pid: int, members: Mapping[int, Watched]) -> ProcessId | None:
    member = members.get(pid)
    if member is not None:
        return member.id
    stat = read_stat(pid)
    return None if stat is None or stat.ended else stat.id


def _is_single(process: ProcessId, members: Mapping[int, Watched]) -> bool:
    member = members.get(process.pid)
    return member is not None and member.stat.threads == 1


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


def _sorted(locks: tuple[FileLock, ...], pids: frozenset[int]) -> _Index:
    by_file: dict[SemId, list[FileLock]] = {}
    for lock in locks:
        by_file.setdefault(lock.file, []).append(lock)
    undecided = frozenset(lock.file for lock in locks if lock.pid not in pids)
    own = frozenset(lock.file for lock in locks if lock.pid in pids)
    return _Index(locks, pids, by_file, tuple(lock for lock in locks if lock.waiters), undecided, own)


def _is_shared(locks: Sequence[FileLock]) -> bool:
    return any(lock.type is not FileLockType.POSIX for lock in locks)


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
