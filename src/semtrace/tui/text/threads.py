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
    threads = _Threads(snapshot)
    two: set[Hashable] = {process.id for process in snapshot.processes if threads.both(process)}
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
    both = _Threads(snapshot).both(process)
    return f"thread {both[0]} holds, thread {both[1]} waits" if both else ""


class _Threads:
    """Which threads of each process hold, and which wait."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._holding: dict[ProcessId, set[int]] = {}
        self._waiting: dict[ProcessId, set[int]] = {}
        for lock in snapshot.locks:
            for holder in lock.holders:
                if holder.tid:
                    self._holding.setdefault(holder.process, set()).add(holder.tid)
        for wait in snapshot.waits.waits:
            if not wait.idle:
                self._waiting.setdefault(wait.thread.process, set()).add(wait.thread.tid)

    def both(self, process: Process) -> tuple[int, int] | None:
        """Return a thread that holds and one that waits, if no thread does both."""
        holding, waiting = self._holding.get(process.id), self._waiting.get(process.id)
        if process.threads < 2 or not holding or not waiting or holding & waiting:
            return None
        return min(holding), min(waiting)
