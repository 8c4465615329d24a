"""Evidence from frames for who holds a lock that keeps no owner: seldom read, and remembered while that one sleeps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from semtrace.cpython.forks import own_frames
from semtrace.cpython.held import Evidence, HoldKind, evidence
from semtrace.cpython.stack import Sample, StackReader
from semtrace.lazydata import dataclass, replace
from semtrace.linux import futex
from semtrace.linux.memory import Memory
from semtrace.model import Frame, ProcessId
from semtrace.observe.watch.watched import Watched

# The pause between two readings of one lock's frames, doubled each time.
PAUSE_S, MOST_PAUSE_S = 1.0, 30.0

# Who is inside by one of these surely means to release the lock itself.
_SURE = (HoldKind.INSIDE_WITH, HoldKind.IN_GENERATOR, HoldKind.IN_EXIT_STACK)

Key = tuple[ProcessId, int]  # a process and the address of its lock object, of multiprocessing's the SemLock
Waiting = Mapping[Watched, Mapping[int, int]]  # by thread, the address of the lock that it waits for


@dataclass(frozen=True)
class Hold:
    """The one thread that was found to hold a lock, and how long it had run then. `sure`: it is inside `with` it.
    `place` is where it is, `acquired_line` the line of the acquire() where there is one.
    """

    tid: int
    ran_ns: int
    sure: bool
    place: Frame
    acquired_line: int | None


@dataclass(frozen=False)
class _Asked:
    """The last evidence of the frames about one lock. `nobody`: no frame has it."""

    hold: Hold | None
    nobody: bool
    again_s: float
    pause_s: float


class WithOwners:
    def __init__(self) -> None:
        self._asked: dict[Key, _Asked] = {}

    def of(self, key: Key) -> int | None:
        """Return who was found inside `with` it, as long as that thread has not run since."""
        hold = self.holding(key)
        return hold.tid if hold is not None and hold.sure else None

    def holding(self, key: Key) -> Hold | None:
        """Return who was found to hold it, by any evidence, as long as that thread has not run since."""
        asked = self._asked.get(key)
        hold = asked.hold if asked is not None else None
        if hold is None:
            return None
        return hold if futex.run_time_ns(key[0].pid, hold.tid) == hold.ran_ns else None

    def nobody(self, key: Key) -> bool:
        """Return True if no thread was seen to hold it, when last asked."""
        asked = self._asked.get(key)
        return asked is not None and asked.nobody

    def threads(self) -> set[tuple[ProcessId, int]]:
        """Return those that were found inside."""
        return {(key[0], asked.hold.tid) for key, asked in self._asked.items() if asked.hold is not None}

    def ask(self, now_s: float, wanted: Mapping[Watched, Collection[int]], waiting: Waiting | None = None) -> None:
        """Read the frames of these processes where that is due; the locks are those that may be asked for."""
        for watched, locks in wanted.items():
            due = {lock for lock in locks if self._is_due(now_s, (watched.id, lock))}
            found = _found_inside(watched, due, (waiting or {}).get(watched, {})) if due else {}
            for lock in due:
                before = self._asked.get((watched.id, lock))
                pause = min(2 * before.pause_s, MOST_PAUSE_S) if before else PAUSE_S
                self._asked[watched.id, lock] = _Asked(found.get(lock), lock not in found, now_s + pause, pause)

    def keep(self, keys: Iterable[Key]) -> None:
        """Forget all other locks."""
        these = set(keys)
        self._asked = {key: asked for key, asked in self._asked.items() if key in these}

    def _is_due(self, now_s: float, key: Key) -> bool:
        asked = self._asked.get(key)
        return asked is None or (self.holding(key) is None and now_s >= asked.again_s)


def _found_inside(watched: Watched, locks: set[int], waiting: Mapping[int, int]) -> dict[int, Hold | None]:
    """Return, for each lock that some frame has, the one thread that holds it. None where that is not sure: two seem to
    hold it, it ran meanwhile, or not all frames could be read.
    """
    pid = watched.id.pid
    before = {thread.tid: futex.run_time_ns(pid, thread.tid) for thread in watched.threads()}
    try:
        with Memory(pid) as memory:
            sample = _own(StackReader(pid, memory).sample(), watched.stat.forked)
            tids = {thread.pthread_id: watched.tid_of(thread.pthread_id) for thread in sample.threads} if sample else {}
            waits = {pthread: waiting[tid] for pthread, tid in tids.items() if tid is not None and tid in waiting}
            seen = evidence(sample, locks, waits) if sample else None
    except OSError:
        seen = None
    if seen is None:
        return dict.fromkeys(locks)
    return {lock: _one(watched, found, tids, before) for lock, found in seen.items()}


def _own(sample: Sample | None, forked: bool) -> Sample | None:
    """Return the sample without the frames from before a fork: what the parent was inside of, the child is not."""
    if sample is None:
        return None
    threads = (replace(thread, frames=own_frames(sample, thread.frames, forked)) for thread in sample.threads)
    return replace(sample, threads=tuple(threads))


def _one(
    watched: Watched, found: Iterable[Evidence], tids: Mapping[int, int | None], before: Mapping[int, int | None]
) -> Hold | None:
    """Return the one that the strongest evidence is about."""
    every = list(found)
    sure = [each for each in every if each.kind in _SURE] or every
    holders = {tids.get(each.thread.pthread_id) for each in sure}
    tid = next(iter(holders)) if len(holders) == 1 else None
    ran_ns = None if tid is None else before.get(tid)
    if tid is None or ran_ns is None or not _sleeps(watched, tid, ran_ns):
        return None
    first = sure[0]
    place = Frame(first.frame.function, first.frame.file, first.frame.line or 0)
    return Hold(tid, ran_ns, first.kind in _SURE, place, first.acquired_line)


def _sleeps(watched: Watched, tid: int, ran_ns: int) -> bool:
    """It sleeps now, and has not run since: then its frames stood still while they were read."""
    try:
        thread = futex.read_thread(watched.id.pid, tid)
    except PermissionError:
        return False
    if thread is None or thread.syscall in (None, futex.NO_SYSCALL):
        return False
    return futex.run_time_ns(watched.id.pid, tid) == ran_ns
