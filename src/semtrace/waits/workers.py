"""Classify each worker of a server: idle, busy, waiting or stuck. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from semtrace.lazydata import dataclass
from semtrace.model import Frame, Process, ProcessId, Server, Snapshot, ThreadId, Wait, WaitGraph, WaitKind
from semtrace.waits.build import stopped_processes

WorkerState = Literal["idle", "busy", "waiting", "stuck", "stopped"]
WORKING_ROLES = ("worker", "dirty-worker")
SERVING_ROLES = ("master", *WORKING_ROLES)
HELPING_ROLES = ("beat", "scheduler", "monitor", "pusher", "spooler", "router", "forkserver", "manager")

# A thread that waits for one of these waits for another thread or process, and not for work.
WAITING = frozenset(WaitKind) - {WaitKind.PIPE_READ, WaitKind.UNKNOWN}


@dataclass(frozen=True)
class Workers:
    """The state of each worker; a server without workers of its own is one itself."""

    states: Mapping[ProcessId, WorkerState]

    def count(self, state: WorkerState) -> int:
        return list(self.states.values()).count(state)

    def __len__(self) -> int:
        return len(self.states)


def workers(snapshot: Snapshot) -> tuple[Process, ...]:
    """Return the processes that do the work of any pre-forked server.

    Some are known as such. Otherwise they are the processes that have no child in the server, without those that only
    help; a single process is its own.
    """
    known = tuple(process for process in snapshot.processes if process.role in WORKING_ROLES)
    if known:
        return known
    serving = [process for process in snapshot.processes if process.role not in HELPING_ROLES]
    parents = {process.ppid for process in serving}
    leaves = [process for process in serving if process.pid not in parents]
    found = tuple(process for process in leaves if process.id != snapshot.server.id)
    return found or tuple(process for process in snapshot.processes if process.id == snapshot.server.id)


def pool_workers(pids: Collection[int], snapshot: Snapshot) -> list[Process]:
    """Return the children of these processes, also those that a forkserver made for them, without what only helps."""
    servers = {each.pid for each in snapshot.processes if each.role == "forkserver" and each.ppid in pids}
    return [each for each in snapshot.processes if each.ppid in {*pids, *servers} and each.role not in HELPING_ROLES]


def waits_by_process(graph: WaitGraph) -> dict[ProcessId, list[Wait]]:
    """Return the waits of each process, without those for work."""
    return _by_process(wait for wait in graph.waits if not wait.idle and wait.target.kind is not WaitKind.UNKNOWN)


def worker_states(snapshot: Snapshot) -> Workers:
    waits, stopped = _by_process(snapshot.waits.waits), stopped_processes(snapshot)
    return Workers({each.id: _state(each, waits.get(each.id, []), snapshot, stopped) for each in workers(snapshot)})


def serving_waits_by_worker(snapshot: Snapshot) -> dict[ProcessId, list[Wait]]:
    """Return for each worker the waits that keep it from its work: an empty list for one that goes on."""
    waits = _by_process(snapshot.waits.waits)
    stuck = snapshot.waits.stuck
    server = snapshot.server
    return {each.id: serving_waits(each, waits.get(each.id, []), server, stuck) for each in workers(snapshot)}


def _by_process(waits: Iterable[Wait]) -> dict[ProcessId, list[Wait]]:
    found: dict[ProcessId, list[Wait]] = {}
    for wait in waits:
        found.setdefault(wait.thread.process, []).append(wait)
    return found


def _state(process: Process, waits: list[Wait], snapshot: Snapshot, stopped: frozenset[ProcessId]) -> WorkerState:
    if process.id in stopped:
        return "stopped"
    serving = serving_waits(process, waits, snapshot.server, snapshot.waits.stuck)
    if any(wait.thread in snapshot.waits.stuck for wait in serving):
        return "stuck"
    if serving:
        return "waiting"
    return "idle" if process.idle or any(wait.idle for wait in waits) else "busy"


def serving_waits(process: Process, waits: list[Wait], server: Server, stuck: Collection[ThreadId] = ()) -> list[Wait]:
    """Return the waits that keep a process from its work. Waits for data count if it can never come.

    The wait of its first thread decides. While that goes on, others count only if they are all that could do the work.
    """
    if not waits:
        return []
    blocked = [wait for wait in waits if not wait.idle and (wait.target.kind in WAITING or _is_starved(wait, stuck))]
    first = [wait for wait in blocked if wait.thread.tid == process.pid]
    if first or not blocked:
        return first
    if process.role == "worker" and server.kind == "gunicorn":
        return _all_requests(blocked, server)
    if process.idle or process.event_loop:  # it takes what comes
        return []
    idle = sum(wait.idle or wait.target.kind is WaitKind.UNKNOWN for wait in waits)
    others = process.threads - 1 - idle
    # A thread that waits for a signal may be one that others give work to: nothing is kept from its work by that.
    held_up = [wait for wait in blocked if wait.target.kind is not WaitKind.SIGNAL or wait.thread in stuck]
    return held_up if len(held_up) >= others else []


def _all_requests(blocked: list[Wait], server: Server) -> list[Wait]:
    """Return the waits of requests in a gthread worker whose pool has no thread left.

    Workers of other classes serve in their first thread: what else runs there is the application's own.
    """
    pooled = server.worker_class == "gthread"
    requests = [wait for wait in blocked if (any(map(_is_request, wait.stack)) if wait.stack else pooled)]
    return requests if server.threads is not None and len(requests) >= server.threads else []


def _is_request(frame: Frame) -> bool:
    """gunicorn/workers/gthread.py ThreadWorker.handle, 20.1 to 27.0."""
    return frame.file.endswith("/gunicorn/workers/gthread.py")


def _is_starved(wait: Wait, stuck: Collection[ThreadId]) -> bool:
    return wait.target.kind is WaitKind.PIPE_READ and wait.thread in stuck
