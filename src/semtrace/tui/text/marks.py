"""Mark what nobody can get any more, by the wait graph and the findings: the same in all panes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Literal

from semtrace.model import FindingCode, Lock, ProcessId, Root, RootKind, Snapshot, Target
from semtrace.tui.text.signs import CYCLE, WARNING
from semtrace.waits.workers import serving_waits, waits_by_process, worker_states

Mark = Literal["deadlock", "stuck"]
MARK_SIGNS: dict[Mark, str] = {"deadlock": CYCLE, "stuck": WARNING}
MARK_MEANINGS: dict[Mark, str] = {
    "deadlock": "threads wait for each other; f shows the evidence",
    "stuck": "blocked, and nothing that lives can wake it",
}


class Marks:
    """Marks of things that threads wait for. `deadlock`: this is part of the ring of a finding.

    `stuck`: a thread waits for it, and nothing that lives can wake that thread. This includes waits behind a ring.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        graph = snapshot.waits
        found = {
            lock.id or (lock.process, lock.name)
            for finding in snapshot.findings
            if finding.code is FindingCode.DEADLOCK and finding.over_s is None
            for lock in finding.locks
        }
        ring = {
            (each.process, each.tid)
            for finding in snapshot.findings
            if finding.code is FindingCode.DEADLOCK and finding.over_s is None
            for each in finding.threads
        }
        rings = (root for root in graph.roots if _is_ring(root, found, ring))
        self._marks: dict[Hashable, Mark] = {
            _key(wait.target): "stuck" for wait in graph.waits if wait.thread in graph.stuck and not wait.idle
        }
        self._marks |= {_key(target): "deadlock" for root in rings for target in root.targets}
        self._marks |= dict.fromkeys(found, "deadlock")

    def of_lock(self, lock: Lock) -> Mark | None:
        """Return its mark; an orphaned lock has none, because its state matters more."""
        return None if lock.state == "orphaned" else self._marks.get(lock.id)

    def of_private(self, process: ProcessId, name: str) -> Mark | None:
        return self._marks.get((process, name))

    def of_target(self, target: Target) -> Mark | None:
        return self._marks.get(_key(target))


def mark_text(mark: Mark) -> str:
    """Return `⚠ stuck`."""
    return f"{MARK_SIGNS[mark]} {mark}"


def stuck_processes(snapshot: Snapshot) -> frozenset[ProcessId]:
    """Return the workers that are stuck, and other processes that are kept from their work in the same way."""
    stuck = snapshot.waits.stuck
    if not stuck:
        return frozenset()
    states = worker_states(snapshot).states
    waits, server = waits_by_process(snapshot.waits), snapshot.server
    return frozenset(
        process.id
        for process in snapshot.processes
        if states.get(process.id) == "stuck"
        or (
            process.id not in states
            and any(wait.thread in stuck for wait in serving_waits(process, waits.get(process.id, []), server, stuck))
        )
    )


def _is_ring(root: Root, things: Collection[Hashable], threads: Collection[Hashable]) -> bool:
    """Return True if a deadlock is about the root: by its locks, or, of pipes and ends, by its threads."""
    if any(_ref(target) in things for target in root.targets):
        return True
    return root.kind is RootKind.RING and any((each.thread.process, each.thread.tid) in threads for each in root.waits)


def _ref(target: Target) -> Hashable:
    """Return what a finding knows a thing by."""
    return target.semaphore or (target.process, target.name)


def _key(target: Target) -> Hashable:
    """Return the same, but tell things apart that have no name."""
    return _ref(target) if target.semaphore or (target.process and target.named) else target
