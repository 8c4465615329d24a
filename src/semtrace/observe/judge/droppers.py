"""Living processes that may have taken a lock and dropped it. A Pool's parent does so: it acquires the task queue's
`_rlock` to end the Pool, and never gives it back (Lib/multiprocessing/pool.py _help_stuff_finish). Workers of a later
Pool, forked while it had the first, then map that lock alone. Nobody wants it, and nobody died.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from semtrace.linux.process import TICKS_PER_S, children
from semtrace.model import ProcessId, SemId
from semtrace.observe.evidence.verdict import Verdict
from semtrace.observe.watch.watched import RELIST_S, Watched

# File times stand still for a tick of the kernel, and start times are in hundredths of a second.
_TIMES_S = 2 / TICKS_PER_S


class Droppers:
    """`parent_of` returns the parent of a process, if that is watched and lives.

    A parent that does not map a lock which its child has inherited has dropped it. It cannot have held it then if the
    lock was seen free, or in other hands, after that.
    """

    def __init__(self, parent_of: Callable[[Watched], Watched | None]) -> None:
        self._parent_of = parent_of
        self._known_s: dict[SemId, float] = {}
        self._sound: dict[SemId, Sequence[Watched]] = {}
        self._noted_s = float("-inf")

    def due(self, now_s: float) -> bool:
        """Return True if it is time for a note. A process that has just made a lock may not be listed with it for so
        long.
        """
        return now_s - self._noted_s >= RELIST_S

    def note(self, now_s: float, verdicts: Mapping[SemId, Verdict], mappers: Mapping[SemId, Sequence[Watched]]) -> None:
        """Remember who mapped the locks whose holder is known, or that are free: others had dropped them before."""
        self._noted_s = now_s
        self._known_s = {semaphore: self._known_s.get(semaphore, now_s) for semaphore in verdicts}
        self._sound = {semaphore: who for semaphore, who in self._sound.items() if semaphore in verdicts}
        for semaphore, verdict in verdicts.items():
            if self._known_s[semaphore] < now_s and _is_sound(verdict):
                self._sound[semaphore] = mappers.get(semaphore, ())

    def find(
        self, semaphore: SemId, mappers: Collection[Watched], linked: Callable[[], Collection[SemId]]
    ) -> ProcessId | None:
        """Return a process that may have held it when it dropped it, None without one.

        One that is still `linked` may have been opened by its name, and multiprocessing's has its maker still.
        """
        parents = {watched.stat.ppid for watched in mappers}
        pids = {each.id.pid for each in mappers if each.id.pid in parents and each.still_maps(semaphore)}
        heirs: dict[Watched, list[Watched]] = {}
        for watched in mappers:
            outer = watched.stat.forked and watched.stat.ppid not in pids
            parent = self._parent_of(watched) if outer else None
            if parent is not None and not self._dropped_before(semaphore, parent.id):
                heirs.setdefault(parent, []).append(watched)
        if not heirs or semaphore in linked():
            return None
        for parent, several in heirs.items():
            # What is in two of its children and has no name has come from it.
            if not parent.dying and (len(several) > 1 or _is_inherited(semaphore, several[0])):
                return parent.id
        return None

    def _dropped_before(self, semaphore: SemId, process: ProcessId) -> bool:
        sound = self._sound.get(semaphore)
        return sound is not None and all(watched.id != process for watched in sound)


def _is_sound(verdict: Verdict) -> bool:
    """Return True if it shows that no process holds the lock but those that it names."""
    if verdict.doubtful or verdict.is_doubt or verdict.state not in ("free", "held", "contended"):
        return False
    return all(claim.certain for claim in verdict.holders)


def _is_inherited(semaphore: SemId, watched: Watched) -> bool:
    """Return True if a process has not made a semaphore itself, by the time at which it was made. Where that decides
    nothing: if it never had a child, for one that made it itself would have nobody who could have died with it.
    """
    age_s, process_s = watched.age_of(semaphore), watched.age_s
    if age_s is not None and abs(age_s - process_s) > _TIMES_S:
        return age_s > process_s
    return not watched.stat.reaped and not children(watched.stat)
