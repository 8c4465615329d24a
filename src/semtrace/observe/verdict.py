"""From what was read of one semaphore to who holds it. Pure: the same reading always gives the same verdict.

A claim is a process's SemLock whose count says that it acquired. Claims are not proof: a fork copies them, a lock
taken in one process and released in another leaves +1 and -1 behind, and there is a moment between taking the
semaphore and counting it. A verdict is given only where value and claims account for each other; anything else is
"unknown" with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from semtrace.model import RECURSIVE_MUTEX, SEM_VALUE_MAX, LockState, ProcessId


@dataclass(frozen=True, slots=True)
class Claim:
    """The count of one process's SemLock objects for a semaphore. `parent` is the process that it was forked from."""

    process: ProcessId
    count: int
    last_tid: int
    parent: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """One semaphore as it was read. `value` is None when no process's memory could be read.

    `claims` are those of all processes that map it and could be read; `blind` are the others. `steady` is False when
    value or claims changed in every attempt to read them. `kind` and `maxvalue` are SemLock's, None when no object
    was found.
    """

    value: int | None
    kind: int | None
    maxvalue: int | None
    claims: tuple[Claim, ...] = ()
    blind: tuple[ProcessId, ...] = ()
    waiting: bool = False
    steady: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    state: LockState
    holders: tuple[Claim, ...] = ()
    reason: str | None = None
    suspect: bool = False  # locked and claimed by nobody: orphaned if the proof succeeds
    inherited: tuple[Claim, ...] = ()  # left out because a fork had copied them
    rivals: tuple[Claim, ...] = ()  # more than can hold it
    lost: int = 0  # units that are taken and claimed by nobody, while others are claimed or left
    proved: bool = False  # that they are
    barred: bool = False  # proved orphaned, but for processes that cannot be asked whether they map it

    @property
    def doubtful(self) -> bool:
        """True if there is something to prove."""
        return self.suspect or self.lost > 0


def judge(reading: Reading, left_over: Mapping[ProcessId, int], handed_over: bool = False) -> Verdict:
    """The verdict on a lock; `left_over` are counts that belong to no hold: they stood while the lock was free, or were
    copied by a fork. `handed_over`: processes were seen to release what others took.
    """
    if reading.value is None:
        return Verdict("unknown", reason="its value could not be read")
    if reading.maxvalue is None:
        return Verdict("unknown", reason=_no_object(reading))
    if not reading.steady:
        return Verdict("unknown", reason="in flux: it changed during every attempt to read it")
    if reading.maxvalue == SEM_VALUE_MAX:
        return _judge_open_ended(reading)
    taken = reading.maxvalue - reading.value
    if taken <= 0:
        over = f"its value {reading.value} is above its maximum {reading.maxvalue}" if taken < 0 else None
        return Verdict("free", reason=over)
    if handed_over or any(c.count < 0 for c in reading.claims):
        return Verdict("unknown", reason="holder unknown: processes release what others took, so counts do not show it")
    return _judge_taken(reading, taken, left_over)


def _no_object(reading: Reading) -> str:
    if reading.blind:
        return f"no SemLock could be read in {_pids(reading.blind)}"
    return "no process that maps it has a SemLock object for it: not made by Python's multiprocessing?"


def _judge_open_ended(reading: Reading) -> Verdict:
    """A Semaphore does not keep the value that it began with, so units cannot be missed: it is never orphaned."""
    empty = reading.value == 0
    if any(c.count < 0 for c in reading.claims):
        return Verdict("exhausted" if empty else "free", reason="one process gives what another takes: nobody holds it")
    holders = _without_inherited(_positive(reading.claims))
    if holders:
        return Verdict("exhausted" if empty else "held", holders)
    if empty:
        return Verdict("exhausted", reason="at 0 with no claim: a Semaphore that began at 0, or whose holders are gone")
    return Verdict("free")


def _judge_taken(reading: Reading, taken: int, left_over: Mapping[ProcessId, int]) -> Verdict:
    claims = _positive([_less(c, left_over.get(c.process, 0)) for c in reading.claims])
    inherited: tuple[Claim, ...] = ()
    if _units(claims, reading.kind) > taken:
        own = _without_inherited(claims)
        inherited, claims = tuple(c for c in claims if c not in own), own
    units = _units(claims, reading.kind)
    if units == taken:
        return Verdict(_state(reading), claims, inherited=inherited)
    if units > taken:
        return Verdict(
            "unknown",
            reason=f"ambiguous: {_pids([c.process for c in claims])} claim {units} for {taken} taken",
            rivals=claims,
        )
    if reading.blind:
        return Verdict("unknown", claims, f"holder unknown: {_pids(reading.blind)} cannot be read and may hold it")
    if claims or reading.value:
        lost = taken - units
        verb = "is" if lost == 1 else "are"
        reason = f"{lost} of {taken} taken {verb} claimed by no living process"
        return Verdict(_state(reading), claims, reason, lost=0 if any(left_over.values()) else lost)
    if any(c.count for c in reading.claims):
        return Verdict("unknown", reason="holder unknown: the only claims are left over from a fork or a hand-over")
    return Verdict("unknown", reason="locked, and no living process claims it", suspect=True)


def _less(claim: Claim, left_over: int) -> Claim:
    return replace(claim, count=claim.count - left_over) if left_over else claim


def _state(reading: Reading) -> LockState:
    if reading.maxvalue != 1:
        return "held" if reading.value else "exhausted"
    return "contended" if reading.waiting else "held"


def _positive(claims: Sequence[Claim]) -> tuple[Claim, ...]:
    return tuple(c for c in claims if c.count > 0)


def _units(claims: Sequence[Claim], kind: int | None) -> int:
    """An RLock's count is its depth: however deep, it took one unit."""
    return len(claims) if kind == RECURSIVE_MUTEX else sum(c.count for c in claims)


def _without_inherited(claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
    """Leaves out what a fork copied: a child's claim that its living parent makes too, by the same thread and count."""
    by_pid = {c.process.pid: c for c in claims}
    return tuple(c for c in claims if not _same(c, by_pid.get(c.parent)))


def _same(child: Claim, parent: Claim | None) -> bool:
    return parent is not None and (child.count, child.last_tid) == (parent.count, parent.last_tid)


def _pids(processes: Sequence[ProcessId]) -> str:
    few = ", ".join(str(p.pid) for p in processes[:4])
    return f"PID {few}" + (f" and {len(processes) - 4} more" if len(processes) > 4 else "")
