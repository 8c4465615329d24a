"""A server and its processes."""

from __future__ import annotations

from typing import Literal

from semtrace.lazydata import dataclass
from semtrace.model.names import ProcessId, Role, SemId

ServerKind = Literal[
    "gunicorn",
    "uwsgi",
    "uvicorn",
    "hypercorn",
    "granian",
    "celery",
    "dramatiq",
    "huey",
    "rq",
    "django-q",
    "python",
]


@dataclass(frozen=True)
class Server:
    """A watched server: the first process of a pre-forked server of some kind, or of another Python process tree.

    `version` is that of the kind's distribution, of a "python" that of Python. `bind` are the addresses that it listens
    on; `timeout_s` and `threads` are gunicorn's `--timeout` and `--threads`; None where it is not known.
    """

    kind: ServerKind
    id: ProcessId
    title: str
    started_at: float
    user: str
    version: str | None = None
    application: str | None = None
    bind: tuple[str, ...] = ()
    worker_class: str | None = None
    timeout_s: float | None = None
    threads: int | None = None

    @property
    def pid(self) -> int:
        return self.id.pid


@dataclass(frozen=True)
class Process:
    """One process of the server.

    `state` is the kernel's word ("running", "sleeping", "stopped", …); `cpu_percent` is of one core, between two
    refreshes; `started_at` is in seconds since the epoch; `holds` and `waits_on` name semaphores. `frozen`: its cgroup
    is, so it can do nothing until somebody thaws it. `idle`: its first thread waits for work; None if not asked.
    `event_loop`: its first thread runs an asyncio event loop.
    """

    id: ProcessId
    ppid: int
    role: Role
    state: str
    rss: int
    threads: int
    started_at: float
    cpu_percent: float | None = None
    last_heartbeat_s: float | None = None
    holds: tuple[SemId, ...] = ()
    waits_on: tuple[SemId, ...] = ()
    frozen: bool = False
    idle: bool | None = None
    event_loop: bool = False

    @property
    def pid(self) -> int:
        return self.id.pid


@dataclass(frozen=True)
class EndedChild:
    """A child of a process of the server that has ended and was not reaped: evidence of how.

    `exit_code` is as in subprocess: negative for a signal; None if it may not be seen. It ended at least `ended_s` ago.
    """

    id: ProcessId
    parent: int
    exit_code: int | None
    ended_s: float | None

    @property
    def pid(self) -> int:
        return self.id.pid


@dataclass(frozen=True)
class Surroundings:
    """The command and folder that a process was started with; None where it could not be read.

    `namespace_pid` is its pid in its own pid namespace, None if that is ours.
    """

    command: tuple[str, ...] | None
    directory: str | None
    user: str | None
    namespace_pid: int | None = None
