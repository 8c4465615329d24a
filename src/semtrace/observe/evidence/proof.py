"""Prove that a lock is orphaned: that no living process can hold it. A wrong "orphaned" is the worst bug there is.

A lock is suspect when it is locked and no process that maps it claims it. That alone proves nothing: a thread that has
just taken the semaphore may not have counted it yet. It can stay so for long: stopped, starved, or waiting for the
interpreter lock that another thread keeps. So every one of these must hold, from the first suspicion on:

- many readings, spread over at least 250 ms, all locked, with every count zero, and with no process in which another
  thread than before was the last to acquire;
- the memory of every process that maps it was searched through for SemLock objects, after the suspicion began;
- every process of the machine that maps it takes part in this, also one outside the server, and none that may map it is
  hidden from us;
- in several samples every thread of every such process was where it cannot be about to claim. All of them were there in
  the same sample: one by one they could hand it on between the samples;
- no process was ever seen with a negative count of it: where one releases what another took, counts prove nothing;
- no process that lives may have dropped it while it held it (`judge/droppers`), unless a thread waits for it. That one
  would wait endlessly.

A thread cannot be about to claim in three cases. It is blocked in anything but the interpreter lock, unless in the
handler of a signal that interrupted SemLock.acquire. It waits for the interpreter lock without a return address into
SemLock.acquire on its stack. Or, since it was last known not to be about to claim, it has computed for longer than a
thread that waits for the interpreter lock can. A thread that shows none of these leaves the sample without a result.
One that may be about to claim discards all samples before.

A process that was forked after the suspicion began has one thread, which was forking when the lock was taken long ago.
While it is young, only its claim matters, and a sign that it stands still on its way to claim. Its memory is a copy of
its parent's and is searched only before a release.

This cannot detect:

- a lock handed over before the first sample, whose taker then ended and whose present holder had released for the
  other. Its counts are all zero, as an orphan's are;
- within a suspicion, between two readings: a thread that was about to claim claims, releases, and hands the lock to a
  newborn process. That process then gets no processor for three samples, and the same thread was the last to acquire
  there before;
- code that waits for a semaphore without SemLock.acquire.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from enum import Enum

from semtrace.lazydata import dataclass
from semtrace.linux.futex import RunTime, Thread
from semtrace.linux.process import TICKS_PER_S
from semtrace.model import ProcessId

SPAN_S = 0.25
READINGS = 20
SAMPLES = 3

# How long a process that is just being born is young: it cannot be read, or seen at rest, for some time.
NEWBORN_S = 1.0

# How long an orphan stays proved while threads run about which the later samples show nothing.
PATIENCE_S = 2.0

# How long a thread must have run, in all and on average each time that it got onto a processor. That shows that it did
# not wait for the interpreter lock all the while. A waiting thread wakes up again and again, each time for 35 to 65 us.
# It is 10 us with a switch interval of 1 us, when that makes 18 % of a processor. One of eight threads that compute by
# turns runs for 200 to 700 us (measured with CPython 3.8, 3.12 and 3.13).
_RAN_NS = 5_000_000
_SLICE_NS = 250_000


class Gil(Enum):
    """Ways of a thread in futex to wait for the interpreter lock: on its way to claim, or not."""

    NO = "not inside SemLock.acquire, or not at the interpreter lock"
    UNKNOWN = "may be at the interpreter lock; whether inside SemLock.acquire cannot be seen"
    ACQUIRING = "a return address into SemLock.acquire is on its stack"


@dataclass(frozen=True)
class Sighting:
    """The place where a thread was seen, and its run time so far where that matters and the kernel counts it."""

    thread: Thread
    stopped: bool
    ran: RunTime | None = None
    gil: Gil = Gil.NO


class Shown(Enum):
    """The result of one sample of a thread."""

    CLEAR = "cannot be about to claim"
    NOTHING = "not known"
    MAY_CLAIM = "may be about to claim"


@dataclass(frozen=True)
class ProcessSample:
    """A sample of one process. `young`: a newborn, of which only the signs against the proof count."""

    process: ProcessId
    sightings: Sequence[Sighting]
    young: bool = False


@dataclass(frozen=False)
class Suspicion:
    """One suspect lock and what has been shown of it since `since_s` (CLOCK_MONOTONIC), in ticks since boot
    `since_ticks`.

    `samples` are those in which all threads were clear, `sampled_s` when the last of them was. `tried_s` is when the
    very last sample was, and `unsettled` why it was not one of them. `proved_ticks` is when the proof was first
    complete, `proved_with` who took part then. `taker` is the only process that may just have been granted it, by the
    last refresh. `outsider` is what is missing to exclude a process outside the server that maps it, or may map it.
    `proof_needs_rights`: only more rights would show whether it does. `wanted`: a thread was seen waiting for it.
    """

    since_s: float
    since_ticks: int
    readings: int = 0
    last_s: float = 0.0
    swept_s: float | None = None
    outsider: str | None = None
    proof_needs_rights: bool = False
    wanted: bool = False
    samples: int = 0
    sampled_s: float = float("-inf")
    tried_s: float = float("-inf")
    unsettled: str | None = None
    proved_ticks: int | None = None
    proved_with: frozenset[ProcessId] = frozenset()
    taker: ProcessId | None = None
    _sampled: set[ProcessId] = field(default_factory=set)
    _anchors: dict[tuple[ProcessId, int], RunTime] = field(default_factory=dict)
    _last_tids: dict[ProcessId, int] = field(default_factory=dict)

    @property
    def span_s(self) -> float:
        return self.last_s - self.since_s

    # -- who takes part

    def is_young(self, process: ProcessId, threads: int, now_ticks: int) -> bool:
        """Return True for a process that was born into the suspicion just now and has one thread."""
        born_after = process.start_ticks > self.since_ticks
        return born_after and threads <= 1 and now_ticks - process.start_ticks <= NEWBORN_S * TICKS_PER_S

    def is_copied(self, process: ProcessId, forked: bool) -> bool:
        """Return True for a process that was forked after the suspicion began: it has what its parent had."""
        return forked and process.start_ticks > self.since_ticks

    def is_younger_than_proof(self, process: ProcessId) -> bool:
        """Return True for a process that was born after the proof was complete: nobody was left then who could hand
        the lock on, so it need not be searched.
        """
        return self.proved_ticks is not None and process.start_ticks > self.proved_ticks

    # -- what is shown

    def add_readings(self, now_s: float, count: int) -> None:
        """Note readings that were all locked and unclaimed."""
        self.last_s = now_s
        self.readings += count

    def was_acquired(self, last_tids: Mapping[ProcessId, int]) -> bool:
        """Return True if in some process another thread than before was the last to acquire: then somebody has had the
        lock meanwhile. Take note of who it is now.
        """
        changed = any(self._last_tids.get(process, tid) != tid for process, tid in last_tids.items())
        self._last_tids.update(last_tids)
        return changed

    def add_sample(self, now_s: float, everybody: Sequence[ProcessSample]) -> None:
        """Record one sample of all threads of all processes that map the lock."""
        self.tried_s = now_s
        self._forget_others(everybody)
        shown = [(each, *self._shown(each)) for each in everybody]
        against = next((why for _, what, why in shown if what is Shown.MAY_CLAIM), None)
        nothing = next((why for each, what, why in shown if what is Shown.NOTHING and not each.young), None)
        self.unsettled = against or nothing
        if against is not None:
            self.samples = 0
        elif nothing is None:
            self._count_sample(now_s, [each.process for each in everybody if not each.young])

    def takers(self, everybody: Sequence[ProcessSample], waited: Collection[tuple[ProcessId, int]]) -> set[ProcessId]:
        """Return the processes that may just have been granted it, and not have counted it yet.

        Those are inside SemLock.acquire, and do not wait for the lock any more. Where none is seen there, they are
        those with a thread that runs, or would if it got a processor, and is among those that `waited` for it lately.
        """
        unclear = [
            (sample.process, s) for sample in everybody for s in sample.sightings if self._is_unclear(sample.process, s)
        ]
        inside = {process for process, sighting in unclear if sighting.gil is Gil.ACQUIRING}
        return inside or {process for process, sighting in unclear if (process, sighting.thread.tid) in waited}

    def _is_unclear(self, process: ProcessId, sighting: Sighting) -> bool:
        return self._thread(process, sighting)[0] is not Shown.CLEAR

    def was_sampled(self, process: ProcessId) -> bool:
        """Return True if the process was part of a sample in which all were clear and nobody claimed the lock."""
        return process in self._sampled

    def skip_sample(self, now_s: float, why: str) -> None:
        """Record a sample that shows nothing, as something moved meanwhile."""
        self.tried_s, self.unsettled = now_s, why

    def discard_samples(self, why: str) -> None:
        """Discard the samples: a process came or went meanwhile."""
        self.samples, self.unsettled = 0, why

    def _count_sample(self, now_s: float, processes: Sequence[ProcessId]) -> None:
        """Count a sample. Processes older than the suspicion must have been seen in every sample that counts."""
        missed = [p for p in processes if p not in self._sampled and p.start_ticks <= self.since_ticks]
        self.samples = 1 if missed else self.samples + 1
        self._sampled.update(processes)
        self.sampled_s = now_s

    def _forget_others(self, everybody: Sequence[ProcessSample]) -> None:
        """A process that maps the lock no more has nothing to show, nor has a thread that ended."""
        keys = {(each.process, sighting.thread.tid) for each in everybody for sighting in each.sightings}
        self._anchors = {key: ran for key, ran in self._anchors.items() if key in keys}
        self._sampled &= {each.process for each in everybody}

    def _shown(self, sample: ProcessSample) -> tuple[Shown, str | None]:
        """Return the worst result of its threads, and why."""
        pid = sample.process.pid
        if not sample.sightings:
            return Shown.NOTHING, f"no thread of PID {pid} can be seen, so one may be about to claim it"
        worst: tuple[Shown, str | None] = (Shown.CLEAR, None)
        for sighting in sample.sightings:
            shown, where = self._thread(sample.process, sighting)
            why = f"thread {sighting.thread.tid} of PID {pid} {where} and may be about to claim it"
            if shown is Shown.MAY_CLAIM or (shown is Shown.NOTHING and worst[0] is Shown.CLEAR):
                worst = (shown, why)
        return worst

    def _thread(self, process: ProcessId, sighting: Sighting) -> tuple[Shown, str]:
        key = (process, sighting.thread.tid)
        waits = "waits for the interpreter lock" if sighting.thread.futex is not None else "is in a signal handler"
        if sighting.thread.blocked and sighting.gil is Gil.NO:
            self._anchor(key, sighting.ran)
            return Shown.CLEAR, waits
        if sighting.thread.blocked and sighting.gil is Gil.ACQUIRING:
            # The word may be left over from an earlier call: 3.15 keeps one on the stack of a thread that computes.
            return Shown.CLEAR if self._has_computed(key, sighting.ran) else Shown.MAY_CLAIM, waits
        if not sighting.thread.blocked and sighting.stopped:
            return Shown.MAY_CLAIM, "is stopped"
        what = Shown.CLEAR if self._has_computed(key, sighting.ran) else Shown.NOTHING
        return what, waits if sighting.thread.blocked else "is running"

    def _anchor(self, key: tuple[ProcessId, int], ran: RunTime | None) -> None:
        """Count its run time from here on: what it ran before shows nothing any more."""
        if ran is None:
            self._anchors.pop(key, None)
        else:
            self._anchors[key] = ran

    def _has_computed(self, key: tuple[ProcessId, int], ran: RunTime | None) -> bool:
        """Return True if it has done more, since it was last known not to be about to claim, than to wait for the
        interpreter lock.
        """
        if ran is None:
            return False
        since = self._anchors.setdefault(key, ran)
        ns, slices = ran.ns - since.ns, ran.slices - since.slices + 1
        if ns < _RAN_NS or ns < slices * _SLICE_NS:
            return False
        self._anchors[key] = ran
        return True

    # -- what is missing

    @property
    def is_shaken(self) -> bool:
        """Return True if too few samples were clear since one that was not at all."""
        return self.samples < SAMPLES

    def is_shown(self, strict: bool) -> bool:
        """Return True if enough samples were clear. `strict`: the very last one must be, else one a little before it.

        It does not matter how long ago the very last was: what came after it on a busy machine, as the sweep over all
        processes, takes nothing back.
        """
        if self.is_shaken:
            return False
        return self.unsettled is None if strict else self.tried_s - self.sampled_s <= PATIENCE_S

    def missing(self, unsearched: Sequence[ProcessId], strict: bool = False) -> str | None:
        """Return what the proof lacks within the known processes, None when that is complete. `unsearched` are
        processes that must be searched through and were not since the suspicion began.
        """
        if self.span_s < SPAN_S or self.readings < READINGS:
            return "watching whether it stays so"
        if unsearched:
            return f"searching the memory of PID {unsearched[0].pid}"
        if self.is_shown(strict):
            return None
        return self.unsettled or "watching whether its threads stay where they are"

    @property
    def lacks_others(self) -> str | None:
        """Return what the proof lacks of the rest of the machine."""
        if self.outsider is None and self.swept_s is None:
            return "looking for other processes that map it"
        return self.outsider
