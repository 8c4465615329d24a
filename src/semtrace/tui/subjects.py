"""What a row is about: from its identity to the process or lock of a snapshot, and what there is to say. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from semtrace.model import Lock, Process, Snapshot, Surroundings, ThreadLock
from semtrace.observe.separate import combine
from semtrace.tui.entries import NOTHING_BESIDE, Beside, lock_entries, private_entries, process_entries
from semtrace.tui.entry import Entry
from semtrace.tui.rows import deadlocked, label
from semtrace.tui.sentences import lock_sentence, private_sentence, process_sentence

Subject = Process | Lock | ThreadLock


def find(row: Hashable, snapshot: Snapshot) -> Subject | None:
    """None if it is gone."""
    everything: tuple[tuple[Hashable, Subject], ...] = (
        *((process.id, process) for process in snapshot.processes),
        *((lock.id, lock) for lock in combine(snapshot.locks)),
        *((lock.name, lock) for lock in snapshot.thread_locks),
    )
    return next((subject for identity, subject in everything if identity == row), None)


def sentence(row: Hashable, snapshot: Snapshot) -> str:
    """What is over is not told as if it were so now."""
    said = _sentence(row, snapshot)
    return said if snapshot.alive or not said else f"Then: {said}"


def _sentence(row: Hashable, snapshot: Snapshot) -> str:
    match find(row, snapshot):
        case Lock() as lock:
            return ("DEADLOCK: " if lock.id in deadlocked(snapshot) else "") + lock_sentence(lock)
        case Process() as process:
            return process_sentence(process, snapshot)
        case ThreadLock() as private:
            return private_sentence(private)
    return ""


def title(row: Hashable, snapshot: Snapshot) -> str:
    match find(row, snapshot):
        case Lock() as lock:
            return f"Lock {label(lock)}"
        case Process() as process:
            return f"{process.role.capitalize()} {process.pid}"
    return f"Thread lock {row}"


def entries(
    row: Hashable, snapshot: Snapshot, beside: Beside = NOTHING_BESIDE, surroundings: Surroundings | None = None
) -> Iterable[Entry]:
    match find(row, snapshot):
        case Lock() as lock:
            return lock_entries(lock, snapshot, beside)
        case Process() as process:
            return process_entries(process, snapshot, surroundings)
        case ThreadLock() as private:
            return private_entries(private)
    return [Entry("", "It is gone.", "dim")]
