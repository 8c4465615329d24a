"""Identities of processes, threads and locks, and the words for states, roles and severities."""

from __future__ import annotations

import os
from enum import Enum
from typing import Any, Literal, NamedTuple

from semtrace.lazydata import dataclass

# What a process of a server does; "process" where nothing shows it. A "supervisor" starts workers for the master.
Role = Literal[
    "master",
    "worker",
    "dirty-arbiter",
    "dirty-worker",
    "process",
    "supervisor",
    "beat",
    "scheduler",
    "monitor",
    "pusher",
    "mule",
    "spooler",
    "router",
    "forkserver",
    "manager",
    "resource-tracker",
]
LockState = Literal["free", "held", "contended", "exhausted", "orphaned", "unknown"]
Evidence = Literal["memory", "events"]
Severity = Literal["error", "warning", "note"]
Unread = Literal["private-locks", "timeout", "shared-memory", "unused-names", "memory"]
NameSort = Literal["semaphore", "block"]
EventName = Literal["wait", "acquired", "released", "failed", "created", "forked", "exiting"]


# SemLock's kinds and the maxvalue of a Semaphore: Modules/_multiprocessing/semaphore.c,
# Lib/multiprocessing/synchronize.py.
RECURSIVE_MUTEX = 0
SEMAPHORE = 1
SEM_VALUE_MAX = 0x7FFFFFFF


class Word(str, Enum):
    """An enum whose members are strings; `auto()` makes the member's name with hyphens. enum.StrEnum needs 3.11."""

    __str__ = str.__str__

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[Any]) -> str:
        return name.lower().replace("_", "-")


class ProcessId(NamedTuple):
    """A process for as long as the machine is up: pids are reused, the pair is not.

    `start_ticks` is field 22 of `/proc/PID/stat`: clock ticks since boot.
    """

    pid: int
    start_ticks: int


class ThreadId(NamedTuple):
    """A thread by its process and the kernel's number for it, which is unique on the machine while it lives."""

    process: ProcessId
    tid: int


class SemId(NamedTuple):
    """A semaphore's identity: the device and inode of the file that is mapped."""

    major: int
    minor: int
    inode: int

    @classmethod
    def of_file(cls, status: os.stat_result) -> SemId:
        return cls(os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)

    def __str__(self) -> str:
        return f"{self.major}:{self.minor}:{self.inode}"


@dataclass(frozen=True)
class Frame:
    """One frame of a Python stack; `source` is that line of the file, where it could be read."""

    function: str
    file: str
    line: int
    source: str | None = None


@dataclass(frozen=True)
class LeakedName:
    """A file that is still listed in /dev/shm though no process maps it; `age_s` is since it was made or resized.

    `sort` says what Python made it for: "block" is multiprocessing.shared_memory.SharedMemory. `size` is how many bytes
    of /dev/shm it takes, which may be less than its length.
    """

    id: SemId
    name: str
    age_s: float
    user: str
    sort: NameSort = "semaphore"
    size: int = 0
