"""Name the thread where a process has several: `4711/4720`. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from semtrace.model import Holder, Lock, Process, ProcessId, Snapshot
from semtrace.tui.text.grid import Cell, Row
from semtrace.tui.text.marks import mark_text
from semtrace.tui.text.rows import LOCKS, WORKERS, held_by

_HELD_BY = next(place for place, column in enumerate(LOCKS) if column.title == "HELD BY")
_STATE = next(place for place, column in enumerate(WORKERS) if column.title == "STATE")
_WAITS_FOR = next(place for place, column in enumerate(WORKERS) if column.title == "WAITS FOR")


def threaded(snapshot: Snapshot) -> frozenset[ProcessId]:
    """Return the processes with several threads: their PID does not identify the thread."""
    return frozenset(process.id for process in snapshot.processes if process.threads > 1)


def holder_text(holder: Holder, several: frozenset[ProcessId]) -> str:
    """Return `4711/4720×2`: the thread, where the process has several and it is another than the main one."""
    if holder.tid is None or holder.tid == holder.pid or holder.process not in several:
        return held_by(holder)
    return f"{holder.pid}/{holder.tid}{held_by(holder)[len(str(holder.pid)) :]}"


def with_threads(rows: Iterable[Row], locks: Iterable[Lock], several: frozenset[ProcessId]) -> list[Row]:
    """Return the rows of locks with the threads of their holders."""
    texts: dict[Hashable, str] = {
        lock.id: " ".join(holder_text(holder, several) for holder in lock.holders)
        for lock in locks
        if any(holder.process in several for holder in lock.holders)
    }
    return [_replaced(row, _HELD_BY, texts[row.id]) if row.id in texts else row for row in rows]


def with_two_threads(rows: Iterable[Row], snapshot: Snapshot) -> list[Row]:
    """Return the rows of processes, with a remark if one thread holds and another waits.

    It takes the place of the kernel's word, which is the first thread's alone, because names need all other room.
    """
    two: set[Hashable] = {process.id for process in snapshot.processes if two_threads(process, snapshot)}
    return [_with_remark(row) if row.id in two else row for row in rows]


def _with_remark(row: Row) -> Row:
    state = row.cells[_STATE]
    if state.text == mark_text("stuck"):
        return _replaced(row, _WAITS_FOR, f"{row.cells[_WAITS_FOR].text} (another thread)")
    sign = state.text.partition(" ")[0]
    return _replaced(row, _STATE, f"{sign} 2 threads")


def _replaced(row: Row, place: int, text: str) -> Row:
    cell: Cell = row.cells[place]
    return row._replace(cells=(*row.cells[:place], cell._replace(text=text), *row.cells[place + 1 :]))


def two_threads(process: Process, snapshot: Snapshot) -> str:
    """Say that one thread holds and another waits, where a process does both; nothing where that is not known."""
    if process.threads < 2:
        return ""
    holding = {
        holder.tid for lock in snapshot.locks for holder in lock.holders if holder.process == process.id and holder.tid
    }
    waiting = {wait.thread.tid for wait in snapshot.waits.waits if wait.thread.process == process.id and not wait.idle}
    if not holding or not waiting or holding & waiting:
        return ""
    return f"thread {min(holding)} holds, thread {min(waiting)} waits"
