"""The words of the project as frozen values: a snapshot of one server and all that it consists of.

Nothing here reads anything. Times ending in `_s` are seconds, sizes are bytes, and what was not measured is None.
"""

from __future__ import annotations

from semtrace.model.locks import DeadHolder, Holder, LastHolder, Lock, Lost, Stray, Waiter
from semtrace.model.names import (
    RECURSIVE_MUTEX,
    SEM_VALUE_MAX,
    SEMAPHORE,
    EventName,
    Evidence,
    Frame,
    LockState,
    ProcessId,
    Role,
    SemId,
    Severity,
    Unread,
)
from semtrace.model.private import Overlap, ThreadLock, ThreadLockUse
from semtrace.model.server import Process, Server, Surroundings
from semtrace.model.snapshot import Finding, LeakedName, Problem, SharedMemory, Snapshot
from semtrace.model.tracing import Durations, LockOrder, Statistics, TracedEvent, Tracing

__all__ = [
    "RECURSIVE_MUTEX",
    "SEMAPHORE",
    "SEM_VALUE_MAX",
    "DeadHolder",
    "Durations",
    "EventName",
    "Evidence",
    "Finding",
    "Frame",
    "Holder",
    "LastHolder",
    "LeakedName",
    "Lock",
    "LockOrder",
    "LockState",
    "Lost",
    "Overlap",
    "Problem",
    "Process",
    "ProcessId",
    "Role",
    "SemId",
    "Server",
    "Severity",
    "SharedMemory",
    "Snapshot",
    "Statistics",
    "Stray",
    "Surroundings",
    "ThreadLock",
    "ThreadLockUse",
    "TracedEvent",
    "Tracing",
    "Unread",
    "Waiter",
]
