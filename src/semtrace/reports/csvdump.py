"""The locks of a snapshot as comma-separated values (RFC 4180): one row for each, for a spreadsheet. Pure.

Columns may be added at the end, never renamed or removed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from semtrace.model import Holder, Lock, ProcessId, Snapshot, ThreadLock, ThreadLockUse, Waiter
from semtrace.text import iso

_COLUMNS = (
    "taken_at",
    "server",
    "name",
    "kind",
    "state",
    "value",
    "maximum",
    "holders",
    "held_s",
    "waiters",
    "longest_wait_s",
    "processes",
    "id",
)


def csv_header() -> str:
    return ",".join(_COLUMNS)


def csv_rows(snapshot: Snapshot) -> Iterator[str]:
    """Yield the shared locks, then each process's copies of private ones. Times are in seconds, PIDs separated by
    blanks, and what is not known is empty.
    """
    begin = (iso(snapshot.taken_at), snapshot.server.pid)
    for lock in snapshot.locks:
        if not lock.signal:
            yield _row(*begin, *_shared(lock))
    for private in snapshot.thread_locks:
        for use in private.processes:
            yield _row(*begin, *_private(private, use))


def _shared(lock: Lock) -> tuple[object, ...]:
    return (
        lock.name,
        lock.kind,
        lock.state,
        lock.value,
        lock.maximum,
        _pids(holder.process for holder in lock.holders),
        _longest(holder.since_s for holder in lock.holders),
        *_waiting(lock.waiters),
        _pids(lock.mapped_by),
        lock.id,
    )


def _private(lock: ThreadLock, use: ThreadLockUse) -> tuple[object, ...]:
    holders: tuple[Holder, ...] = (use.holder,) if use.holder is not None else ()
    return (
        lock.name,
        lock.kind,
        "held" if use.locked else "free",
        None,
        None,
        _pids(holder.process for holder in holders),
        _longest(holder.since_s for holder in holders),
        *_waiting(use.waiters),
        use.process.pid,
        None,
    )


def _waiting(waiters: Iterable[Waiter] | None) -> tuple[object, object]:
    if waiters is None:
        return None, None
    found = tuple(waiters)
    return len(found), _longest(waiter.for_s for waiter in found)


def _longest(seconds: Iterable[float | None]) -> str | None:
    known = [each for each in seconds if each is not None]
    return f"{max(known):.3f}" if known else None


def _pids(processes: Iterable[ProcessId]) -> str:
    return " ".join(str(process.pid) for process in processes)


def _row(*cells: object) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["" if cell is None else _safe(str(cell)) for cell in cells])
    return line.getvalue()


def _safe(cell: str) -> str:
    """Names are the target's own choice: a spreadsheet must take none for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t")) else cell
