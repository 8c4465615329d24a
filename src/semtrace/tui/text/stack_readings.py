"""Python stacks that were read at one time, and the threads for which they are still true in a picture. Pure.

A stack takes a while to read. It is shown for a holder or waiter only if that thread kept its role from the picture
before the reading to one after it. It must also still have that role in the picture that is shown.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

from semtrace.lazydata import dataclass
from semtrace.model import Frame, Lock, Problem, ProcessId, Snapshot, Surroundings
from semtrace.text import age
from semtrace.tui.text import subjects
from semtrace.tui.text.entries import Stacks

SAME_S = 0.1  # The same beginning differs between two pictures by the time that each takes.

Role = tuple[Literal["holds", "waits"], ProcessId, int | None]
Roles = Mapping[Role, float]


@dataclass(frozen=True)
class Reading:
    """One reading. `read_s` is the time of the last picture before it; `proven` are the roles unchanged over it."""

    stacks: Stacks
    problems: Sequence[Problem]
    surroundings: Surroundings | None
    read_s: float
    proven: Roles
    acquired: Mapping[tuple[ProcessId, int | None], Frame]

    def acquired_by(self, row: Hashable, shown: Snapshot) -> Mapping[tuple[ProcessId, int | None], Frame]:
        """Return the frames of acquires, for holders that kept the lock from before the reading until that picture."""
        lasting = {
            (process, tid) for what, process, tid in unchanged_since(self.proven, roles(row, shown)) if what == "holds"
        }
        return {who: frame for who, frame in self.acquired.items() if who in lasting}

    def of(self, row: Hashable, shown: Snapshot) -> Stacks:
        """Return the stacks that are true for the holders and waiters of the lock in that picture."""
        lasting = {(process, tid) for _, process, tid in unchanged_since(self.proven, roles(row, shown))}
        return {
            (process, tid): stack
            for (process, tid), stack in self.stacks.items()
            if (process, tid) in lasting or (process, None) in lasting
        }

    def when(self, shown: Snapshot, paused: bool) -> str:
        """Return when the stacks were read, relative to the time of that picture."""
        ago = shown.monotonic_s - self.read_s
        if ago < 0 or (paused and not ago):
            return f"read {age(max(-ago, 0.0))} or more after this snapshot, which stands still"
        return f"read {age(ago)} {'before this snapshot' if paused else 'ago'}"


def roles(row: Hashable, snapshot: Snapshot) -> Roles:
    """Return the threads that hold and wait for that lock, and since when in CLOCK_MONOTONIC."""
    lock = subjects.find(row, snapshot)
    if not isinstance(lock, Lock):
        return {}
    now = snapshot.monotonic_s
    found: dict[Role, float] = {("holds", each.process, each.tid): now - (each.since_s or 0.0) for each in lock.holders}
    found.update({("waits", each.process, each.tid): now - (each.for_s or 0.0) for each in lock.waiters})
    return found


def unchanged_since(before: Roles, after: Roles) -> Roles:
    """Return the roles that are in both, since the same time."""
    return {role: start for role, start in before.items() if abs(after.get(role, float("inf")) - start) < SAME_S}
