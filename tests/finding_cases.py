"""One finding for each code and each way to say it, made by the rules from sick snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sick import (
    SERVER,
    USERS,
    busy,
    embrace,
    found,
    holder,
    lock,
    overlap,
    pid,
    processes,
    ref,
    thread_lock,
    waiter,
)

from semtrace.model import (
    SEM_VALUE_MAX,
    At,
    Contended,
    DeadHolder,
    Durations,
    Elapsed,
    Finding,
    FindingCode,
    LastHolder,
    LeakedName,
    Lock,
    LockOrder,
    Lost,
    Remedy,
    SemId,
    SharedMemory,
    Statistics,
    Stray,
    ThreadRef,
    Tracing,
)
from semtrace.rules import gone_by

LAST = LastHolder(pid(11), 11, seen_s=4.0, held_s=29.5, ended_s=3.5)
DEAD = DeadHolder(pid(11), acquired_s=40.0, alive_s=9.1, gone_s=9.0)
SCRIPT = replace(SERVER, kind="python", worker_class=None, timeout_s=None)


def cases() -> Iterator[tuple[str, Finding]]:
    yield from _orphans()
    yield from _deadlocks()
    yield from _holds()
    yield from _sharing()
    yield from _counts()
    yield from _others()


def _one(*locks: Lock, code: str, **changes: Any) -> Finding:
    return next(finding for finding in found(*locks, **changes) if finding.code == code)


def _orphans() -> Iterator[tuple[str, Finding]]:
    def orphan(**changes: Any) -> Finding:
        server = changes.pop("server", SERVER)
        proved = lock(state="orphaned", reason="locked in all 40 samples over 4.8 s; nobody holds it")
        return _one(replace(proved, **changes), code="orphaned-lock", server=server)

    waiters = (waiter(12, 75.0, stack=USERS), waiter(13, 3.0))
    yield "orphaned, nobody saw the holder", orphan(waiters=waiters)
    yield "orphaned, nobody waits, not under gunicorn", orphan(server=SCRIPT)
    yield "orphaned, one long hold until the timeout", orphan(last_holder=replace(LAST, unbroken_s=29.5))
    yield "orphaned, many short holds", orphan(last_holder=LAST)
    yield "orphaned, no heartbeat until the timeout", orphan(last_holder=replace(LAST, silent_s=29.0))
    yield "orphaned, killed early", orphan(last_holder=replace(LAST, held_s=5.0))
    yield "orphaned, state file, until the timeout", orphan(dead_holder=DEAD)
    yield "orphaned, state file, unknown end", orphan(dead_holder=replace(DEAD, alive_s=None, gone_s=None))
    yield "orphaned, lock of a queue", orphan(name="app.q._wlock", part_of="app.q")
    barred = lock(state="unknown", value=0, reason="PID 7 may map it and cannot be read", barred=True)
    yield "orphaned, but for what only root can see", _one(barred, code="orphaned-lock")
    slots = lock("app.slots", kind="BoundedSemaphore", maximum=2, state="exhausted", holders=(holder(11),))
    lost = replace(slots, lost=Lost(1, proved=True), waiters=(waiter(12),))
    yield "a lost unit", _one(lost, code="orphaned-lock")
    yield "lost units, not proved", _one(replace(slots, lost=Lost(2, False, 11.0)), code="orphaned-lock")


def _deadlocks() -> Iterator[tuple[str, Finding]]:
    a, b = embrace()
    ring = _one(replace(a, waiters=(*a.waiters, waiter(13))), b, code="deadlock")
    yield "deadlock of two", ring
    yield "deadlock of two, over", gone_by(ring, 5.0)
    yield "deadlock, but an outsider may release", _one(replace(a, outsiders=(77,)), b, code="deadlock")
    baton = lock("app.baton", 3, strays=(Stray(pid(13), -2),))
    yield "deadlock, but the program hands locks over", _one(a, b, baton, code="deadlock")
    inside = lock(holders=(holder(11, within=True),), waiters=(waiter(11, stack=USERS), waiter(12)))
    alone = _one(inside, code="deadlock")
    yield "deadlock of one", alone
    yield "deadlock of one, over", gone_by(alone, 5.0)
    gevent = replace(SERVER, worker_class="gevent")
    yield "deadlock of one greenlet", _one(inside, code="deadlock", server=gevent)
    yield "deadlock of one, worker class unknown", _one(inside, code="deadlock", server=SCRIPT)
    gate = lock("app.gate", holders=(holder(11),), waiters=(waiter(11),))
    yield "a gate that others may open", _one(gate, code="deadlock")
    threaded = tuple(replace(each, threads=2) for each in processes())
    slow = replace(gate, waiters=(waiter(11, asleep_s=11.0),))
    yield "a gate that another thread may open", _one(slow, code="deadlock", processes=threaded)
    ring_of_threads = (replace(a, waiters=(waiter(12, 11.0),)), replace(b, waiters=(waiter(11, 11.0),)))
    yield "deadlock, but another thread may release", _one(*ring_of_threads, code="deadlock", processes=threaded)
    for server in (SERVER, SCRIPT):
        mine = thread_lock(locked=(11,))
        use = next(use for use in mine.processes if use.process == pid(11))
        use = replace(use, holder=holder(11), waiters=(waiter(11),))
        private = _one(code="stuck", thread_locks=(replace(mine, processes=(use,)),), server=server)
        yield f"deadlock of one in a private lock, {server.kind}", private


def _holds() -> Iterator[tuple[str, Finding]]:
    stopped = tuple(replace(each, state="stopped") if each.pid == 11 else each for each in processes())
    taken = lock(holders=(holder(11, 1.0),), waiters=(waiter(12, 1.0),))
    halt = _one(taken, code="stopped", processes=stopped)
    yield "a stopped holder", halt
    yield "a stopped holder, over", gone_by(halt, 5.0)
    risk = _one(lock(holders=(holder(11, 16.0),)), code="timeout-risk", processes=busy(17.0))
    yield "gunicorn will kill the holder", risk
    yield "gunicorn would have killed the holder", gone_by(risk, 5.0)
    long = lock(holders=(holder(11, 29.0, asleep_s=29.0, stack=USERS),), waiters=(waiter(12),))
    yield "gunicorn will kill the holder, no heartbeat", _one(long, code="timeout-risk", processes=busy(None))
    held = _one(long, code="long-hold", server=SCRIPT)
    yield "a long hold", held
    yield "a long hold, over", gone_by(held, 5.0)
    yield (
        "a long hold of a traced lock",
        _one(lock(holders=(holder(11, 12.0, evidence="events", site="/srv/app.py:7"),)), code="long-hold"),
    )
    wait = _one(lock(state="unknown", reason="it is in flux", waiters=(waiter(12, 20.0),)), code="long-wait")
    yield "a long wait", wait
    yield "a long wait, over", gone_by(wait, 5.0)
    doubtful = lock(holders=(replace(holder(11, 3.0), certain=False),), waiters=(waiter(12, 20.0), waiter(13, 3.0)))
    yield "a long wait for a doubtful holder", _one(doubtful, code="long-wait")
    permit = lock("app.permit", kind="Semaphore", maximum=SEM_VALUE_MAX, value=0, state="exhausted")
    gone = replace(permit, waiters=(waiter(12, 20.0),), last_holder=LAST)
    yield "a long wait for a Semaphore whose taker is gone", _one(gone, code="long-wait")
    dead = replace(gone, dead_holder=DEAD)
    yield "a long wait for a Semaphore whose taker died", _one(dead, code="long-wait")
    a, b = (replace(permit, name=f"app.{each}", id=SemId(0, 27, 5 + i)) for i, each in enumerate("ab"))
    a = replace(a, holders=(holder(11, 12.0),), waiters=(waiter(12, 12.0),))
    b = replace(b, holders=(holder(12, 12.0),), waiters=(waiter(11, 11.0),))
    ring = _one(a, b, code="long-wait")
    yield "a ring of Semaphores", ring
    yield "a ring of Semaphores, over", gone_by(ring, 5.0)
    yield from _crowds()


def _crowds() -> Iterator[tuple[str, Finding]]:
    hot = lock(holders=(holder(11, 3.0),), waiters=(waiter(12, 3.0, asleep_s=None),), waited_s=50.0)
    hold = Durations(100, 5.0, 0.05, 0.2)
    waits = Durations(80, 8.0, 0.1, 0.4)
    sites = (("/srv/app.py:7", Statistics(100, 80, 0, Durations(), hold)),)
    counts = Statistics(100, 80, 0, waits, hold, sites)
    crowd = _one(replace(hot, statistics=counts), code="contention")
    assert crowd.fact(Contended)
    yield "contention", crowd
    all_along = lock(holders=(holder(11, 5.0, asleep_s=5.0),), waiters=(waiter(12, 5.0),), waited_s=4.0)
    yield "contention by one hold", _one(all_along, code="contention", watched_s=1.5)


def _sharing() -> Iterator[tuple[str, Finding]]:
    yield "a private lock", _one(code="private-lock", thread_locks=(thread_lock(),))
    twice = thread_lock(kind="asyncio.Lock", overlap=overlap(11, 13))
    yield "a private lock, two inside at once", _one(code="private-lock", thread_locks=(twice,))
    once = replace(twice, overlap=replace(overlap(11, 13), times=1))
    yield "a private lock, two inside once", _one(code="private-lock", thread_locks=(once,))
    each = [lock("app.lock", i, separate=3, mapped_by=(pid(11 + i),)) for i in range(3)]
    held = [replace(one, holders=(holder(11 + i, 0.1),)) for i, one in enumerate(each[:2])]
    yield "an unshared lock", _one(*held, each[2], code="unshared-lock")
    things: dict[str, tuple[str, ...]] = {
        "Queue": ("_rlock", "_wlock", "_sem"),
        "Event": ("_cond._lock", "_flag"),
        "Barrier": ("_cond._lock",),
    }
    for kind, pieces in things.items():
        parts = [
            lock(f"app.it.{piece}", 10 * at + i, separate=3, part_of="app.it", mapped_by=(pid(11 + i),))
            for at, piece in enumerate(pieces)
            for i in range(3)
        ]
        yield f"an unshared {kind}", _one(*parts, code="unshared-lock")
    listed = [replace(one, name="app.jobs[0].lock") for one in each]
    yield "an unshared lock in a list", _one(*listed, code="unshared-lock")


def _counts() -> Iterator[tuple[str, Finding]]:
    strays = (Stray(pid(12), 1), Stray(pid(13), 1))
    rlock = lock(kind="RLock", strays=strays, holders=(holder(12, 3.0, asleep_s=2.0),))
    yield "counts that a fork copied", _one(rlock, code="inherited-hold")
    all_wait = lock(
        state="unknown",
        value=0,
        strays=tuple(Stray(pid(number), 1, certain=False) for number in (11, 12, 13)),
        waiters=(waiter(11, 9.0), waiter(12, 5.0), waiter(13, 7.0)),
    )
    yield "all that count it as held wait for it", _one(all_wait, code="inherited-hold")
    for role in ("worker", "process"):
        there = tuple(replace(each, role=role) for each in processes())
        guard = thread_lock(locked=(11, 12))
        uses = tuple(replace(use, inherited=True, waiters=(waiter(use.process.pid),)) for use in guard.processes[:2])
        inherited = _one(code="inherited-hold", thread_locks=(replace(guard, processes=uses),), processes=there)
        yield f"a private lock that was locked at the fork, in a {role}", inherited
    yield "released for another", _one(lock(strays=(Stray(pid(12), -3),)), code="over-release")
    yield "released too often", _one(lock(value=2), code="over-release")


def _others() -> Iterator[tuple[str, Finding]]:
    a, b = (lock(name, number) for number, name in enumerate(("app.a", "app.b"), 1))
    there = LockOrder(a.id, b.id, "/srv/app.py:10", "/srv/app.py:11", ((pid(11), 11),))
    back = LockOrder(b.id, a.id, "/srv/app.py:20", "/srv/app.py:21", ((pid(12), 99),))
    yield "two orders", _one(a, b, code="lock-order", tracing=Tracing(True, orders=(there, back)))
    leaked = tuple(LeakedName(SemId(0, 27, i), f"/mp-{i}", 100.0 + i, "alice") for i in range(8))
    yield "unused names", _one(code="leaked-name", shared_memory=SharedMemory(64 << 20, 60 << 20, leaked))
    yield "no room", _one(code="shm-full", shared_memory=SharedMemory(64 << 20, 500 << 10))
    who = (ThreadRef(pid(11), 11), ThreadRef(pid(12), 12))
    stuck = Finding(FindingCode.STUCK, "error", (ref(),), who, (At(who),), Remedy(()), Elapsed(60.0))
    yield "stuck", stuck
    yield "stuck, over", gone_by(stuck, 5.0)
    yield "a dead worker", replace(stuck, code=FindingCode.WORKER_DIED, locks=(), threads=who[:1])
