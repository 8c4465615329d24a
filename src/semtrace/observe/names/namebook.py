"""Find the names of a server's locks: walk its interpreters in the background and remember the results.

The master's modules serve every worker forked from it. A worker is walked itself when it has semaphores of its own, or
modules that the master lacks, as without --preload. Pictures never wait for a walk.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field

from semtrace.cpython.alike import locks_alike
from semtrace.cpython.imported import module_names
from semtrace.cpython.name_walk import Named, Walk, walk
from semtrace.cpython.threadlock import FoundThreadLock
from semtrace.lazydata import dataclass
from semtrace.linux.memory import Memory
from semtrace.linux.program import effective_user
from semtrace.model import Problem, ProcessId, SemId
from semtrace.observe.watch.watched import Watched

# A lock may be made before it has a name, or have none at all: look again after this, doubled each time.
_RETRY_S, _RETRY_MOST_S = 1.0, 60.0

# How often a process is walked again, for new objects in it. It is less often where that takes long, so that it costs
# half a per cent of a processor, but within the last of these.
_AGAIN_S, _AGAIN_SHARE, _AGAIN_MOST_S = 15.0, 200, 60.0

# Of the processes of a server so many are asked early for locks of their own; a resource tracker has none.
_MOST_TRIED = 4


@dataclass(frozen=False)
class _Visit:
    """The time when a process was last walked, and what it had mapped then."""

    semaphores: frozenset[SemId]
    at_s: float
    retry_s: float

    @property
    def retry_at_s(self) -> float:
        return self.at_s + self.retry_s


@dataclass(frozen=True)
class _Job:
    """`siblings` have not been walked: what this one has may be in them under the same names. Those of them that are
    `spawned` inherited nothing by a fork.
    """

    process: ProcessId
    must_walk: bool
    known_modules: frozenset[str]
    siblings: tuple[ProcessId, ...]
    spawned: tuple[ProcessId, ...]


@dataclass(frozen=True)
class _Done:
    process: ProcessId
    walk: Walk | None
    modules: frozenset[str]
    alike: Mapping[ProcessId, Walk] = field(default_factory=dict)
    goes_on: bool = False  # it is the first part, and the job is still at work


class NameBook:
    """Names by process; `update` is to be called in every refresh, and at once returns."""

    def __init__(self, root: ProcessId, all_thread_locks: bool = False) -> None:
        self.walks: dict[ProcessId, Walk] = {}
        self._alike: dict[ProcessId, Walk] = {}  # private locks that a sibling has too, until the own walk
        self._root = root
        self._all_thread_locks = all_thread_locks
        self._modules: frozenset[str] = frozenset()
        self._visits: dict[ProcessId, _Visit] = {}
        self._running: ProcessId | None = None
        self._started_s = 0.0
        self._pause_s = 0.0
        self._done: deque[_Done] = deque()  # filled by the walk's thread
        self._failure: str | None = None
        self._owner: int | None = None
        self._users: dict[ProcessId, int | None] = {}
        self.unvisited = True

    def update(self, now_s: float, watched: Sequence[Watched], named: Collection[SemId]) -> bool:
        """Take in the results of a walk and start the next one that is due; `named` are the semaphores that need no
        name any more. True if there may be new names.
        """
        self._users = {}
        able = [w for w in watched if w.memory is not None]
        living = {w.id for w in able}
        self.walks = {process: found for process, found in self.walks.items() if process in living}
        self._alike = {process: found for process, found in self._alike.items() if process in living}
        self._visits = {process: visit for process, visit in self._visits.items() if process in living}
        learned = self._take(able)
        if self._running is None and (due := next(self._due(now_s, able, named), None)) is not None:
            self._start(now_s, due, able)
        self.unvisited = self._running is not None or any(w.id not in self._visits for w in able)
        return learned

    def walks_again(self, watched: Sequence[Watched], named: Collection[SemId]) -> bool:
        """Return True if several processes have locks of their own without a name, and are soon walked a second time.

        Each may have made "the" lock for itself, and have given it its name after the first walk.
        """
        able = [each for each in watched if each.memory is not None]
        mapped = Counter(semaphore for each in able for semaphore in each.semaphores)
        own = [each for each in able if any(mapped[one] == 1 and one not in named for one in each.semaphores)]
        visits = (self._visits.get(each.id) for each in own)
        return len(own) > 1 and any(visit is None or visit.retry_s <= _RETRY_S for visit in visits)

    def names(self, semaphore: SemId, mappers: Sequence[Watched]) -> tuple[Named, ...]:
        """All names of a semaphore, the best first; those of its first process are taken to be the best.

        A process of another user gives no name to a lock that the server's own user has part in: `release NAME` would
        take it for the one of that name.
        """
        found: dict[str, Named] = {}
        for watched in self._trusted(mappers):
            known = self.walks.get(watched.id)
            if known is None:
                continue
            for semlock in watched.objects.get(semaphore, ()):
                for named in known.semlocks.get(semlock.address, ()):
                    found.setdefault(named.name, named)
        return tuple(found.values())

    def _trusted(self, mappers: Sequence[Watched]) -> list[Watched]:
        """Those of the server's own user and of root; all where they are of one user."""
        if len({self._user_of(each.id) for each in mappers}) < 2:
            return list(mappers)
        if (owner := self._user_of(self._root)) is not None:
            self._owner = owner
        return [each for each in mappers if self._user_of(each.id) in (0, self._owner)]

    def _user_of(self, process: ProcessId) -> int | None:
        if process not in self._users:
            self._users[process] = effective_user(process)
        return self._users[process]

    def thread_locks(self, process: ProcessId) -> tuple[Walk, tuple[FoundThreadLock, ...]] | None:
        """The threading locks that a process should have: by its own walk, else by their names in another worker, or by
        the walk of the master it was forked from.
        """
        known = self.walks.get(process) or self._alike.get(process) or self.walks.get(self._root)
        return None if known is None else (known, known.thread_locks)

    def private_names(self, process: ProcessId) -> dict[int, str]:
        """Return the names of its `threading` and `asyncio` locks by their address."""
        known = self.thread_locks(process)
        return {} if known is None else {lock.address: lock.name for lock in known[1]}

    def problems(self) -> Iterator[Problem]:
        """Yield why the root's interpreter could not be walked: then names and private locks are missing."""
        if self._unread:
            yield Problem(
                what="read threading and asyncio locks, and name the others",
                error=self._unread,
                remedy="multiprocessing locks are shown by device:inode; deadlocks through the rest are not seen",
                unread="private-locks",
            )

    @property
    def _unread(self) -> str | None:
        """Return why the root was never walked, None if it was, or is still to be."""
        return None if self._root in self.walks else self._failure

    def _take(self, able: Sequence[Watched]) -> bool:
        learned = False
        while self._done:
            done = self._done.popleft()
            self._alike.update(done.alike)
            if done.goes_on:
                learned = True
                continue
            self._running = None
            if done.walk is not None:
                self._pause_s = min(_AGAIN_SHARE * done.walk.seconds, _AGAIN_MOST_S)
            if done.process == self._root:
                self._modules = done.modules
            if done.process == self._root and done.walk is not None:
                self._failure = None if done.walk.layout else done.walk.reason
            if done.walk is not None and done.walk.layout is not None:
                self.walks[done.process] = done.walk
                learned = True
                for watched in able:
                    if watched.id == done.process:
                        watched.learn(done.walk.semlocks)
        return learned

    def _due(self, now_s: float, able: Sequence[Watched], named: Collection[SemId]) -> Iterator[Watched]:
        """The root first: what it names need not be looked for in the others. With nothing else to do, the one whose
        walk is the oldest: a program goes on to make locks, and to give them names.
        """
        for watched in able:
            visit = self._visits.get(watched.id)
            if visit is None:
                yield watched
                continue
            later = now_s >= visit.retry_at_s or visit.semaphores != watched.semaphores.keys()
            failed = watched.id == self._root and self._unread  # its interpreter may have been about to start
            if later and (failed or any(semaphore not in named for semaphore in watched.semaphores)):
                yield watched
        if now_s - self._started_s >= max(_AGAIN_S, self._pause_s):
            walked = (watched for watched in able if watched.id in self.walks)
            yield from sorted(walked, key=lambda watched: self._visits[watched.id].at_s)[:1]

    def _start(self, now_s: float, watched: Watched, able: Sequence[Watched]) -> None:
        visit = self._visits.get(watched.id)
        retry_s = min(2 * visit.retry_s, _RETRY_MOST_S) if visit else _RETRY_S
        self._visits[watched.id] = _Visit(frozenset(watched.semaphores), now_s, retry_s)
        self._running, self._started_s = watched.id, now_s
        root = self.walks.get(self._root)
        shared = root is not None and all(
            semlock.address in root.semlocks for known in watched.objects.values() for semlock in known
        )
        siblings = tuple(each.id for each in able if each.id not in self._visits)
        spawned = tuple(each.id for each in able if each.id in siblings and not each.stat.forked)
        job = _Job(watched.id, watched.id == self._root or not shared, self._modules, siblings, spawned)
        # A daemon, for the end of the program must not wait for it.
        threading.Thread(target=self._work, args=(job,), name="semtrace-names", daemon=True).start()

    def _work(self, job: _Job) -> None:
        """Run in its own thread, with an open file of its own."""
        found: Walk | None = None
        modules: frozenset[str] = frozenset()
        alike: dict[ProcessId, Walk] = {}
        try:
            with Memory(job.process.pid) as memory:
                modules = module_names(job.process.pid, memory) or frozenset()
                if early := self._early(job):
                    self._done.append(_Done(job.process, None, modules, early, goes_on=True))
                if job.must_walk or modules - job.known_modules - sys.stdlib_module_names:
                    found = walk(job.process.pid, memory, all_thread_locks=self._all_thread_locks)
            if found is not None and job.process != self._root:
                alike = _alike(job.siblings, found)
        except OSError:  # it ended, or may not be read: `Watched` says so
            pass
        except Exception as error:  # noqa: BLE001  names are a help: a fault of ours must not cost the picture
            found = Walk(reason=f"semtrace failed: {error!r}")
        finally:
            self._done.append(_Done(job.process, found, modules, alike))

    def _early(self, job: _Job) -> dict[ProcessId, Walk]:
        """Return private locks of workers that are not forks of the root. Their own modules are walked in a fraction of
        the time that all others take, and simultaneous holds may be over by then.
        """
        if job.process != self._root or len(job.spawned) < 2:
            return {}
        for process in job.spawned[:_MOST_TRIED]:
            try:
                with Memory(process.pid) as memory:
                    found = walk(process.pid, memory, only_user=True)
            except OSError:
                continue
            if found.thread_locks and found.layout is not None:
                others = [each for each in job.spawned if each != process]
                return {process: found, **_alike(others, found)}
        return {}


def _alike(siblings: Sequence[ProcessId], known: Walk) -> dict[ProcessId, Walk]:
    """Return the private locks of the same names in processes that are still to be walked, which takes longer."""
    found: dict[ProcessId, Walk] = {}
    for process in siblings if known.thread_locks else ():
        try:
            with Memory(process.pid) as memory:
                locks = locks_alike(process.pid, memory, known.thread_locks)
        except OSError:
            continue
        if locks is not None:
            found[process] = locks
    return found
