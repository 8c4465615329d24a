"""Death certificates: how a process of the server ended, and what it held then."""

from __future__ import annotations

from enum import auto

from semtrace.lazydata import dataclass
from semtrace.model.names import ProcessId, Role, SemId, Word
from semtrace.model.places import Place


class DeathCause(Word):
    """The cause of a process's end. TIMEOUT: gunicorn killed it because its heartbeat was too old. MEMORY: the kernel
    killed it because its cgroup had no memory left. UNKNOWN: nobody could see the cause.
    """

    EXIT = auto()
    SIGNAL = auto()
    TIMEOUT = auto()
    MEMORY = auto()
    UNKNOWN = auto()


@dataclass(frozen=True)
class HeldAtDeath:
    """A lock that the last snapshot before showed as held by the process; `place` is where its thread was."""

    lock: SemId
    name: str
    tid: int | None = None
    place: Place | None = None


@dataclass(frozen=True)
class Death:
    """A process of the server that has ended while it was watched. `exit_code` is as in subprocess: negative for a
    signal; None if it could not be seen. It was found to have ended `ended_s` ago. `silent_s` is how old its last
    heartbeat was in the last snapshot before. `parent` is the PID of its parent, 0 where that is not known.
    """

    id: ProcessId
    role: Role
    cause: DeathCause
    exit_code: int | None
    ended_s: float
    held: tuple[HeldAtDeath, ...] = ()
    silent_s: float | None = None
    parent: int = 0

    @property
    def pid(self) -> int:
        return self.id.pid
