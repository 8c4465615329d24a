"""Describe what a thread waits for. Pure."""

from __future__ import annotations

from semtrace.model import Inside, Target, Wait, WaitKind, place_of
from semtrace.present.places import line_text
from semtrace.present.wording import import_lock, variable_name
from semtrace.text import clean

_NAMELESS = {
    WaitKind.SHARED_LOCK: "a shared lock",
    WaitKind.SIGNAL: "a signal",
    WaitKind.PRIVATE_LOCK: "a private lock",
    WaitKind.PROCESS_END: "the end of a child",
    WaitKind.THREAD_END: "the end of a thread",
    WaitKind.PIPE_READ: "data from a pipe",
    WaitKind.PIPE_WRITE: "room in a pipe",
    WaitKind.FILE_LOCK: "a file lock",
    WaitKind.MANAGER_LOCK: "a lock of a Manager",
    WaitKind.UNKNOWN: "something in a library",
}


def target_text(target: Target) -> str:
    """Return `shop.lock`, `the end of PID 5`, `room in a pipe`."""
    if target.kind is WaitKind.PROCESS_END and target.process is not None:
        return f"the end of PID {target.process.pid}"
    if target.kind is WaitKind.THREAD_END and target.name:
        return f"the end of thread {clean(target.name)}"
    if target.kind is WaitKind.FILE_LOCK and target.path:
        return f"the lock of {clean(target.path)}"
    if target.kind is WaitKind.SIGNAL and target.semaphore is not None and target.part_of:
        return clean(target.part_of)
    if target.inside is Inside.IMPORT:
        return import_lock(target.name)
    if target.variable and target.kind is WaitKind.PRIVATE_LOCK:
        return variable_name(target.name)
    return clean(target.name) or _NAMELESS[target.kind]


def wait_place(wait: Wait) -> str:
    """Return `shop.py:42 in pay`, an empty string where it is not known."""
    place = place_of(wait)
    return "" if place is None else line_text(place)
