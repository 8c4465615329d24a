"""The proof that a lock is orphaned: that nobody who lives can hold it. A wrong "orphaned" is the worst bug there is.

A lock is suspect when it is locked and no process that maps it claims it. That alone proves nothing: a thread that has
just taken the semaphore may not have counted it yet, and it can stay so for long (stopped, starved, or waiting for the
interpreter lock that another thread keeps). So every one of these must hold, from the first suspicion on:

- many readings, spread over at least 250 ms, all locked and with every count zero;
- the memory of every process that maps it was searched through for SemLock objects, after the suspicion began;
- no process of the machine outside the server maps it, and none that may do so is hidden from us;
- in several looks, one after another, every thread of every process that maps it was where it cannot be about to claim:
  blocked in something other than the interpreter lock, or computing for longer than the few instructions between
  taking and counting need. All of them in the same look: one by one they could hand it on between the looks;
- no process was ever seen with a negative count of it: where one releases what another took, counts prove nothing.

What this cannot see: a lock handed over before the first look, whose taker then ended and whose present holder had
released for the other. Its counts are all zero, as an orphan's are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from semtrace.linux.futex import NO_SYSCALL, Thread
from semtrace.linux.process import read_stat
from semtrace.model import ProcessId

NOT_SWEPT = "looking for other processes that map it"
SPAN_S = 0.25
READINGS = 20
LOOKS = 3

# A process that is just being born cannot be read, or seen at rest, for some time.
PATIENCE_S = 2.0

# How long a thread must have run since it was first seen running, and ever since. Between sem_wait's return and
# the count lie some hundred instructions; a thread that waits for the interpreter lock sleeps and is seen to.
_RAN_NS = 5_000_000


@dataclass(slots=True)
class Suspicion:
    """One suspect lock and what has been shown of it since `since_s` (CLOCK_MONOTONIC).

    `proved_ticks` is when the proof was first complete, in ticks since boot. `unseen_since_s`: since when it lacks
    something of those who were born after. `barred`: the outsider is one that cannot be asked whether it
    maps it.
    """

    since_s: float
    readings: int = 0
    last_s: float = 0.0
    swept_s: float | None = None
    outsider: str | None = None
    barred: bool = False
    clear: dict[ProcessId, int] = field(default_factory=dict)
    unsettled: dict[ProcessId, str] = field(default_factory=dict)
    proved_ticks: int | None = None
    slept: set[tuple[ProcessId, int]] = field(default_factory=set)
    ran_ns: dict[tuple[ProcessId, int], int] = field(default_factory=dict)
    unseen_since_s: float | None = None
    outside: set[int] = field(default_factory=set)

    @property
    def span_s(self) -> float:
        return self.last_s - self.since_s

    def concerns(self, process: ProcessId) -> bool:
        """False for a process that was born after the proof was complete: nobody was left then who could hand the
        lock on, so it need not be searched, and one look at its threads is enough.
        """
        return self.proved_ticks is None or process.start_ticks <= self.proved_ticks

    def add_readings(self, now_s: float, count: int) -> None:
        """Notes readings that were all locked and unclaimed."""
        self.last_s = now_s
        self.readings += count

    def look_at(self, process: ProcessId, sightings: Iterable[Sighting]) -> None:
        """Takes note of where all the threads of one process that maps the lock are now."""
        seen = [
            (sighting.thread.tid, self._unsettled((process, sighting.thread.tid), sighting)) for sighting in sightings
        ]
        why_not = next((f"thread {tid} of PID {process.pid} {why}" for tid, why in seen if why), None)
        if not seen:
            why_not = f"no thread of PID {process.pid} can be seen, one"
        if why_not is None:
            self.unsettled.pop(process, None)
            self.clear[process] = self.clear.get(process, 0) + 1
        else:
            self.unsettled[process] = why_not
            self.clear[process] = 0

    def leave_out(self, process: ProcessId) -> None:
        """Of one that is dying nothing need be shown."""
        self.clear.pop(process, None)
        self.unsettled.pop(process, None)

    def keep(self, processes: Iterable[ProcessId]) -> None:
        """Forgets the processes that map the lock no more."""
        these = set(processes)
        self.clear = {process: looks for process, looks in self.clear.items() if process in these}
        self.unsettled = {process: why for process, why in self.unsettled.items() if process in these}

    def _unsettled(self, key: tuple[ProcessId, int], sighting: Sighting) -> str | None:
        """Why this thread may be about to claim, None if it cannot be."""
        thread = sighting.thread
        if thread.futex is not None or thread.syscall not in (None, NO_SYSCALL):
            self.ran_ns.pop(key, None)
            if not sighting.in_runtime:
                return None
            self.slept.add(key)
            return "waits for the interpreter lock"
        if sighting.stopped:
            return "is stopped"
        if sighting.ran_ns is None or key in self.slept:
            return "is running"
        first = self.ran_ns.setdefault(key, sighting.ran_ns)
        return None if sighting.ran_ns - first >= _RAN_NS else "is running"

    @property
    def shaken(self) -> bool:
        """Whether of those who were there before the proof not all have been seen at rest often enough."""
        return any(map(self.concerns, self.unsettled)) or self._looked_too_little

    @property
    def _looked_too_little(self) -> bool:
        return any(looks < LOOKS for process, looks in self.clear.items() if self.concerns(process))

    def is_patient(self, now_s: float) -> bool:
        """Whether what is lacking, of those who were born after the proof, may still be awaited: they cannot have it
        unless somebody released it meanwhile, which no look has seen.
        """
        self.unseen_since_s = now_s if self.unseen_since_s is None else self.unseen_since_s
        return now_s - self.unseen_since_s <= PATIENCE_S

    def is_first_seen(self, outside: Iterable[int]) -> bool:
        """Whether those outside the server, by their pids, are all new since the proof and in no sweep before: most
        likely forked since the server's processes were listed, and among them at the next look.
        """
        before, self.outside = self.outside, set(outside)
        return self.proved_ticks is not None and bool(self.outside) and not self.outside & before and self._young()

    def _young(self) -> bool:
        stats = [read_stat(pid) for pid in self.outside]
        return all(stat is None or not self.concerns(stat.id) for stat in stats)

    def without_newborn(self) -> Suspicion:
        """The same, of those alone who were there when the proof was complete."""
        unsettled = {process: why for process, why in self.unsettled.items() if self.concerns(process)}
        return replace(self, unsettled=unsettled)

    def missing(self, unsearched: Sequence[ProcessId]) -> str | None:
        """What the proof still lacks, None when it is complete. `unsearched` are processes that map the lock and were
        not searched through since the suspicion began.
        """
        if self.span_s < SPAN_S or self.readings < READINGS:
            return "watching whether it stays so"
        if unsearched:
            return f"searching the memory of PID {unsearched[0].pid}"
        for why in self.unsettled.values():
            return f"{why} and may be about to claim it"
        if self._looked_too_little:
            return "watching whether its threads stay where they are"
        if self.swept_s is None:
            return NOT_SWEPT
        return self.outsider


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a thread was seen. `in_runtime`: the futex lies in the interpreter's own data, as the interpreter lock
    does; `ran_ns` is its time on a processor so far, None where the kernel does not tell.
    """

    thread: Thread
    in_runtime: bool
    stopped: bool
    ran_ns: int | None
