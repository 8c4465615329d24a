"""Hand-built snapshots of servers that have something, or nothing, wrong with them.

Each builder has usual values; `changes` are fields that replace them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from semtrace.model import (
    Death,
    DeathCause,
    Finding,
    Frame,
    Holder,
    Lock,
    LockRef,
    Overlap,
    Process,
    ProcessId,
    RingLink,
    SemId,
    Server,
    Snapshot,
    Target,
    ThreadId,
    ThreadLock,
    ThreadLockUse,
    Wait,
    Waiter,
    WaitKind,
    Wakers,
)
from semtrace.rules import Limits, findings
from semtrace.waits.build import wait_graph

MASTER = 10
USERS_FILE = "/srv/app.py"
BOOT = 1_700_000_000.0


def pid(number: int) -> ProcessId:
    return ProcessId(number, number * 100)


def sem(number: int) -> SemId:
    return SemId(0, 27, number)


def server(number: int = MASTER, application: str = "app:app", **changes: Any) -> Server:
    title = f"gunicorn: master [{application}]"
    plain = Server("gunicorn", pid(number), title, BOOT, "alice", "27.0.1", application, (), "sync", 30.0)
    return replace(plain, **changes)


SERVER = server(title="gunicorn: master [app]")


def master(number: int = MASTER, **changes: Any) -> Process:
    return replace(Process(pid(number), 1, "master", "sleeping", 1 << 20, 1, BOOT), **changes)


def worker(number: int, **changes: Any) -> Process:
    plain = Process(pid(number), MASTER, "worker", "sleeping", 1 << 20, 1, BOOT, 0.0, 0.5)
    return replace(plain, **changes)


def processes(workers: int = 3) -> tuple[Process, ...]:
    """The master 10 and the workers 11, 12, …"""
    return (master(), *(worker(MASTER + 1 + i) for i in range(workers)))


def holder(number: int, since_s: float | None = 5.0, **changes: Any) -> Holder:
    return replace(Holder(pid(number), number, 1, since_s), **changes)


def waiter(number: int, for_s: float | None = 5.0, **changes: Any) -> Waiter:
    """One that has not run all the while, unless told otherwise."""
    return replace(Waiter(pid(number), changes.pop("tid", number), for_s, asleep_s=for_s), **changes)


def lock(name: str | None = "app.lock", number: int = 1, **changes: Any) -> Lock:
    """Contended if there are waiters, held if there are holders only, else free."""
    holders, waiters = changes.get("holders", ()), changes.get("waiters", ())
    state = "contended" if waiters else "held" if holders else "free"
    everyone = tuple(process.id for process in processes())
    plain = Lock(sem(number), "Lock", state, 0 if holders or waiters else 1, 1, name, mapped_by=everyone)  # type: ignore[arg-type]
    return replace(plain, **changes)


def thread_lock(name: str = "app.guard", locked: Sequence[int] = (), workers: int = 3, **changes: Any) -> ThreadLock:
    uses = tuple(ThreadLockUse(process.id, process.pid in locked) for process in processes(workers)[1:])
    return replace(ThreadLock(name, "Lock", uses), **changes)


def overlap(*numbers: int) -> Overlap:
    return Overlap(3, len(numbers), BOOT + 90, BOOT + 99, tuple(map(pid, numbers)))


def snapshot(*locks: Lock, asked: bool = True, **changes: Any) -> Snapshot:
    """Of a server that was watched for 20 s. With `asked` False its graph has only what a snapshot proves by itself."""
    plain = replace(Snapshot(SERVER, BOOT + 100, 100.0, processes(), locks, watched_s=20.0), **changes)
    return plain if "waits" in changes else replace(plain, waits=wait_graph(plain, assume_asked=asked))


def frames(*places: tuple[str, str]) -> tuple[Frame, ...]:
    """A stack of (file, function), the innermost first."""
    return tuple(Frame(function, file, 7) for file, function in places)


def failing_workers(
    *,
    codes: Sequence[int | None] = (1, 1, 1),
    lived_s: float = 1.0,
    ended_s: float = 4.0,
    age_s: float = 1.0,
    parent: int = MASTER,
) -> dict[str, Any]:
    """The children of process 10 in a program: so many have ended, and the youngest two live for `age_s`."""
    number = round(MASTER + 100 - ended_s - lived_s)
    deaths = tuple(Death(pid(number), "process", DeathCause.EXIT, code, ended_s, parent=parent) for code in codes)
    children = (worker(110 + i, role="process", started_at=BOOT + 100 - age_s) for i in range(2))
    script = replace(SERVER, kind="python", worker_class=None, timeout_s=None)
    return {"server": script, "processes": (master(role="process", threads=4), *children), "deaths": deaths}


def pool_at_rest(number: int, *wakers: int) -> tuple[Wait, ...]:
    """Waits of a Pool's own threads that have handed out all jobs and taken in all results."""
    of_process = Target(WaitKind.SIGNAL, "", process=pid(number), address=9)
    return tuple(
        Wait(
            ThreadId(pid(number), tid),
            of_process,
            False,
            Wakers(processes=tuple(map(pid, wakers or (number,)))),
            60.0,
            60.0,
            stack=frames(("/usr/lib/python3.12/multiprocessing/pool.py", function)),
            idle=True,
        )
        for tid, function in ((number + 100, "_handle_tasks"), (number + 200, "_handle_results"))
    )


def found(*locks: Lock, limits: Limits | None = None, **changes: Any) -> tuple[Finding, ...]:
    return findings(snapshot(*locks, **changes), limits or Limits())


def codes(*locks: Lock, limits: Limits | None = None, **changes: Any) -> list[str]:
    return [finding.code for finding in found(*locks, limits=limits, **changes)]


def ref(name: str = "app.lock", number: int = 1, kind: str = "Lock") -> LockRef:
    return LockRef(sem(number), name, kind)


def links(finding: Finding) -> list[RingLink]:
    return [fact for fact in finding.facts if isinstance(fact, RingLink)]


GUNICORNS_QUEUE = frames(("/usr/lib/python3.12/multiprocessing/queues.py", "get"), ("/srv/app.py", "consume"))
USERS = frames(("/usr/lib/python3.12/contextlib.py", "__enter__"), ("/srv/app.py", "withdraw"))


def embrace(**changes: Any) -> tuple[Lock, Lock]:
    return (
        lock("app.a", 1, holders=(holder(11),), waiters=(waiter(12, **changes),)),
        lock("app.b", 2, holders=(holder(12),), waiters=(waiter(11),)),
    )


def busy(beat_s: float | None) -> tuple[Process, ...]:
    return (processes()[0], worker(11, last_heartbeat_s=beat_s), *processes()[2:])
