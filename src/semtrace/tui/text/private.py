"""The pane of private locks: those with a name, and what else threads of one process wait for within it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from semtrace.lazydata import dataclass
from semtrace.model import Holder, Overlap, ProcessId, Snapshot, Target, ThreadLock, Wait, WaitKind
from semtrace.present.waits import target_text
from semtrace.text import UNKNOWN, clean
from semtrace.tui.text.grid import Cell, Column, Row, natural
from semtrace.tui.text.marks import MARK_SIGNS, Mark, Marks, mark_text
from semtrace.tui.text.rows import LONG_S, NOTHING, counted_pids, pids, since
from semtrace.tui.text.signs import WARNING

COLUMNS = (
    Column("STATE", 7, 11, 0, marked=True, sparse=True),
    Column("NAME", 14, 48, 0, cut="start"),
    Column("KIND", 6, 16, 7),
    Column("LOCKED NOW IN", 14, 30, 1, marked=True, cut="words"),
    Column("HELD BY", 8, 28, 3, cut="words", sparse=True),
    Column("FOR", 7, 7, 6, right=True, sparse=True),
    Column("WAITERS", 8, 30, 2, cut="words", sparse=True),
    Column("WAITED", 7, 7, 4, right=True, sparse=True),
    Column("REMARK", 28, 60, 5),
)

_PRIVATE = (WaitKind.PRIVATE_LOCK, WaitKind.SIGNAL)
_BLANK = "none"


@dataclass(frozen=True)
class PrivateWaits:
    """Waits for private locks: for those with a name by that name, and for those without a name."""

    of_lock: Mapping[str, Sequence[Wait]]
    nameless: Mapping[Target, Sequence[Wait]]


def private_waits(snapshot: Snapshot) -> PrivateWaits:
    """Sort the waits for private locks and signals; threads that wait for work are left out."""
    named = {lock.name for lock in snapshot.thread_locks}
    of_lock: dict[str, list[Wait]] = {}
    nameless: dict[Target, list[Wait]] = {}
    for wait in snapshot.waits.waits:
        target = wait.target
        if wait.idle or target.kind not in _PRIVATE or target.semaphore is not None or target.process is None:
            continue
        if target.name in named:
            of_lock.setdefault(target.name, []).append(wait)
        else:
            nameless.setdefault(target, []).append(wait)
    return PrivateWaits(of_lock, nameless)


def private_rows(snapshot: Snapshot, waits: PrivateWaits, marks: Marks) -> Iterator[Row]:
    for lock in snapshot.thread_locks:
        yield _lock_row(lock, waits.of_lock.get(lock.name, ()), marks)
    for target, waiting in waits.nameless.items():
        yield _nameless_row(target, waiting, marks)


def thread_pid(process: ProcessId, tid: int | None) -> str:
    """Return `4711`, or `4711/4720` of a thread that is not the first."""
    return str(process.pid) if tid in (None, process.pid) else f"{process.pid}/{tid}"


def _lock_row(lock: ThreadLock, waiting: Sequence[Wait], marks: Marks) -> Row:
    locked = [use.process for use in lock.processes if use.locked]
    found = {marks.of_private(use.process, lock.name) for use in lock.processes}
    mark: Mark | None = next((each for each in MARK_SIGNS if each in found), None)
    holders = [use.holder for use in lock.processes if use.holder is not None]
    style = "warning" if lock.overlap else "" if locked else "dim"
    remark = "; ".join(_remarks(lock)) or "one copy per process"
    cells = (
        _mark_cell(mark),
        Cell(clean(lock.name), "strong"),
        Cell(lock.kind, "dim"),
        Cell(pids(locked) or _BLANK, style, len(locked)),
        *_held_cells(holders),
        *_waiting_cells(waiting),
        Cell(remark, "warning" if lock.overlap else "dim"),
    )
    return Row(lock.name, cells, (_rank(mark, waiting), natural(lock.name)))


def _nameless_row(target: Target, waiting: Sequence[Wait], marks: Marks) -> Row:
    mark = marks.of_target(target)
    owner = str(target.process.pid) if target.process else UNKNOWN
    signal = target.kind is WaitKind.SIGNAL
    holders = dict.fromkeys(thread for wait in waiting for thread in wait.holders or ())
    cells = (
        _mark_cell(mark),
        Cell(target_text(target)),
        Cell("signal" if signal else UNKNOWN, "dim"),
        Cell("", "dim", 0) if signal else Cell(owner, "", 1),
        Cell(" ".join(thread_pid(*each) for each in holders), "held"),
        NOTHING,
        *_waiting_cells(waiting),
        Cell(f"only in {owner}", "dim"),
    )
    return Row(target, cells, (_rank(mark, waiting), natural(target_text(target) or "~"), owner, target.address or 0))


def _mark_cell(mark: Mark | None) -> Cell:
    return Cell(mark_text(mark), "bad") if mark else NOTHING


def _held_cells(holders: Sequence[Holder]) -> tuple[Cell, Cell]:
    """Return who holds it, where that is known, and the longest hold."""
    if not holders:
        return NOTHING, NOTHING
    longest = max(holders, key=lambda holder: holder.since_s or 0.0)
    held = " ".join(thread_pid(holder.process, holder.tid) for holder in holders)
    return Cell(held, "held"), Cell(since(longest.since_s, longest.evidence), "", longest.since_s or 0.0)


def _waiting_cells(waiting: Sequence[Wait]) -> tuple[Cell, Cell]:
    """Return who waits, and the longest wait."""
    if not waiting:
        return NOTHING, NOTHING
    patient = max(waiting, key=_waited)
    return (
        Cell(counted_pids(wait.thread.process for wait in waiting), "waiting", len(waiting)),
        Cell(since(patient.for_s, patient.evidence), "dim", _waited(patient)),
    )


def _remarks(lock: ThreadLock) -> Iterator[str]:
    if lock.overlap is not None:
        yield _overlap(lock.overlap)
    inherited = [use.process for use in lock.processes if use.inherited]
    if inherited:
        yield f"locked since the fork in {pids(inherited)}"


def _overlap(overlap: Overlap) -> str:
    return f"{WARNING} {overlap.most} inside at once{'' if overlap.times == 1 else f', {overlap.times} times'}"


def _rank(mark: Mark | None, waiting: Iterable[Wait]) -> int:
    """Put what is wrong first, then what has long been waited for; the rest keeps its place."""
    if mark is not None:
        return 0
    return 1 if any(_waited(wait) >= LONG_S for wait in waiting) else 2


def _waited(wait: Wait) -> float:
    return wait.for_s or 0.0
