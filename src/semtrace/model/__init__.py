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
    ThreadId,
    Unread,
)
from semtrace.model.private import Overlap, ThreadLock, ThreadLockUse
from semtrace.model.server import Process, Server, Surroundings
from semtrace.model.snapshot import Finding, LeakedName, Problem, SharedMemory, Snapshot
from semtrace.model.tracing import Durations, LockOrder, Statistics, TracedEvent, Tracing
from semtrace.model.waits import Doubt, Root, RootKind, Target, Wait, WaitGraph, WaitKind, Wakers

__all__ = [
    "RECURSIVE_MUTEX",
    "SEMAPHORE",
    "SEM_VALUE_MAX",
    "DeadHolder",
    "Doubt",
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
    "Root",
    "RootKind",
    "SemId",
    "Server",
    "Severity",
    "SharedMemory",
    "Snapshot",
    "Statistics",
    "Stray",
    "Surroundings",
    "Target",
    "ThreadId",
    "ThreadLock",
    "ThreadLockUse",
    "TracedEvent",
    "Tracing",
    "Unread",
    "Wait",
    "WaitGraph",
    "WaitKind",
    "Waiter",
    "Wakers",
]
