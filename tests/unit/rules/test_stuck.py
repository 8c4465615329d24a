"""Threads that nothing can wake: one finding for each cause, and the remedy that fits its kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.snapshots import SERVER, codes, found, frames, holder, lock, pid, pool_at_rest, processes, snapshot, waiter

from semtrace.model import (
    Advice,
    Finding,
    GreenletMayHold,
    Inside,
    LeftInParent,
    LockRef,
    PoolTerminated,
    PoolWait,
    PoolWithoutThreads,
    Process,
    ResultsNotTaken,
    RootKind,
    Server,
    Target,
    ThreadId,
    Wait,
    WaitKind,
    Wakers,
)
from semtrace.present.findings import title


def wait(number: int, target: Target, **changes: Any) -> Wait:
    return replace(
        Wait(ThreadId(pid(number), number), target, False, Wakers((), (pid(number),)), 60.0, 60.0), **changes
    )


def copy(number: int, kind: WaitKind = WaitKind.PRIVATE_LOCK, name: str = "app.guard", **changes: Any) -> Target:
    return replace(Target(kind, name, process=pid(number), address=4096), **changes)


def stuck(*waits: Wait, **changes: Any) -> list[Finding]:
    return [finding for finding in found(blocked=waits, **changes) if finding.code == "stuck"]


def test_one_lock_by_two_names_is_one_thing() -> None:
    one, other = copy(11, name="guard", variable=True), copy(11, name="self._guard", named=False)
    assert one == other
    threads = (replace(processes()[1], threads=2),)
    waits = (wait(11, one), replace(wait(11, other), thread=ThreadId(pid(11), 99)))
    picture = snapshot(blocked=waits, processes=threads)
    assert [root.kind for root in picture.waits.roots] == [RootKind.NOBODY]
    (finding,) = stuck(*waits, processes=threads)
    assert len(finding.locks) == 1


def test_things_without_an_address_are_told_apart_by_name() -> None:
    assert Target(WaitKind.MANAGER_LOCK, "a") != Target(WaitKind.MANAGER_LOCK, "b")


@pytest.mark.parametrize("kind", [WaitKind.PRIVATE_LOCK, WaitKind.SIGNAL])
@pytest.mark.parametrize("named", [True, False])
def test_copies_in_several_workers_are_one_finding(kind: WaitKind, named: bool) -> None:
    (finding,) = stuck(*(wait(number, copy(number, kind, named=named)) for number in (11, 12, 13)))
    assert finding.pids == (11, 12, 13)


def test_copies_of_new_programs_are_one_finding_by_name() -> None:
    moved = (wait(number, copy(number, WaitKind.SIGNAL, address=number)) for number in (11, 12))
    assert [finding.pids for finding in stuck(*moved)] == [(11, 12)]


def test_copies_stuck_for_other_causes_are_two_findings() -> None:
    waits = wait(11, copy(11)), wait(12, copy(12), in_handler=True)
    assert sorted(finding.pids for finding in stuck(*waits)) == [(11,), (12,)]


@pytest.mark.parametrize(
    ("inside", "advice"),
    [
        (None, Advice.NEW_AFTER_FORK),
        (Inside.FILE, Advice.NO_WRITE_AT_FORK),
        (Inside.LOGGING, Advice.NO_LOG_AT_FORK),
        (Inside.IMPORT, Advice.NO_IMPORT_AT_FORK),
    ],
)
def test_library_lock_held_at_a_fork_has_its_own_remedy(inside: Inside | None, advice: Advice) -> None:
    inherited = wait(11, copy(11, inside=inside), parent_copy=(pid(10), 4, 40))
    (finding,) = stuck(inherited)
    assert finding.remedy.advice[0] == advice


def test_import_lock_is_named_as_such() -> None:
    (finding,) = stuck(wait(11, copy(11, name="json.decoder", inside=Inside.IMPORT, named=False)))
    assert finding.locks == (LockRef(None, "json.decoder", "import", pid(11)),)
    assert "the import lock of module json.decoder" in title(finding)


def ring(*waits: Wait, locks: tuple[Any, ...] = ()) -> Advice:
    (finding,) = (each for each in found(*locks, blocked=waits) if each.code == "deadlock")
    return finding.remedy.advice[0]


def test_reading_before_join_is_advised_only_where_one_joins() -> None:
    full = wait(12, Target(WaitKind.PIPE_WRITE, "", address=1), wakers=Wakers((), (pid(11),)))
    join = wait(11, Target(WaitKind.PROCESS_END, "", process=pid(12)), wakers=Wakers((), (pid(12),)))
    back = wait(11, Target(WaitKind.PIPE_WRITE, "", address=2), wakers=Wakers((), (pid(12),)))
    assert ring(join, full) == Advice.READ_BEFORE_JOIN
    assert ring(back, full) == Advice.READ_WHILE_WRITING
    held = lock(holders=(holder(11, within=True),), waiters=(waiter(12, 60.0),))
    assert ring(back, locks=(held,)) == Advice.NOT_WHILE_HOLDING


def halted(*roles: str) -> tuple[Process, ...]:
    return tuple(replace(each, state="stopped") if each.role in roles else each for each in processes())


def test_stopped_master_is_reported_though_nobody_waits() -> None:
    (finding,) = found(processes=halted("master"))
    assert (finding.code, finding.severity, finding.pids) == ("stopped", "warning", (10,))


def test_master_in_a_debugger_is_somebodys_work() -> None:
    traced = tuple(replace(each, state="tracing-stop") if each.role == "master" else each for each in processes())
    assert codes(processes=traced) == []


def test_pool_that_each_worker_inherited_is_one_finding() -> None:
    stack = frames(("/usr/lib/python3.12/multiprocessing/pool.py", "wait"), ("/srv/app.py", "compute"))
    gone = {"stack": stack, "wakers": Wakers(), "pool": PoolWait(0, True, False)}
    waits = (wait(number, copy(number, WaitKind.SIGNAL, named=False), **gone) for number in (11, 12))
    assert [finding.pids for finding in stuck(*waits)] == [(11, 12)]


@pytest.mark.parametrize(
    ("pool", "fact"),
    [
        (PoolWait(0, True, False), PoolWithoutThreads),
        (PoolWait(0, True, True), PoolTerminated),
        (PoolWait(1, True, True), PoolTerminated),
        (PoolWait(2, False, False), ResultsNotTaken),
    ],
)
def test_missing_threads_of_a_pool_have_a_cause(pool: PoolWait, fact: type) -> None:
    threads = (replace(processes()[1], threads=3),)
    (finding,) = stuck(wait(11, copy(11, WaitKind.SIGNAL), wakers=Wakers(), pool=pool), processes=threads)
    assert finding.fact(fact) is not None


@pytest.mark.parametrize(
    ("pool", "idle", "rest", "code"),
    [
        (PoolWait(3, True, False), (11, 12, 13), pool_at_rest(10), "worker-died"),
        (PoolWait(3, False, False), (11, 12, 13), pool_at_rest(10), "stuck"),
        (PoolWait(3, True, False), (11, 12), pool_at_rest(10), "stuck"),
        (PoolWait(3, True, False), (11, 12, 13), pool_at_rest(10)[1:], None),
        (None, (11, 12, 13), pool_at_rest(10), "stuck"),
    ],
    ids=["lost", "a ThreadPool", "a worker works", "jobs left", "a pool of connections"],
)
def test_job_is_lost_only_if_every_worker_rests(
    pool: PoolWait | None, idle: tuple[int, ...], rest: tuple[Wait, ...], code: str | None
) -> None:
    stack = frames(("/v/lib/pool.py", "wait"), ("/srv/app.py", "query"))
    waits = [wait(10, copy(10, WaitKind.SIGNAL, named=False, part_of="pool.Pool"), stack=stack, pool=pool)]
    pipe = Target(WaitKind.PIPE_READ, "", address=7)
    waits += [wait(n, pipe, wakers=Wakers((), (pid(10),)), idle=n in idle) for n in (11, 12, 13)]
    of_script = tuple(replace(each, role="process", threads=3 if each.pid == 10 else 1) for each in processes())
    every = codes(blocked=(*waits, *rest), processes=of_script, server=replace(SERVER, kind="python"))
    assert next(iter(every), None) == code


GEVENT = replace(SERVER, worker_class="gevent")


@pytest.mark.parametrize("server", [GEVENT, replace(SERVER, worker_class="eventlet")])
def test_suspended_greenlet_is_named_as_a_possible_holder(server: Server) -> None:
    (private,) = stuck(wait(11, copy(11)), server=server)
    assert private.fact(GreenletMayHold) == GreenletMayHold(server.worker_class)
    held = lock(holders=(holder(11, 29.0, asleep_s=29.0),), waiters=(waiter(12, 20.0),))
    for rest in (held, replace(held, holders=(holder(11, within=True),), waiters=(waiter(11, 60.0),))):
        findings = found(rest, server=replace(server, timeout_s=None))
        assert any(finding.fact(GreenletMayHold) for finding in findings)


def test_greenlets_are_known_by_the_stack_of_any_server() -> None:
    stack = frames(("/v/site-packages/gevent/baseserver.py", "do_handle"))
    (finding,) = stuck(wait(11, copy(11), stack=stack), server=replace(SERVER, kind="python", worker_class=None))
    assert finding.fact(GreenletMayHold) == GreenletMayHold(None)
    assert all(each.fact(GreenletMayHold) is None for each in stuck(wait(11, copy(11))))


def test_file_lock_of_stopped_process_is_not_a_long_wait() -> None:
    stopped = tuple(replace(each, state="stopped") if each.pid == 11 else each for each in processes())
    blocked = wait(12, Target(WaitKind.FILE_LOCK, "/lock", address=7), wakers=Wakers((), (pid(11),)))
    assert codes(blocked=(blocked,), processes=stopped) == ["stopped"]


def future(number: int, **changes: Any) -> Wait:
    whole = "concurrent.futures._base.Future"
    target = Target(WaitKind.SIGNAL, "", process=pid(number), address=number * 8, part_of=whole, named=False)
    of_user = frames(("/usr/lib/python3.12/concurrent/futures/_base.py", "result"), ("/srv/app.py", "view"))
    return wait(number, target, **{"stack": of_user, "forked_from": pid(10), **changes})


EXECUTOR = frames(("/usr/lib/python3.12/concurrent/futures/thread.py", "_worker"))
RESTING = replace(wait(10, copy(10, WaitKind.SIGNAL, "work")), thread=ThreadId(pid(10), 110), idle=True, stack=EXECUTOR)


def test_threads_that_stayed_in_the_parent_are_named() -> None:
    (finding,) = stuck(future(11), future(12), RESTING)
    left = finding.fact(LeftInParent)
    assert left is not None
    assert (left.processes, left.parent, left.threads) == ((pid(11), pid(12)), pid(10), 1)
    assert Advice.START_AFTER_FORK in finding.remedy.advice


@pytest.mark.parametrize(
    "changes",
    [
        {"resting": ()},
        {"resting": (replace(RESTING, thread=ThreadId(pid(10), 10)),)},
        {"resting": (replace(RESTING, stack=frames(("/usr/lib/python3.12/logging/handlers.py", "_monitor"))),)},
        {"forked": None},
        {"threads": 2},
    ],
    ids=["none there", "its first thread", "no executor", "another program", "a thread of its own"],
)
def test_parent_that_has_no_threads_for_it_is_no_cause(changes: dict[str, Any]) -> None:
    waits = (future(11, forked_from=changes.get("forked", pid(10))), *changes.get("resting", (RESTING,)))
    members = tuple(replace(each, threads=changes.get("threads", 1) if each.pid == 11 else 1) for each in processes())
    others = tuple(replace(waits[0], thread=ThreadId(pid(11), 99)) for _ in range(changes.get("threads", 1) - 1))
    (finding,) = stuck(*waits, *others, processes=members)
    assert finding.fact(LeftInParent) is None
