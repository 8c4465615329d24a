"""Who is inside `with` a lock: seldom read, from the frames of threads that sleep, and remembered while they do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from semtrace.cpython.withblocks import inside
from semtrace.linux import futex
from semtrace.linux.memory import Memory
from semtrace.model import ProcessId
from semtrace.observe.watched import Watched

# The pause between two readings of one lock's frames, doubled each time.
PAUSE_S, MOST_PAUSE_S = 1.0, 30.0

Key = tuple[ProcessId, int]  # a process and the address of its lock object, of multiprocessing's the SemLock


@dataclass(slots=True)
class _Asked:
    """What the frames last said of one lock: who is inside, and how long that had run then. `nobody`: no frame
    has it.
    """

    tid: int | None
    ran_ns: int | None
    nobody: bool
    again_s: float
    pause_s: float


class Insiders:
    def __init__(self) -> None:
        self._asked: dict[Key, _Asked] = {}

    def of(self, key: Key) -> int | None:
        """Who was found inside, as long as it has not run since."""
        asked = self._asked.get(key)
        if asked is None or asked.tid is None:
            return None
        return asked.tid if futex.run_time_ns(key[0].pid, asked.tid) == asked.ran_ns else None

    def nobody(self, key: Key) -> bool:
        """Whether no thread was seen inside, when last asked."""
        asked = self._asked.get(key)
        return asked is not None and asked.nobody

    def threads(self) -> set[tuple[ProcessId, int]]:
        """Those that were found inside."""
        return {(key[0], asked.tid) for key, asked in self._asked.items() if asked.tid is not None}

    def ask(self, now_s: float, wanted: Mapping[Watched, Collection[int]]) -> None:
        """Reads the frames of these processes where that is due; the locks are those that may be asked for."""
        for watched, locks in wanted.items():
            due = {lock for lock in locks if self._is_due(now_s, (watched.id, lock))}
            found = _found_inside(watched, due) if due else {}
            for lock in due:
                before = self._asked.get((watched.id, lock))
                pause = min(2 * before.pause_s, MOST_PAUSE_S) if before else PAUSE_S
                tid, ran_ns = found.get(lock) or (None, None)
                self._asked[watched.id, lock] = _Asked(tid, ran_ns, lock not in found, now_s + pause, pause)

    def keep(self, keys: Iterable[Key]) -> None:
        """Forgets all other locks."""
        these = set(keys)
        self._asked = {key: asked for key, asked in self._asked.items() if key in these}

    def _is_due(self, now_s: float, key: Key) -> bool:
        asked = self._asked.get(key)
        return asked is None or (self.of(key) is None and now_s >= asked.again_s)


def _found_inside(watched: Watched, locks: set[int]) -> dict[int, tuple[int, int] | None]:
    """By lock that somebody is inside `with`, the one thread that is and how long it has run; None where it is not sure
    who: two are, it ran meanwhile, or not all frames could be read.
    """
    pid = watched.id.pid
    before = {thread.tid: futex.run_time_ns(pid, thread.tid) for thread in watched.threads()}
    try:
        with Memory(pid) as memory:
            seen = inside(pid, memory, locks)
    except OSError:
        seen = None
    if seen is None:
        return dict.fromkeys(locks)
    found: dict[int, set[int | None]] = {}
    for lock, words in seen:
        tids = {tid for word in words if (tid := watched.tid_of(word)) is not None}
        found.setdefault(lock, set()).add(next(iter(tids)) if len(tids) == 1 else None)
    sure: dict[int, tuple[int, int] | None] = dict.fromkeys(found)
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
