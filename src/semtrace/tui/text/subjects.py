"""Subjects of rows: from a row's identity to the process or lock of a snapshot, and the texts about it. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from semtrace.model import EndedChild, Lock, Process, Snapshot, Surroundings, Target, ThreadLock
from semtrace.observe.names.separate import combine
from semtrace.tui.text.entries import ended_entries, private_entries, process_entries
from semtrace.tui.text.entry import Entry
from semtrace.tui.text.lock_entries import NO_CONTEXT, LockContext, lock_entries
from semtrace.tui.text.marks import Marks
from semtrace.tui.text.rows import label
from semtrace.tui.text.sentences import (
    ended_sentence,
    lock_sentence,
    nameless_sentence,
    private_sentence,
    process_sentence,
)
from semtrace.tui.text.threads import two_threads

Subject = Process | EndedChild | Lock | ThreadLock


def find(row: Hashable, snapshot: Snapshot) -> Subject | None:
    """Return the process or lock of the row, None if it is gone."""
    return next((subject for identity, subject in _subjects(snapshot) if identity == row), None)


def _subjects(snapshot: Snapshot) -> Iterator[tuple[Hashable, Subject]]:
    yield from ((process.id, process) for process in snapshot.processes)
    yield from ((child.id, child) for child in snapshot.ended)
    yield from ((lock.id, lock) for lock in combine(snapshot.locks))
    yield from ((lock.name, lock) for lock in snapshot.thread_locks)


def sentence(row: Hashable, snapshot: Snapshot) -> str:
    """Return the sentence about a row, with `Then:` if the server has ended."""
    text = _sentence(row, snapshot)
    return text if snapshot.alive or not text else f"Then: {text}"


def _sentence(row: Hashable, snapshot: Snapshot) -> str:
    if isinstance(row, Target):
        return nameless_sentence(row, snapshot)
    match find(row, snapshot):
        case Lock() as lock:
            mark = Marks(snapshot).of_lock(lock)
            return (f"{mark.upper()}: " if mark else "") + lock_sentence(lock)
        case Process() as process:
            two = two_threads(process, snapshot)
            return process_sentence(process, snapshot) + (f" {two.capitalize()}." if two else "")
        case EndedChild() as child:
            return ended_sentence(child)
        case ThreadLock() as private:
            return private_sentence(private, snapshot)
    return ""


def title(row: Hashable, snapshot: Snapshot) -> str:
    match find(row, snapshot):
        case Lock() as lock:
            return f"Lock {label(lock)}"
        case Process() as process:
            return f"{process.role.capitalize()} {process.pid}"
        case EndedChild() as child:
            return f"Defunct child {child.pid}"
    return f"Private lock {row}"


def entries(
    row: Hashable, snapshot: Snapshot, context: LockContext = NO_CONTEXT, surroundings: Surroundings | None = None
) -> Iterable[Entry]:
    match find(row, snapshot):
        case Lock() as lock:
            return lock_entries(lock, snapshot, context)
        case Process() as process:
            return process_entries(process, snapshot, surroundings)
        case EndedChild() as child:
            return ended_entries(child)
        case ThreadLock() as private:
            return private_entries(private, snapshot)
    return [Entry("", "It is gone.", "dim")]
