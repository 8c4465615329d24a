"""Scenes for the live view: snapshots of a server with four workers and locks in every state, and sources that play
them back. They are made by the builders of `snapshots`, with values that show in each column.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semtrace.model import (
    Advice,
    Durations,
    Fact,
    Finding,
    FindingCode,
    Holder,
    Lock,
    LockRef,
    LockState,
    Overlap,
    Problem,
    Process,
    Remedy,
    RingLink,
    SemId,
    Server,
    Severity,
    Snapshot,
    Statistics,
    ThreadLock,
    ThreadLockUse,
    ThreadRef,
    TracedEvent,
    Tracing,
    VerdictReason,
    Waiter,
)

from . import snapshots
from .snapshots import BOOT, pid, sem

INT_MAX = 2147483647
EVERYONE = tuple(pid(number) for number in range(4710, 4715))


def server(number: int = 4710, application: str = "myapp:app", **changes: Any) -> Server:
    return snapshots.server(number, application, **{"bind": ("127.0.0.1:8000",), **changes})


def worker(number: int, **changes: Any) -> Process:
    usual = {
        "ppid": 4710,
        "rss": 41 << 20,
        "threads": 2,
        "started_at": BOOT + 1,
        "cpu_percent": 0.3,
        "last_heartbeat_s": 0.4,
    }
    return snapshots.worker(number, **{**usual, **changes})


def master(number: int = 4710) -> Process:
    return snapshots.master(number, rss=25 << 20, cpu_percent=0.0)


def holder(number: int, since_s: float | None = 3.2, count: int = 1) -> Holder:
    return snapshots.holder(number, since_s, count=count)


def waiter(number: int, for_s: float | None = 1.5) -> Waiter:
    return snapshots.waiter(number, for_s, asleep_s=None)


def lock(number: int, state: LockState = "free", *, name: str | None = None, **changes: Any) -> Lock:
    usual = {"state": state, "value": 1 if state == "free" else 0, "mapped_by": EVERYONE}
    return snapshots.lock(name, number, **{**usual, **changes})


def every_state() -> tuple[Lock, ...]:
    return (
        lock(101, name="myapp.lock", state="contended", holders=(holder(4711),), waiters=(waiter(4712), waiter(4713))),
        lock(102, name="myapp.cache_lock", kind="RLock", state="held", holders=(holder(4714, 0.4, 2),)),
        lock(103, name="myapp.pool.slots", kind="BoundedSemaphore", state="exhausted", maximum=3, holders=(
            holder(4711, 12.0, 2), holder(4712, 8.0),
        )),
        lock(104, name="myapp.db.write_lock", state="orphaned", waiters=(waiter(4714, 75.0),)),
        lock(105, state="unknown", reason="two processes claim it, and it was locked at the fork"),
        lock(106, kind="Semaphore", value=4, maximum=INT_MAX),
        lock(107, kind="Semaphore", value=0, maximum=INT_MAX, part_of="myapp.queue", signal=True),
        lock(108, kind="Semaphore", value=0, maximum=INT_MAX, part_of="myapp.queue", signal=True),
    )  # fmt: skip


def workers() -> tuple[Process, ...]:
    return (
        master(),
        worker(4711, state="running", cpu_percent=93.4, holds=(sem(101), sem(103))),
        worker(4712, holds=(sem(103),), waits_on=(sem(101),)),
        worker(4713, waits_on=(sem(101),), rss=1_300 << 20),
        worker(4714, holds=(sem(102),), waits_on=(sem(104),), last_heartbeat_s=None),
    )


def picture(
    locks: Sequence[Lock] | None = None,
    processes: Sequence[Process] | None = None,
    at_s: float = 192.0,
    **changes: Any,
) -> Snapshot:
    usual = {
        "server": server(),
        "taken_at": BOOT + at_s,
        "monotonic_s": at_s,
        "processes": tuple(workers() if processes is None else processes),
        "watched_s": 0.0,
        "cost_s": 0.0012,
    }
    return snapshots.snapshot(*(every_state() if locks is None else locks), asked=False, **{**usual, **changes})


def thread_locks() -> tuple[ThreadLock, ...]:
    def uses(*locked: int) -> tuple[ThreadLockUse, ...]:
        return tuple(ThreadLockUse(pid(number), number in locked) for number in range(4711, 4715))

    overlap = Overlap(3, 2, BOOT + 60, BOOT + 61, (pid(4711), pid(4713)))
    return (
        snapshots.thread_lock("myapp.guard", processes=uses(4711, 4713), overlap=overlap),
        snapshots.thread_lock("myapp.quiet", kind="RLock", processes=uses()),
    )


MY_LOCK = sem(101)


def finding(
    code: str = "deadlock",
    severity: Severity = "error",
    *,
    lock: SemId | None = MY_LOCK,
    name: str = "myapp.lock",
    pids: tuple[int, ...] = (4711,),
    **changes: object,
) -> Finding:
    """By default with two facts and one piece of advice; with the name "" it is about no lock."""
    locks = (LockRef(lock, name, "Lock"),) if name else ()
    threads = tuple(ThreadRef(pid(number), number) for number in pids)
    facts: tuple[Fact, ...] = (VerdictReason("a fact"), VerdictReason("one more"))
    if code == "deadlock" and locks:
        facts = (*facts, RingLink(threads[0], locks[0], locks[0], None))
    plain = Finding(FindingCode(code), severity, locks, threads, facts, Remedy((Advice.RESTART_TO_CLEAR,)))
    return replace(plain, **changes)  # type: ignore[arg-type]


def refused() -> Problem:
    return Problem("reading memory", "operation not permitted", "sudo semtrace 4710", pid(4712))


def eventful() -> Iterator[Snapshot]:
    """Half a minute: 4711 and 4713 take turns with a traced lock, 4712 waits; 4713 dies with it. What events told is
    among it, a finding, and statistics."""
    wait = Durations(40, 4.0, 0.1, 0.9, 0.1, 0.4, 0.8, ((0.03, 6), (0.1, 20), (0.3, 9), (1.0, 5)))
    hold = Durations(90, 20.0, 0.2, 1.0, 0.2, 0.6, 0.9, ((0.1, 30), (0.3, 50), (1.0, 10)))
    events: list[TracedEvent] = []
    for tick in range(31):
        owner = 4711 if tick % 10 < 5 else 4713
        dead = tick > 27
        locks = [
            lock(
                1,
                "orphaned" if dead else "contended",
                name="myapp.orders",
                names=("myapp.orders", "myapp.api.orders"),
                holders=() if dead else (holder(owner, 0.2 + tick % 5),),
                waiters=(waiter(4712, 0.5 + tick % 5),),
                statistics=Statistics(90, 40, 0, wait, hold),
            ),
            lock(2, "held", name="myapp.cache", holders=(holder(4712, float(tick)),), waiters=(waiter(4714, 1.0),)),
        ]
        now = 192.0 + tick
        events.append(
            TracedEvent(
                now - 0.3, pid(4714), 4714, "released", sem(3), "myapp.fast", None, 0.5, "/srv/myapp.py:41", tick
            )
        )
        there = [each for each in (4711, 4712, 4713, 4714) if not (dead and each == 4713)]
        found = (finding("orphaned-lock", lock=sem(1), name="myapp.orders", pids=(4712,)),) if dead else ()
        yield picture(
            [*locks, lock(3, name="myapp.fast")],
            [master(), *(worker(each, threads=1) for each in there)],
            at_s=now,
            findings=found,
            tracing=Tracing(True, tuple(events[-20:]), 1, 1.0, tick, 0),
        )


def crowd(count: int, tick: int = 0) -> Snapshot:
    """`count` workers and as many locks, a tenth of which differ from one tick to the next."""
    processes = [master()]
    locks = []
    for i in range(count):
        busy = (i + tick) % 10 == 0
        me, next_one = 5000 + i, 5000 + (i + 1) % count
        processes.append(worker(me, cpu_percent=float((i * 7 + tick) % 100), holds=(sem(i),) if busy else ()))
        holders = (holder(me, 0.1 * tick),) if busy else ()
        waiters = (waiter(next_one, 0.1 * tick),) if busy else ()
        locks.append(
            lock(i, name=f"myapp.lock_{i:02d}", state="contended" if busy else "free", holders=holders, waiters=waiters)
        )
    return picture(locks, processes, at_s=192.0 + tick / 5)


class Script:
    """A source that shows what it was given last; `show` is for the test's thread."""

    def __init__(self, *snapshots: Snapshot | Exception) -> None:
        self.opened = 0
        self.closed = 0
        self.taken = 0
        self._lock = threading.Lock()
        self._now: Snapshot | Exception = snapshots[0]

    def __call__(self, server: Server) -> Script:
        self.opened += 1
        return self

    def show(self, snapshot: Snapshot | Exception) -> None:
        with self._lock:
            self._now = snapshot

    def snapshot(self) -> Snapshot:
        with self._lock:
            self.taken += 1
            now = self._now
        if isinstance(now, Exception):
            raise now
        return now

    def close(self) -> None:
        self.closed += 1


class Ticking:
    """A source whose pictures come from `make(tick)`."""

    def __init__(self, make: Callable[[int], Snapshot]) -> None:
        self._make = make
        self._tick = 0

    def snapshot(self) -> Snapshot:
        self._tick += 1
        return self._make(self._tick)

    def close(self) -> None:
        pass


class FakeChild:
    """A server that semtrace started."""

    def __init__(self) -> None:
        self.pid = 4710
        self.running = True
        self.exit_code = 1
        self.leave = False
        self.log = Path("/tmp/server.log")
        self.lines = ["Booting worker", "a\tb \x1b[31mred"]

    def output(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines
