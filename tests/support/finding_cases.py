"""One finding for each code and each way to say it, made by the rules from sick snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from semtrace.model import (
    SEM_VALUE_MAX,
    Contended,
    DeadHolder,
    Death,
    DeathCause,
    Doubt,
    Durations,
    EndedChild,
    FileClaim,
    FileLockType,
    Finding,
    Frame,
    Inside,
    LastHolder,
    LeakedName,
    Lock,
    LockedFile,
    LockOrder,
    Lost,
    MayStillWake,
    PoolWait,
    Problem,
    ProcessId,
    SemId,
    SharedMemory,
    Statistics,
    Stray,
    Target,
    ThreadId,
    Tracing,
    Wait,
    WaitKind,
    Wakers,
)
from semtrace.rules import gone_by

from .snapshots import (
    SERVER,
    USERS,
    busy,
    embrace,
    failing_workers,
    found,
    frames,
    holder,
    lock,
    overlap,
    pid,
    pool_at_rest,
    processes,
    thread_lock,
    waiter,
)

LAST = LastHolder(pid(11), 11, seen_s=4.0, held_s=29.5, ended_s=3.5)
DEAD = DeadHolder(pid(11), acquired_s=40.0, alive_s=9.1, gone_s=9.0)
SCRIPT = replace(SERVER, kind="python", worker_class=None, timeout_s=None)


def cases() -> Iterator[tuple[str, Finding]]:
    yield from _orphans()
    yield from _deadlocks()
    yield from _stuck()
    yield from _doubts()
    yield from _pools()
    yield from _holds()
    yield from _sharing()
    yield from _counts()
    yield from _others()
    yield from _files()


def _files() -> Iterator[tuple[str, Finding]]:
    def file(name: str | None = None, **changes: Any) -> Lock:
        locked = LockedFile("/srv/report.lock", FileLockType.FLOCK, True, **changes)
        return lock(name, kind="file", value=None, maximum=None, waiters=(waiter(12, 7.0),), file=locked)

    def claim(number: int, taker: int) -> FileClaim:
        return FileClaim(pid(number), FileLockType.FLOCK, True, fd=9, taker=taker)

    yield "of a dead taker", _one(file(claims=(replace(claim(13, 99), taker_ended=True),)), code="inherited-file")
    yield "opened before the fork", _one(file(claims=(claim(11, 11), claim(13, 11))), code="shared-file")
    yield "open twice", _one(file(open_twice=(pid(11),)), code="fragile-file-lock")
    yield "lost", _one(replace(file("shop.report_lock", lost_by=(pid(11),)), waiters=()), code="lost-file-lock")
    yield "of one container", _one(file(filesystem="overlay", local=True), code="local-lock-file")
    yield "left over", _one(file(ended_owner=99), code="stale-lock-file")
    yield "of another host", _one(file(other_host="web-2"), code="stale-lock-file")


def _one(*locks: Lock, code: str, **changes: Any) -> Finding:
    return next(finding for finding in found(*locks, **changes) if finding.code == code)


def _orphans() -> Iterator[tuple[str, Finding]]:
    def orphan(**changes: Any) -> Finding:
        server, deaths = changes.pop("server", SERVER), changes.pop("deaths", ())
        proved = lock(state="orphaned", reason="locked in all 40 samples over 4.8 s; nobody holds it")
        return _one(replace(proved, **changes), code="orphaned-lock", server=server, deaths=deaths)

    waiters = (waiter(12, 75.0, stack=USERS), waiter(13, 3.0))
    yield "orphaned, nobody saw the holder", orphan(waiters=waiters)
    yield "orphaned, nobody waits, not under gunicorn", orphan(server=SCRIPT)
    yield "orphaned, one long hold until the timeout", orphan(last_holder=replace(LAST, unbroken_s=29.5))
    yield "orphaned, many short holds", orphan(last_holder=LAST)
    yield "orphaned, no heartbeat until the timeout", orphan(last_holder=replace(LAST, silent_s=29.0))
    yield "orphaned, killed early", orphan(last_holder=replace(LAST, held_s=5.0))
    yield "orphaned, state file, until the timeout", orphan(dead_holder=DEAD)
    for cause, code in (
        (DeathCause.SIGNAL, -9),
        (DeathCause.TIMEOUT, -6),
        (DeathCause.MEMORY, -9),
        (DeathCause.EXIT, 1),
    ):
        death = Death(pid(11), "worker", cause, code, 3.5, silent_s=31.0)
        yield f"orphaned, death certificate: {cause}", orphan(last_holder=LAST, deaths=(death,))
    death = Death(pid(14), "worker", DeathCause.SIGNAL, -9, 6.0)
    yield "orphaned, two ended before", orphan(orphaned_s=4.0, deaths=(death, replace(death, id=pid(15), ended_s=3.0)))
    yield "orphaned, state file, unknown end", orphan(dead_holder=replace(DEAD, alive_s=None, gone_s=None))
    yield "orphaned, lock of a queue", orphan(name="app.q._wlock", part_of="app.q")
    unproven = lock(state="unknown", value=0, reason="PID 7 may map it and cannot be read", proof_needs_rights=True)
    yield "orphaned, but for what only root can see", _one(unproven, code="orphaned-lock")
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
    loop = frames(("/srv/app.py", "refresh"), ("/usr/lib/python3.12/asyncio/base_events.py", "run_forever"))
    tasks = replace(inside, waiters=(waiter(11, stack=loop),))
    yield "deadlock of one task", _one(tasks, code="deadlock")
    swept = replace(inside, waiters=(waiter(11, stack=frames(("/srv/app.py", "Cache.__del__"))),))
    yield "deadlock of one in a finalizer", _one(swept, code="deadlock")
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
    yield from _deadlocks_of_ends()
    for server in (SERVER, SCRIPT):
        mine = thread_lock(locked=(11,))
        use = next(use for use in mine.processes if use.process == pid(11))
        use = replace(use, holder=holder(11), waiters=(waiter(11),))
        private = _one(code="stuck", thread_locks=(replace(mine, processes=(use,)),), server=server)
        yield f"deadlock of one in a private lock, {server.kind}", private


def _deadlocks_of_ends() -> Iterator[tuple[str, Finding]]:
    two = tuple(replace(each, threads=2) for each in processes())
    first, second = ThreadId(pid(11), 11), ThreadId(pid(11), 111)
    joins = _wait(11, WaitKind.THREAD_END, "Thread-1", wakers=Wakers((second,)))
    joined = _wait(11, WaitKind.THREAD_END, "MainThread", tid=111, wakers=Wakers((first,)))
    yield "deadlock of two joins", _one(code="deadlock", blocked=(joins, joined), processes=two)
    importing = replace(
        _wait(11, WaitKind.PRIVATE_LOCK, "shop", tid=111, wakers=Wakers((first,)), holders=(first,), bound=True),
        target=Target(WaitKind.PRIVATE_LOCK, "shop", process=pid(11), address=8, inside=Inside.IMPORT),
    )
    yield "deadlock of a thread and an import", _one(code="deadlock", blocked=(joins, importing), processes=two)
    result = replace(joins, target=Target(WaitKind.SIGNAL, "a Pool", process=pid(11), address=9))
    yield "a result that is awaited at import", _one(code="stuck", blocked=(result, importing), processes=two)


EVERYONE = (pid(11), pid(12), pid(13))
FIRST = (pid(11),)


def _signal(name: str, *who: int, able: tuple[ProcessId, ...] = EVERYONE, **changes: Any) -> Lock:
    """A signal of `name` that these workers have waited for, for a minute."""
    waits = tuple(waiter(number, 60.0) for number in who)
    attribute = changes.pop("attribute", "_wait_semaphore")
    made = lock(f"{name}.{attribute}", kind="Semaphore", maximum=SEM_VALUE_MAX, value=0, waiters=waits, **changes)
    return replace(made, state="exhausted", signal=True, part_of=name, attribute=attribute, mapped_by=able)


def _wait(number: int, kind: WaitKind, name: str = "", *, tid: int | None = None, **changes: Any) -> Wait:
    """A wait of a minute that nobody can end, unless told otherwise."""
    target = Target(kind, name, process=changes.pop("target", None))
    wait = Wait(ThreadId(pid(number), tid or number), target, False, Wakers(), asleep_s=60.0, for_s=60.0)
    return replace(wait, **changes)


def _by(*numbers: int) -> Wakers:
    return Wakers(processes=tuple(map(pid, numbers)))


def _stuck() -> Iterator[tuple[str, Finding]]:
    everyone = _one(_signal("app.ready", 11, 12, 13), code="stuck")
    yield "all workers are stuck in one signal", everyone
    yield "all workers are stuck in one signal, over", gone_by(everyone, 5.0)
    one = _one(_signal("app.ready", 11, able=FIRST), code="stuck")
    yield "one worker of three is stuck", one
    yield "one worker of three is stuck, over", gone_by(one, 5.0)
    two = _one(_signal("app.ready", 11, 12, able=EVERYONE[:2]), code="stuck")
    yield "two workers of three are stuck", two
    yield "two workers of three are stuck, over", gone_by(two, 5.0)
    ended = (EndedChild(pid(21), 11, -9, 3.0), EndedChild(pid(22), 11, 1, None), EndedChild(pid(23), 11, None, None))
    lost = (_wait(11, WaitKind.SIGNAL, "an Event"), _wait(12, WaitKind.PROCESS_END, target=pid(11), wakers=_by(11)))
    yield "nobody is left to end the wait", _one(code="stuck", blocked=lost, ended=ended)
    own = replace(lock(holders=(holder(11),), waiters=(replace(waiter(11, stack=USERS), in_handler=True),)))
    yield "a lock in a signal handler", _one(replace(own, mapped_by=FIRST), code="stuck")
    sleeper = _signal("app.changed", 11, able=FIRST, attribute="_woken_count")
    yield "notify waits for a dead process", _one(sleeper, code="stuck")
    for count in (1, 3):
        join = _signal("app.jobs", 11, able=FIRST)
        tasks = lock("app.jobs._unfinished_tasks", 2, value=count, part_of="app.jobs", attribute="_unfinished_tasks")
        yield f"join() of a queue, {count} unfinished", _one(join, replace(tasks, signal=True), code="stuck")
    both = {"holders": (holder(11), holder(12)), "waiters": (waiter(11, 60.0), waiter(12, 60.0))}
    units = lock("app.slots", kind="Semaphore", maximum=SEM_VALUE_MAX, mapped_by=EVERYONE[:2], **both)
    yield "the waiters hold all units", _one(units, code="stuck")
    held = lock(holders=(holder(10, within=True),), waiters=(waiter(11, 60.0), waiter(12, 60.0)))
    job = _wait(10, WaitKind.SIGNAL, "a Future", wakers=_by(11, 12))
    yield "a holder waits for a job that needs the lock", _one(held, code="stuck", blocked=(job,))
    own = Target(WaitKind.SIGNAL, "threading.Event", process=pid(11), part_of="app.Done")
    alone = replace(_wait(11, WaitKind.SIGNAL, wakers=_by(11)), target=own)
    yield "nobody in the process ends the wait", _one(code="stuck", blocked=(alone,))
    yield from _private()


def _private() -> Iterator[tuple[str, Finding]]:
    guard = thread_lock(locked=(11,))
    uses = tuple(replace(use, waiters=(waiter(11, 60.0),) if use.locked else ()) for use in guard.processes)
    hidden = Target(WaitKind.PRIVATE_LOCK, "lock", process=pid(11), address=64, named=False, variable=True)
    inside = Wait(ThreadId(pid(11), 11), hidden, False, _by(11), asleep_s=60.0)
    yield "a private lock of which a variable is known", _one(code="stuck", blocked=(inside,))
    yield "a private lock that is free elsewhere", _one(code="stuck", thread_locks=(replace(guard, processes=uses),))
    copied = _wait(11, WaitKind.PRIVATE_LOCK, "app.log_guard", wakers=_by(11))
    copied = replace(copied, parent_copy=(pid(10), 4, 40), stack=USERS)
    yield "a private lock that the parent held at the fork", _one(code="stuck", blocked=(copied,))
    for name, inside in (("log_file", Inside.FILE), ("_lock", Inside.LOGGING), ("json", Inside.IMPORT)):
        of_library = replace(copied, target=replace(copied.target, name=name, inside=inside, named=False))
        yield f"a private lock that the parent held at the fork, of {inside}", _one(code="stuck", blocked=(of_library,))
    yield "copies of a private signal", _one(code="stuck", blocked=tuple(map(_parked, (11, 12, 13))))
    join = _wait(11, WaitKind.PROCESS_END, wakers=_by(12), target=pid(12))
    full = _wait(12, WaitKind.PIPE_WRITE, "a full pipe that only PID 11 reads", wakers=_by(11))
    knot = _one(code="deadlock", blocked=(join, full))
    yield "join() before the pipe is read", knot
    yield "join() before the pipe is read, over", gone_by(knot, 5.0)
    back = _wait(11, WaitKind.PIPE_WRITE, wakers=_by(12))
    yield "two full pipes", _one(code="deadlock", blocked=(back, full))
    held = lock(holders=(holder(11, within=True),), waiters=(waiter(12, 60.0),))
    yield "a full pipe and a lock", _one(held, code="deadlock", blocked=(back,))
    flock = _wait(11, WaitKind.FILE_LOCK, "/run/app.lock", wakers=_by(12), holders=(ThreadId(pid(12), 12),))
    yield "a lock and a file's lock in different orders", _one(held, code="deadlock", blocked=(flock,))
    yield "join() while holding the lock", _one(held, code="deadlock", blocked=(join,))
    yield from _managed()


def _parked(number: int) -> Wait:
    target = Target(WaitKind.SIGNAL, "app.done", process=pid(number), address=64, part_of="threading.Event")
    return replace(_wait(number, WaitKind.SIGNAL, wakers=_by(number)), target=target)


def _managed() -> Iterator[tuple[str, Finding]]:
    target = Target(WaitKind.MANAGER_LOCK, "app.lock", process=pid(14), address=1, part_of="Lock", attribute="acquire")
    waits = tuple(
        replace(_wait(number, WaitKind.MANAGER_LOCK, wakers=_by(11, 12), stack=USERS), target=target)
        for number in (11, 12)
    )
    yield "a Manager's lock whose client may have ended", _one(code="stuck", blocked=waits)
    gone = tuple(replace(each, wakers=Wakers()) for each in waits)
    yield "a Manager's lock whose client has ended", _one(code="stuck", blocked=gone)
    signal = replace(target, part_of="Event", attribute="wait")
    yield "a Manager's event", _one(code="stuck", blocked=tuple(replace(each, target=signal) for each in waits))
    second = replace(target, name="app.other", address=2)
    holds = (ThreadId(pid(12), 12),), (ThreadId(pid(11), 11),)
    ring = tuple(
        replace(wait, target=each, holders=held, bound=True)
        for wait, each, held in zip(waits, (target, second), holds, strict=True)
    )
    waits = tuple(replace(each, wakers=_by(10, 11, 12, 13)) for each in waits)
    third = replace(waits[0], thread=ThreadId(pid(13), 13))
    yield "all workers wait for a Manager's lock", _one(code="stuck", blocked=(*waits, third))
    yield "a ring of a Manager's locks", _one(code="deadlock", blocked=ring)


def _doubts() -> Iterator[tuple[str, Finding]]:
    """All workers wait, and that it is for ever is not proven."""
    waits = tuple(waiter(number, 60.0) for number in (11, 12, 13))
    taken = lock(state="unknown", value=0, waiters=waits, reason="in flux")
    yield "all workers wait, the master may help", _one(taken, code="stuck")
    yield "all workers wait, over", gone_by(_one(taken, code="stuck"), 5.0)
    jobs = lock("app.jobs", 8, state="unknown", value=0, waiters=waits[:1], reason="in flux")
    done = lock("app.done", 9, state="unknown", value=0, waiters=waits[1:], reason="in flux")
    yield "all workers wait, for two locks", _one(jobs, done, code="stuck")
    own = tuple(replace(each, threads=2) for each in processes())
    yield (
        "all workers wait, another thread may help",
        _one(replace(taken, mapped_by=EVERYONE), code="stuck", processes=own),
    )
    yield "all workers wait, an outsider may help", _one(replace(taken, outsiders=(77,)), code="stuck")
    unread = (Problem("read its memory", "Permission denied", "sudo semtrace", pid(10)),)
    yield "all workers wait, the master cannot be read", _one(taken, code="stuck", problems=unread)
    handled = _one(_signal("app.ready", 11, 12, 13), code="stuck", handlers=frozenset({pid(12)}))
    yield "all workers wait, a signal handler may help", handled
    self = lock(holders=(holder(11),), waiters=(waiter(11, 60.0),), mapped_by=FIRST, outsiders=())
    interrupted = _one(self, code="deadlock", alarms=frozenset(FIRST))
    yield "an alarm may interrupt a thread that waits for its own lock", interrupted
    strange = Wakers(doubt=Doubt.UNRECOGNISED)
    blocked = tuple(_wait(number, WaitKind.MANAGER_LOCK, wakers=strange) for number in (11, 12, 13))
    yield "all workers wait, for something strange", _one(code="stuck", blocked=blocked)
    unasked = replace(handled, facts=(MayStillWake(Doubt.UNASKED, ()), MayStillWake(Doubt.OUTSIDER, ())))
    yield "all workers wait, nobody was asked", unasked


def _pools() -> Iterator[tuple[str, Finding]]:
    result = frames(("/usr/lib/python3.12/multiprocessing/pool.py", "wait"), ("/srv/app.py", "compute"))
    wait = _wait(10, WaitKind.SIGNAL, "an Event", stack=result, pool=PoolWait(3, True, False))
    master, *others = processes()
    later = (replace(master, threads=4), *others[:2], replace(others[2], started_at=others[2].started_at + 12.0))
    of_pool = tuple(replace(each, role="process") for each in later)
    idle = tuple(_wait(number, WaitKind.PIPE_READ, "a pipe", wakers=_by(10), idle=True) for number in (11, 12, 13))
    ended = (EndedChild(pid(21), 10, -9, 8.0),)
    server = {"server": SCRIPT, "processes": of_pool, "ended": ended}
    idle += pool_at_rest(10)
    died = _one(code="worker-died", blocked=(wait, *idle), **server)
    yield "a worker of a pool died", died
    yield "a worker of a pool died, over", gone_by(died, 5.0)
    single = _wait(11, WaitKind.SIGNAL, "multiprocessing.pool.Pool", stack=result)
    yield "a pool that a fork copied", _one(code="stuck", blocked=(replace(single, pool=PoolWait(0, True, False)),))
    ended_early = replace(single, pool=PoolWait(1, True, True))
    yield "a pool that was terminated", _one(code="stuck", blocked=(ended_early,))
    future = _wait(11, WaitKind.SIGNAL, "concurrent.futures._base.Future", wakers=_by(11), stack=USERS)
    future = replace(future, target=replace(future.target, part_of=future.target.name))
    copied = tuple(replace(future, thread=ThreadId(pid(n), n), wakers=_by(n), forked_from=pid(10)) for n in (11, 12))
    rest = frames(("/usr/lib/python3.12/concurrent/futures/thread.py", "_worker"))
    resting = tuple(
        _wait(10, WaitKind.SIGNAL, "work", tid=tid, wakers=_by(10), idle=True, stack=rest) for tid in (110, 111)
    )
    yield "an executor that stayed in the parent", _one(code="stuck", blocked=(*copied, resting[0]))
    yield "an executor that stayed in the parent of one", _one(code="stuck", blocked=(copied[0], *resting))
    in_pool = replace(wait, target=replace(wait.target, name="multiprocessing.pool.Pool"), wakers=Wakers())
    yield "a pool without its thread for results", _one(code="stuck", blocked=(in_pool,), processes=of_pool)
    itself = replace(in_pool, wakers=Wakers((ThreadId(pid(10), 10),)))
    yield "a pool's callback that waits for the pool", _one(code="stuck", blocked=(itself,), processes=of_pool)
    failing = _one(code="worker-died", blocked=(wait,), **failing_workers())
    yield "workers of a pool that end at once", failing
    yield "workers of a pool that end at once, over", gone_by(failing, 5.0)
    yield (
        "workers that end at once, for several causes",
        _one(code="worker-died", blocked=(wait,), **failing_workers(codes=(1, -11, 1))),
    )
    another = replace(wait, wakers=Wakers(processes=(pid(10),), doubt=Doubt.HANDLER, pids=(10,)))
    yield "a worker of a pool most likely died", _one(code="worker-died", blocked=(another, *idle), **server)


def _holds() -> Iterator[tuple[str, Finding]]:
    stopped = tuple(replace(each, state="stopped") if each.pid == 11 else each for each in processes())
    taken = lock(holders=(holder(11, 1.0),), waiters=(waiter(12, 1.0),))
    halt = _one(taken, code="stopped", processes=stopped)
    yield "a stopped holder", halt
    yield "a stopped holder, over", gone_by(halt, 5.0)
    alone = _one(code="stopped", processes=stopped)
    yield "a stopped worker that no thread waits for", alone
    yield "a stopped worker that no thread waits for, over", gone_by(alone, 5.0)
    master = tuple(replace(each, state="stopped") if each.role == "master" else each for each in processes())
    asleep = _one(code="stopped", processes=master)
    yield "a stopped master", asleep
    yield "a stopped master, over", gone_by(asleep, 5.0)
    every = tuple(replace(each, state="stopped") for each in processes() if each.role == "worker")
    yield "all workers are stopped", _one(code="stopped", processes=every)
    risk = _one(lock(holders=(holder(11, 16.0),)), code="timeout-risk", processes=busy(17.0))
    yield "gunicorn will kill the holder", risk
    yield "gunicorn would have killed the holder", gone_by(risk, 5.0)
    long = lock(holders=(holder(11, 29.0, asleep_s=29.0, stack=USERS),), waiters=(waiter(12),))
    yield "gunicorn will kill the holder, no heartbeat", _one(long, code="timeout-risk", processes=busy(None))
    held = _one(long, code="long-hold", server=SCRIPT)
    yield "a long hold", held
    yield "a long hold, over", gone_by(held, 5.0)
    loop = (Frame("wait", "/v/site-packages/gunicorn/workers/sync.py", 35),)
    kept = lock(holders=(holder(11, 5.0, asleep_s=5.0, stack=loop),), waiters=(waiter(12, 3.0, asleep_s=3.0),))
    waits = tuple(replace(each, idle=True) for each in processes())
    yield "a hold that no code will end", _one(kept, code="long-hold", processes=waits)
    traced = replace(kept, holders=(replace(kept.holders[0], site="/srv/app.py:7"),))
    yield "a hold that no code will end, of a traced lock", _one(traced, code="long-hold", processes=waits)
    yield (
        "a long hold of a traced lock",
        _one(lock(holders=(holder(11, 12.0, evidence="events", site="/srv/app.py:7"),)), code="long-hold"),
    )
    wait = _one(lock(state="unknown", reason="it is in flux", waiters=(waiter(12, 20.0),)), code="long-wait")
    yield "a long wait", wait
    yield "a long wait, over", gone_by(wait, 5.0)
    flock = _wait(11, WaitKind.FILE_LOCK, wakers=_by(12))
    flock = replace(flock, target=replace(flock.target, path="/srv/app.lock"))
    file = _one(code="long-wait", blocked=(flock,))
    yield "a long wait for a file lock", file
    yield "a long wait for a file lock, over", gone_by(file, 5.0)
    ends = tuple(_wait(number, WaitKind.THREAD_END, wakers=_by(number)) for number in (11, 12))
    threads = tuple(replace(each, threads=2) for each in processes())
    yield "workers wait for their threads", _one(code="long-wait", blocked=ends, processes=threads)
    guard = thread_lock(locked=(11,))
    use = replace(guard.processes[0], holder=holder(11, asleep_s=20.0), waiters=(waiter(11, 15.0, tid=14),))
    private = _one(code="long-hold", thread_locks=(replace(guard, processes=(use,)),), processes=threads)
    yield "a long hold of a private lock", private
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
    yield from _tasks()
    yield from _crowds()


def _tasks() -> Iterator[tuple[str, Finding]]:
    """An asyncio lock that tasks wait for."""
    guard = thread_lock("app.stock_lock", locked=(11, 12), kind="asyncio.Lock")
    first, second, _ = guard.processes
    held = holder(11, stack=frames(("/srv/app.py", "sell")))
    uses = (replace(first, tasks=2, tasks_s=15.0, holder=held), replace(second, tasks=1, tasks_s=11.0))
    late = _one(code="long-wait", thread_locks=(replace(guard, processes=uses),))
    yield "tasks wait for an asyncio lock", late
    yield "tasks wait for an asyncio lock, over", gone_by(late, 5.0)
    short = replace(first, tasks=1, tasks_s=1.3)
    yield "a task waits for an asyncio lock", _one(code="long-wait", thread_locks=(replace(guard, processes=(short,)),))


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
    yield "a private lock", _one(code="private-lock", thread_locks=(thread_lock("app.cache['a b']"),))
    twice = thread_lock(overlap=overlap(11, 13))
    yield "a private lock, two inside at once", _one(code="private-lock", thread_locks=(twice,))
    threaded = tuple(replace(each, threads=4) for each in processes())
    once = replace(twice, overlap=replace(overlap(11, 13), times=1))
    yield "a private lock, two inside once", _one(code="private-lock", thread_locks=(once,), processes=threaded)
    asynchronous = replace(twice, kind="asyncio.Lock")
    yield "an asyncio lock, two inside at once", _one(code="private-lock", thread_locks=(asynchronous,))
    for what, private in (("a private lock", twice), ("an asyncio lock", asynchronous)):
        found_there = _one(code="private-lock", thread_locks=(private,), server=SCRIPT)
        yield f"{what}, two inside at once, not under gunicorn", found_there
    each = [lock("app.lock", i, separate=3, mapped_by=(pid(11 + i),)) for i in range(3)]
    held = [replace(one, holders=(holder(11 + i, 0.1),)) for i, one in enumerate(each[:2])]
    yield "an unshared lock", _one(*held, each[2], code="unshared-lock")
    yield "an unshared lock, not under gunicorn", _one(*held, each[2], code="unshared-lock", server=SCRIPT)
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
        waits = [(waiter(use.process.pid, timed=True),) for use in guard.processes[:2]]
        uses = tuple(
            replace(use, inherited=True, waiters=each) for use, each in zip(guard.processes, waits, strict=False)
        )
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
    blocks = tuple(LeakedName(SemId(0, 27, 9 + i), f"/psm_{i}", 90.0, "bob", "block", (i + 1) << 20) for i in range(8))
    mixed = SharedMemory(64 << 20, 20 << 20, (*leaked[:1], *blocks[:2]))
    yield "unused blocks", _one(code="leaked-name", shared_memory=mixed)
    yield from _full(blocks)


def _full(blocks: tuple[LeakedName, ...]) -> Iterator[tuple[str, Finding]]:
    room = SharedMemory(64 << 20, 500 << 10)
    yield "no room", _one(code="shm-full", shared_memory=room)
    unused = replace(room, leaked=blocks)
    yield "no room, blocks that nobody uses", _one(code="shm-full", shared_memory=unused)
    elsewhere = replace(unused, elsewhere=True)
    yield "no room in a container", _one(code="shm-full", shared_memory=elsewhere)
    young = replace(room, leaked=(replace(blocks[0], age_s=5.0),))
    yield "no room, a young block", _one(code="shm-full", shared_memory=young)
    yield "no room, all is in use", _one(code="shm-full", shared_memory=replace(room, leaked=()))
