"""Composes what was read and judged into the values of the model, with what only a series of pictures knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from semtrace import primitives
from semtrace.cpython.names import Named
from semtrace.fleet import Fleet
from semtrace.history import CpuMeter, Since
from semtrace.linux.shm import ShmDirectory
from semtrace.model import Holder, Lock, Process, ProcessId, SemId, Waiter
from semtrace.primitives import Part
from semtrace.prover import Judged
from semtrace.tree import Member
from semtrace.verdict import Claim


class Picture:
    """Keeps the clocks: since when each holder and waiter was seen, and how busy each process is."""

    def __init__(self, fleet: Fleet, directories: Sequence[ShmDirectory]) -> None:
        self._fleet = fleet
        self._directories = directories
        self._cpu = CpuMeter()
        self._holding: Since[tuple[SemId, ProcessId]] = Since()
        self._waiting: Since[tuple[SemId, ProcessId, int]] = Since()

    def locks(
        self,
        now_s: float,
        judged: Mapping[SemId, Judged],
        names: Mapping[SemId, tuple[Named, ...]],
        parts: Mapping[SemId, Part],
    ) -> tuple[Lock, ...]:
        blocked = self._blocked(judged)
        self._waiting.update(now_s, ((semaphore, *who) for semaphore, all_ in blocked.items() for who in all_))
        self._holding.update(now_s, ((s, claim.process) for s, j in judged.items() for claim in j.verdict.holders))
        return tuple(
            self._lock(
                now_s, semaphore, each, names.get(semaphore, ()), parts.get(semaphore), blocked.get(semaphore, ())
            )
            for semaphore, each in judged.items()
        )

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
            replace(
                member.process(self._cpu.percent(member.id, now_s, member.stat.cpu_ticks)),
                holds=tuple(holds.get(member.id, ())),
                waits_on=tuple(waits.get(member.id, ())),
            )
            for member in members
        )

    def _blocked(self, judged: Mapping[SemId, Judged]) -> dict[SemId, list[tuple[ProcessId, int]]]:
        """Threads blocked on each semaphore. Where glibc counts no waiter there is none, so nobody is asked."""
        crowded = {semaphore for semaphore, each in judged.items() if each.waiters}
        found: dict[SemId, list[tuple[ProcessId, int]]] = {}
        for watched in self._fleet.all if crowded else ():
            addresses = {a: s for s, a in watched.semaphores.items() if s in crowded}
            for thread in watched.threads() if addresses else ():
                semaphore = addresses.get(thread.futex or 0)
                if semaphore is not None:
                    found.setdefault(semaphore, []).append((watched.id, thread.tid))
        return found

    def _lock(
        self,
        now_s: float,
        semaphore: SemId,
        judged: Judged,
        names: Sequence[Named],
        part: Part | None,
        blocked: Iterable[tuple[ProcessId, int]],
    ) -> Lock:
        read, verdict = judged.reading, judged.verdict
        waiters = [Waiter(p, tid, self._waiting.seconds(now_s, (semaphore, p, tid))) for p, tid in blocked]
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
            signal=part.signal if part else False,
            shm_name=shm_name,
            linked=linked,
            holders=tuple(self._holder(now_s, semaphore, claim) for claim in verdict.holders),
            waiters=tuple(sorted(waiters, key=lambda waiter: -(waiter.for_s or 0.0))),
            mapped_by=self._fleet.ids[semaphore],
            reason=verdict.reason,
            in_flux=not read.steady,
        )

    def _holder(self, now_s: float, semaphore: SemId, claim: Claim) -> Holder:
        tid = self._fleet[claim.process].tid_of(claim.last_tid)
        return Holder(claim.process, tid, claim.count, self._holding.seconds(now_s, (semaphore, claim.process)))

    def _shm_name(self, semaphore: SemId) -> tuple[str | None, bool]:
        """What sem_open was given, and whether it is still listed in /dev/shm."""
        for directory in self._directories:
            name = directory.names().get(semaphore)
            if name is not None:
                return name, True
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
    return primitives.kind_of(read.kind, read.maxvalue)
