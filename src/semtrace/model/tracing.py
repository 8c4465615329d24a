"""Events of traced locks, and their statistics."""

from __future__ import annotations

from semtrace.lazydata import dataclass
from semtrace.model.names import EventName, ProcessId, SemId


@dataclass(frozen=True)
class Durations:
    """Durations of waits or holds. `count` are those that ended; quantiles are of those that were watched, and at most
    1.6 % off. `spread` is of those as well: how many were shorter than each bound in seconds and not than the one
    before.
    """

    count: int = 0
    total_s: float = 0.0
    mean_s: float | None = None
    max_s: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    spread: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True)
class Statistics:
    """The counters of a traced lock, over all its processes since each began. `wait` is of contended acquires alone.

    `sites` are the lines that acquired it since the watching began, the one that held it the longest first. A site's
    own statistics have none.
    """

    acquired: int
    contended: int
    failed: int
    wait: Durations
    hold: Durations
    sites: tuple[tuple[str, Statistics], ...] = ()

    @property
    def contention(self) -> float | None:
        """Which part of the acquires had to wait, 0 to 1."""
        return self.contended / self.acquired if self.acquired else None


@dataclass(frozen=True)
class TracedEvent:
    """One act of a traced lock, or of its process. `t_s` is CLOCK_MONOTONIC, `sequence` the process's own number."""

    t_s: float
    process: ProcessId
    tid: int
    event: EventName
    lock: SemId | None
    name: str | None
    wait_s: float | None
    held_s: float | None
    site: str | None
    sequence: int


@dataclass(frozen=True)
class LockOrder:
    """An acquire of `inner` by a thread that held `outer` and `also_held`, at these lines. `threads` are the first two
    that did it: process and tid.
    """

    outer: SemId
    inner: SemId
    outer_site: str
    inner_site: str
    threads: tuple[tuple[ProcessId, int], ...]
    also_held: frozenset[SemId] = frozenset()


@dataclass(frozen=True)
class Tracing:
    """The events of the traced locks. `recent` are the last, of fast ones one in `one_in`; `rate` is a second.
    `orders` are those of pairs of locks that were seen in both orders.

    `received` and `lost` count records since the watching began; `live` is False where only state files are read.
    """

    live: bool
    recent: tuple[TracedEvent, ...] = ()
    one_in: int = 1
    rate: float = 0.0
    received: int = 0
    lost: int = 0
    orders: tuple[LockOrder, ...] = ()
