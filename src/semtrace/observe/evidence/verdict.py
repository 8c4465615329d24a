"""Judge who holds a semaphore by one reading of it. Pure: the same reading always gives the same verdict.

A claim is a process's SemLock whose count says that it acquired. Claims are not proof. A fork copies them, and a lock
taken in one process and released in another leaves +1 and -1 behind. There is also a moment between taking the
semaphore and counting it, and another between giving it back and counting that. A verdict is given only where value and
claims account for each other; anything else is "unknown" with its reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field

from semtrace.lazydata import dataclass, replace
from semtrace.model import RECURSIVE_MUTEX, SEM_VALUE_MAX, LockState, ProcessId


@dataclass(frozen=True)
class Claim:
    """The count of one process's SemLock objects for a semaphore.

    `parent` is the PID of the process that it was forked from, 0 where that is not sure. `forked` is False for a
    process that began with an exec, whose counts are all its own. `reaped` is how much its ended children have used, as
    of some moment before. `certain`, of a holder in a verdict: it took what it claims, and did not just inherit the
    count.
    """

    process: ProcessId
    count: int
    last_tid: int
    parent: int = 0
    forked: bool = True
    reaped: int = field(default=0, compare=False)
    certain: bool = True


@dataclass(frozen=True)
class Baseline:
    """The count at which a process holds nothing. `last_tid` is from its SemLock at that time; `proven`: not only
    assumed because the count stood for long.
    """

    count: int
    proven: bool
    last_tid: int = 0


@dataclass(frozen=True)
class Reading:
    """One semaphore as it was read. `value` is None when no process's memory could be read.

    `claims` are those of all processes that map it and could be read; `blind` are the others. `steady` is False when
    value or claims changed in every attempt to read them. `kind` and `maxvalue` are SemLock's, None when no object was
    found; `searching`: it may still be. If more was claimed than can be taken, `exact` are the processes whose count
    cannot have been decreasing. `all_wait` are those whose every thread waits for this semaphore.
    """

    value: int | None
    kind: int | None
    maxvalue: int | None
    claims: tuple[Claim, ...] = ()
    blind: tuple[ProcessId, ...] = ()
    waiting: bool = False
    steady: bool = True
    exact: frozenset[ProcessId] = frozenset()
    all_wait: frozenset[ProcessId] = frozenset()
    searching: bool = False


@dataclass(frozen=True)
class Verdict:
    state: LockState
    holders: tuple[Claim, ...] = ()
    reason: str | None = None
    suspect: bool = False  # locked and claimed by nobody: orphaned if the proof succeeds
    rivals: tuple[Claim, ...] = ()  # claims of which at least one is false
    lost: int = 0  # units that are taken and claimed by nobody, while others are claimed or left
    proved: bool = False  # that they are
    if_ended: str | None = None  # the reason once the server has ended, if a proof was under way
    proof_needs_rights: bool = False  # proved orphaned, but for processes that cannot be asked whether they map it
    dropper: ProcessId | None = None  # it lives, and may have held the lock when it dropped it

    @property
    def doubtful(self) -> bool:
        """Return True if there is something to prove."""
        return self.suspect or self.lost > 0

    @property
    def is_doubt(self) -> bool:
        """Return True if it names nobody for certain, nor says that the lock is free or orphaned."""
        return self.state == "unknown" or (bool(self.holders) and not any(c.certain for c in self.holders))


def judge(reading: Reading, baselines: Mapping[ProcessId, Baseline], handed_over: bool = False) -> Verdict:
    """Return the verdict on a lock, given the counts at which processes hold nothing, as far as they are known.

    `handed_over`: processes were seen to release what others took.
    """
    if reading.value is None:
        return Verdict("unknown", reason="its value could not be read")
    if reading.maxvalue is None:
        return Verdict("unknown", reason=_no_object(reading))
    if not reading.steady:
        return Verdict("unknown", reason="in flux: it changed during every attempt to read it")
    if reading.maxvalue == SEM_VALUE_MAX:
        return _judge_open_ended(reading, baselines, handed_over)
    taken = reading.maxvalue - reading.value
    if taken <= 0:
        over = f"its value {reading.value} is above its maximum {reading.maxvalue}" if taken < 0 else None
        return Verdict("free", reason=over)
    if handed_over or any(c.count < 0 for c in reading.claims):
        return Verdict("unknown", reason="holder unknown: processes release what others took, so counts do not show it")
    return _judge_taken(reading, taken, baselines)


def with_settled(verdict: Verdict, settled: Collection[ProcessId]) -> Verdict:
    """Return the verdict without certainty about these holders: a child that has ended may have released for them."""
    holders = tuple(replace(c, certain=c.certain and c.process not in settled) for c in verdict.holders)
    new = [c.process for c, before in zip(holders, verdict.holders, strict=True) if before.certain and not c.certain]
    if not new:
        return verdict
    reason = f"a child of {_pids(new)} that has ended may have released what it took"
    return replace(verdict, holders=holders, reason=f"{verdict.reason}; {reason}" if verdict.reason else reason)


def taken_by(reading: Reading, taker: ProcessId) -> Verdict:
    """Return the verdict on a lock that nobody claims and that this process alone may just have been granted."""
    reason = f"{_pids([taker])} is acquiring it: it may have it, and has not counted it yet"
    return Verdict(_state(reading), (Claim(taker, 1, 0, certain=False),), reason)


def units(claims: Sequence[Claim], kind: int | None) -> int:
    """Return how many units are claimed. An RLock's count is its depth: however deep, it took one unit."""
    return len(claims) if kind == RECURSIVE_MUTEX else sum(c.count for c in claims)


def holds(claims: Sequence[Claim], kind: int | None, baselines: Mapping[ProcessId, Baseline]) -> tuple[Claim, ...]:
    """Return what is claimed above the baselines, each claim with whether it is certain to be no inherited count."""
    by_pid = {c.process.pid: c for c in claims}
    found = []
    for claim in claims:
        baseline = baselines.get(claim.process)
        if baseline is None:
            if claim.count > 0:
                found.append(replace(claim, certain=not _may_inherit(claim, by_pid)))
        elif count := _above(claim, kind, baseline):
            found.append(replace(claim, count=count))
    return tuple(found)


def _above(claim: Claim, kind: int | None, baseline: Baseline) -> int:
    """A thread that inherited an RLock only counts on when it acquires: it takes itself for the owner."""
    if kind == RECURSIVE_MUTEX and baseline.count > 0 and claim.last_tid == baseline.last_tid:
        return 0
    return max(claim.count - baseline.count, 0)


def _may_inherit(claim: Claim, by_pid: Mapping[int, Claim]) -> bool:
    """Return True if a count can come from the fork: the parent is gone, or it has acquired. The SemLock of a parent
    that never acquired names no thread (Modules/_multiprocessing/semaphore.c newsemlockobject sets last_tid to 0, and
    nothing else does).
    """
    if not claim.forked:
        return False
    parent = by_pid.get(claim.parent)
    if parent is None or parent.process.start_ticks > claim.process.start_ticks:
        return True
    return parent.last_tid != 0


def _no_object(reading: Reading) -> str:
    if reading.blind:
        return f"no SemLock could be read in {_pids(reading.blind)}"
    if reading.searching:
        return "the memory of the processes that map it is still searched for its SemLock object"
    return "no process that maps it has a SemLock object for it: not made by Python's multiprocessing?"


def _judge_open_ended(reading: Reading, baselines: Mapping[ProcessId, Baseline], handed_over: bool) -> Verdict:
    """A Semaphore does not keep the value that it began with, so units cannot be missed: it is never orphaned."""
    empty = reading.value == 0
    if handed_over or any(c.count < 0 for c in reading.claims):
        return Verdict("exhausted" if empty else "free", reason="one process gives what another takes: nobody holds it")
    claimed = holds(reading.claims, reading.kind, baselines)
    if reading.blind:
        return Verdict("unknown", claimed, _cannot_read(reading.blind))
    if claimed:
        return Verdict("exhausted" if empty else "held", claimed, _doubt(claimed))
    if empty:
        return Verdict("exhausted", reason="no unit is left, and no living process claims one")
    return Verdict("free")


def _judge_taken(reading: Reading, taken: int, baselines: Mapping[ProcessId, Baseline]) -> Verdict:
    claimed = holds(reading.claims, reading.kind, baselines)
    missing = taken - units(claimed, reading.kind)
    if missing == 0:
        return Verdict(_state(reading), claimed, _doubt(claimed))
    if missing < 0:
        return _judge_rivals(reading, taken, claimed)
    if reading.blind:
        return Verdict("unknown", claimed, _cannot_read(reading.blind))
    explained = all(baselines[c.process].proven for c in reading.claims if c.count and c.process in baselines)
    if claimed or reading.value:
        verb = "is" if missing == 1 else "are"
        reason = f"{missing} of {taken} taken {verb} claimed by no living process"
        doubt = _doubt(claimed)
        reason = f"{reason}; {doubt}" if doubt else reason
        return Verdict(_state(reading), claimed, reason, lost=missing if explained else 0)
    if not explained:
        return Verdict("unknown", reason="holder unknown: the only claims are left over from a fork or a hand-over")
    return Verdict("unknown", reason="locked, and no living process claims it", suspect=True)


def _judge_rivals(reading: Reading, taken: int, claimed: tuple[Claim, ...]) -> Verdict:
    """Judge a reading in which more is claimed than can be taken. A process that slept meanwhile holds its count.

    A count that may be inherited equals one that was taken: its process may have released what its parent took, and
    taken it again itself. Only one that waits for the lock with all its threads is taken to hold nothing, and then the
    verdict says that this is not certain. For the same reason the count of a process does not disprove the claim of its
    child.
    """
    heirs = tuple(c for c in claimed if not c.certain)
    if not heirs:
        exact = tuple(c for c in claimed if c.process in reading.exact)
        late = [c for c in claimed if c.process not in reading.exact]
        if units(exact, reading.kind) == taken and not any(_descends(c, exact, reading.claims) for c in late):
            return Verdict(_state(reading), exact)
    owners = tuple(replace(c, certain=False) for c in claimed if c.certain)
    if heirs and units(owners, reading.kind) == taken and all(c.process in reading.all_wait for c in heirs):
        reason = f"{_pids([c.process for c in heirs])} inherited the count at the fork and may hold it instead"
        return Verdict(_state(reading), owners, reason, rivals=heirs)
    many = f"{_pids([c.process for c in claimed])} claim {units(claimed, reading.kind)} for {taken} taken"
    return Verdict("unknown", reason=f"ambiguous: {many}", rivals=claimed)


def _descends(claim: Claim, from_: Sequence[Claim], claims: Sequence[Claim]) -> bool:
    """Return True if a process was, or may have been, forked by one of these or by a child of theirs."""
    by_pid = {c.process.pid: c for c in claims}
    ancestors = {c.process.pid for c in from_}
    seen: set[int] = set()
    while claim.forked and claim.process.pid not in seen:
        seen.add(claim.process.pid)
        if not claim.parent or claim.parent in ancestors:
            return True
        if claim.parent not in by_pid:
            return False  # it maps nothing, so nothing of the lock came from it
        claim = by_pid[claim.parent]
    return False


def _cannot_read(blind: Sequence[ProcessId]) -> str:
    return f"holder unknown: {_pids(blind)} cannot be read and may hold it"


def _doubt(claimed: Sequence[Claim]) -> str | None:
    """Return what qualifies the holders, None if nothing does."""
    doubted = [c.process for c in claimed if not c.certain]
    return f"{_pids(doubted)} may only have inherited the count from a process that held it" if doubted else None


def _state(reading: Reading) -> LockState:
    if reading.maxvalue != 1:
        return "held" if reading.value else "exhausted"
    return "contended" if reading.waiting else "held"


def _pids(processes: Sequence[ProcessId]) -> str:
    few = ", ".join(str(p.pid) for p in processes[:4])
    return f"PID {few}" + (f" and {len(processes) - 4} more" if len(processes) > 4 else "")
