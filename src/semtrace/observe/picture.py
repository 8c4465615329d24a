"""Composes what was read and judged into the values of the model, with what only a series of pictures knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from semtrace.cpython.name_walk import Named
from semtrace.lazydata import dataclass, replace
from semtrace.linux.shm import ShmDirectory
from semtrace.model import Holder, Lock, Lost, Process, ProcessId, SemId, Waiter
from semtrace.observe.evidence.verdict import Claim
from semtrace.observe.history.history import CpuMeter, Since, longer
from semtrace.observe.history.sleepers import Sleepers
from semtrace.observe.history.trackers import LastHolders, OrphanedSince, Strays, Waited
from semtrace.observe.judge import composites
from semtrace.observe.judge.baselines import Baselines
from semtrace.observe.judge.composites import Part
from semtrace.observe.judge.prover import Judged
from semtrace.observe.private.selfwaits import SelfWaits
from semtrace.observe.watch.fleet import Fleet
from semtrace.rules.basis import unbroken_s
from semtrace.servers.tree import Member


@dataclass(frozen=True)
class _Blocked:
    """A thread that waits for a semaphore."""

    process: ProcessId
    tid: int
    timed: bool


class Picture:
    """Keep the clocks: since when each holder and waiter was seen, and how busy each process is."""

    def __init__(
        self, fleet: Fleet, directories: Sequence[ShmDirectory], baselines: Mapping[SemId, Baselines] | None = None
    ) -> None:
        self._fleet = fleet
        self._directories = directories
        self._listed: list[Mapping[SemId, str]] = []
        self._cpu = CpuMeter()
        self._holding: Since[tuple[SemId, ProcessId, int]] = Since()
        self._waiting: Since[tuple[SemId, ProcessId, int]] = Since()
        self._sleepers = Sleepers()
        self._waited = Waited()
        self._last_holders = LastHolders()
        self._orphaned = OrphanedSince()
        self._strays = Strays({} if baselines is None else baselines)
        self._self_waits = SelfWaits(fleet)
        self._losing: Since[SemId] = Since()

    def locks(
        self,
        now_s: float,
        judged: Mapping[SemId, Judged],
        names: Mapping[SemId, tuple[Named, ...]],
        parts: Mapping[SemId, Part],
        members: Iterable[Member] = (),
    ) -> tuple[Lock, ...]:
        self._listed = [directory.names() for directory in self._directories]
        blocked = self._blocked(judged)
        waiting = [(semaphore, each.process, each.tid) for semaphore, all_ in blocked.items() for each in all_]
        self._waiting.update(now_s, waiting)
        self._orphaned.update(now_s, judged)
        in_use = {s: all_ for s, all_ in blocked.items() if self._orphaned.seconds(now_s, s) is None}
        self._waited.update(now_s, {semaphore: len(in_use.get(semaphore, ())) for semaphore in judged})
        holders = self._holders(now_s, judged)
        holding = [(holder.process, holder.tid) for all_ in holders.values() for holder in all_ if holder.tid]
        self._sleepers.update(now_s, (*((process, tid) for _, process, tid in waiting), *holding))
        self._strays.update(now_s, judged, {each.id for each in self._fleet.all if each.stat.state == "running"})
        self._losing.update(now_s, (semaphore for semaphore, each in judged.items() if each.verdict.lost))
        locks = [
            self._lock(
                now_s,
                semaphore,
                each,
                names.get(semaphore, ()),
                parts.get(semaphore),
                holders[semaphore],
                blocked.get(semaphore, ()),
            )
            for semaphore, each in judged.items()
        ]
        return self._self_waits.mark(now_s, self._with_last_holders(now_s, locks, members))

    def _with_last_holders(self, now_s: float, locks: Sequence[Lock], members: Iterable[Member]) -> list[Lock]:
        seen = {
            lock.id: (lock.state, [replace(each, asleep_s=unbroken_s(lock, each)) for each in lock.sure_holders])
            for lock in locks
        }
        beats = {member.id: member.last_heartbeat_s for member in members}
        self._last_holders.update(now_s, seen, {watched.id for watched in self._fleet.with_guests}, beats)
        last = ((lock, self._last_holders.of(now_s, lock.id)) for lock in locks)
        return [lock if holder is None else replace(lock, last_holder=holder) for lock, holder in last]

    def processes(self, now_s: float, members: Sequence[Member], locks: Sequence[Lock]) -> tuple[Process, ...]:
        holds: dict[ProcessId, list[SemId]] = {}
        waits: dict[ProcessId, list[SemId]] = {}
        for lock in locks:
            for holder in lock.holders:
                holds.setdefault(holder.process, []).append(lock.id)
            for process in dict.fromkeys(waiter.process for waiter in lock.waiters):
                waits.setdefault(process, []).append(lock.id)
        self._cpu.keep(member.id for member in members)
        return tuple(
            member.process(
                self._cpu.percent(member.id, now_s, member.stat.cpu_ticks),
                tuple(holds.get(member.id, ())),
                tuple(waits.get(member.id, ())),
            )
            for member in members
        )

    def _blocked(self, judged: Mapping[SemId, Judged]) -> dict[SemId, list[_Blocked]]:
        """Return the threads blocked on each semaphore. If glibc counts no waiter, no process is asked."""
        crowded = {semaphore for semaphore, each in judged.items() if each.waiters}
        found: dict[SemId, list[_Blocked]] = {}
        for watched in self._fleet.with_guests if crowded else ():
            addresses = {a: s for s, a in watched.semaphores.items() if s in crowded}
            for thread in watched.threads() if addresses else ():
                semaphore = addresses.get(thread.futex or 0)
                if semaphore is not None and watched.still_maps(semaphore):
                    found.setdefault(semaphore, []).append(_Blocked(watched.id, thread.tid, thread.timed))
        return found

    def _lock(
        self,
        now_s: float,
        semaphore: SemId,
        judged: Judged,
        names: Sequence[Named],
        part: Part | None,
        holders: Sequence[Holder],
        blocked: Iterable[_Blocked],
    ) -> Lock:
        read, verdict = judged.reading, judged.verdict
        waiters = [self._waiter(now_s, semaphore, each) for each in blocked]
        shm_name, linked = self._shm_name(semaphore)
        state = verdict.state
        if state == "contended" and not waiters:
            state = "held"  # glibc's count says more than the kernel: a waiter was killed, or has just gone on
        return Lock(
            id=semaphore,
            kind=_kind(judged, names),
            state=state,
            value=read.value,
            maximum=read.maxvalue,
            name=names[0].name if names else None,
            names=tuple(named.name for named in names),
            part_of=part.part_of if part else None,
            attribute=part.attribute if part else None,
            signal=part.signal if part else False,
            shm_name=shm_name,
            linked=linked,
            holders=tuple(map(self._slept, holders)),
            waiters=tuple(sorted(waiters, key=lambda waiter: -(waiter.for_s or 0.0))),
            mapped_by=self._fleet.ids[semaphore],
            reason=verdict.reason,
            if_ended=verdict.if_ended,
            in_flux=not read.steady,
            own=not names or names[0].own,
            lost=Lost(verdict.lost, verdict.proved, self._losing.seconds(now_s, semaphore)) if verdict.lost else None,
            proof_needs_rights=verdict.proof_needs_rights,
            strays=self._strays.of(semaphore),
            waited_s=self._waited.seconds(semaphore),
            orphaned_s=self._orphaned.seconds(now_s, semaphore),
        )

    def _waiter(self, now_s: float, semaphore: SemId, blocked: _Blocked) -> Waiter:
        asleep_s = self._sleepers.seconds((blocked.process, blocked.tid))
        for_s = longer(self._waiting.seconds(now_s, (semaphore, blocked.process, blocked.tid)), asleep_s)
        return Waiter(blocked.process, blocked.tid, for_s, asleep_s=asleep_s, timed=blocked.timed)

    def _holders(self, now_s: float, judged: Mapping[SemId, Judged]) -> dict[SemId, list[Holder]]:
        """Return the holders. The start of a hold is for each thread: threads of one process take turns as processes
        do.
        """
        claims = [(s, claim) for s, each in judged.items() for claim in each.verdict.holders]
        self._holding.update(now_s, ((s, claim.process, claim.last_tid) for s, claim in claims))
        found: dict[SemId, list[Holder]] = {semaphore: [] for semaphore in judged}
        for semaphore, claim in claims:
            found[semaphore].append(self._holder(now_s, semaphore, claim))
        return found

    def _holder(self, now_s: float, semaphore: SemId, claim: Claim) -> Holder:
        tid = self._tid(semaphore, claim)
        since_s = self._holding.seconds(now_s, (semaphore, claim.process, claim.last_tid))
        return Holder(claim.process, tid, claim.count, since_s, certain=claim.certain)

    def _tid(self, semaphore: SemId, claim: Claim) -> int | None:
        """Return the thread that holds it. Of several units, another thread may have been the last to acquire one."""
        watched = self._fleet.get(claim.process)
        if watched is None:
            return None
        known = watched.objects.get(semaphore, ())
        single = watched.stat.threads == 1 or all(each.maxvalue == 1 for each in known)
        return watched.tid_of(claim.last_tid) if single else None

    def _slept(self, holder: Holder) -> Holder:
        """Return it with the time that its thread has slept: it has held the lock so long, for that thread itself took
        it.
        """
        if holder.tid is None:
            return holder
        asleep_s = self._sleepers.seconds((holder.process, holder.tid))
        return replace(holder, since_s=longer(holder.since_s, asleep_s), asleep_s=asleep_s)

    def _shm_name(self, semaphore: SemId) -> tuple[str | None, bool]:
        """Return the name that sem_open was given, and whether it is still listed in /dev/shm."""
        for listed in self._listed:
            if semaphore in listed:
                return listed[semaphore], True
        for watched in self._fleet.mappers[semaphore]:
            if semaphore in watched.table_names:
                return watched.table_names[semaphore], False
        return None, False


def _kind(judged: Judged, names: Sequence[Named]) -> str:
    """The object's own class, where it was met; else what makes such a semaphore."""
    read = judged.reading
    if names and names[0].kind != "SemLock":
        return names[0].kind
    if read.kind is None or read.maxvalue is None:
        return "unknown"
    return composites.kind_of(read.kind, read.maxvalue)
