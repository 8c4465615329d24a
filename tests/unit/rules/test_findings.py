"""What is reported of a whole server, what passed by, and the order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.snapshots import (
    SERVER,
    busy,
    codes,
    embrace,
    found,
    frames,
    holder,
    lock,
    overlap,
    pid,
    processes,
    ref,
    snapshot,
    thread_lock,
    waiter,
    worker,
)

from semtrace.model import (
    Advice,
    Finding,
    FindingCode,
    LeakedName,
    SemId,
    SharedMemory,
    Snapshot,
    Stray,
    ThreadLock,
    ThreadLockUse,
    UnusedNames,
    UnusedRoom,
)
from semtrace.present.findings import evidence, remedy, title
from semtrace.rules import findings, worst_first
from semtrace.rules.passing import passed


def everything(snapshot: Snapshot) -> str:
    return "\n".join(line for f in snapshot.findings for line in (title(f), *evidence(f), remedy(f)))


# -- nothing


def test_a_server_at_rest_has_nothing_wrong() -> None:
    assert codes(lock(), lock("app.other", 2)) == []


def test_a_server_that_just_starts_has_nothing_wrong() -> None:
    assert findings(Snapshot(SERVER, 0.0, 0.0, (), ())) == ()
    assert codes(lock(None, kind="unknown", state="unknown", maximum=None, value=None, reason="not read yet")) == []


def test_short_hold_with_waiters_is_normal() -> None:
    assert codes(lock(holders=(holder(11, 0.3),), waiters=(waiter(12, 0.2), waiter(13, 0.1)))) == []


def test_worst_comes_first_and_each_lock_once() -> None:
    locks = (
        lock("app.slow", 1, holders=(holder(11, 15.0, asleep_s=15.0),), waiters=(waiter(12, 15.0),)),
        lock("app.dead", 2, state="orphaned", waiters=(waiter(13, 15.0),)),
    )
    assert codes(*locks) == ["orphaned-lock", "long-hold"]
    assert worst_first(reversed(found(*locks))) == found(*locks)


# -- what passed by


def over(finding: Finding, *locks: Any, also: Sequence[Finding] = (), **changes: Any) -> list[Finding]:
    """What the doctor reports of a finding that it saw 5 s ago, of a server with these locks now."""
    now = snapshot(*locks, **changes)
    now = replace(now, findings=(*findings(now), *also))
    return list(passed({finding.key: (95.0, finding)}, now))


def test_risk_of_a_kill_ends_with_its_holder() -> None:
    (risk,) = found(lock(holders=(holder(11, 16.0),)), processes=busy(17.0))
    assert over(risk, lock()) == [replace(risk, over_s=5.0)]
    assert over(risk, lock(state="orphaned")) == []


def test_gate_that_was_opened_was_no_deadlock() -> None:
    (gate,) = found(lock(holders=(holder(11),), waiters=(waiter(11),)))
    assert over(gate, lock()) == []


def test_deadlock_that_a_kill_ended_is_an_error() -> None:
    (ring,) = found(*embrace())
    assert [each.severity for each in over(ring, lock())] == ["warning"], "both live: somebody let them go on"
    assert [each.severity for each in over(ring, lock(), processes=processes(1))] == ["error"], "one was killed"
    assert over(ring, *embrace()) == [], "it is there"


def test_long_hold_is_not_over_while_something_worse_is_there() -> None:
    (long,) = found(lock(holders=(holder(11, 12.0, asleep_s=11.0),)))
    assert [each.over_s for each in over(long, lock())] == [5.0]
    assert over(long, lock(state="orphaned")) == []
    assert over(replace(long, locks=(ref("app.b", 2),)), *embrace()) == [], "in a deadlock"


def test_replaced_finding_is_not_over() -> None:
    (long,) = found(lock(holders=(holder(11, 11.0, asleep_s=11.0),), waiters=(waiter(12, 11.0),)))
    risk = replace(long, code=FindingCode.TIMEOUT_RISK)
    assert over(long, lock(), also=[risk]) == []
    elsewhere = replace(risk, locks=(ref("app.other", 2),))
    crowd = replace(long, code=FindingCode.CONTENTION)
    assert len(over(long, lock(), also=[elsewhere, crowd])) == 1


def private_wait(name: str, waited_s: float) -> ThreadLock:
    use = ThreadLockUse(pid(11), True, None, (waiter(11, waited_s, tid=15),))
    return replace(thread_lock(name, workers=0), processes=(use,))


def test_wait_goes_on_when_its_lock_gets_a_name() -> None:
    threads = (processes()[0], worker(11, threads=4))
    (nameless,) = found(thread_locks=(private_wait("lock", 10.0),), processes=threads)
    assert nameless.code == "long-wait"
    assert over(nameless, thread_locks=(private_wait("app.guard", 15.0),), processes=threads) == []
    (ended,) = over(nameless, thread_locks=(private_wait("app.guard", 3.0),), processes=threads)
    assert ended.over_s == 5.0, "it has run since, and sleeps in another wait"
    assert len(over(nameless, processes=threads)) == 1


# -- /dev/shm


def leak(age_s: float = 300.0, name: str = "/mp-abc") -> LeakedName:
    return LeakedName(SemId(0, 27, 5), name, age_s, "alice")


def room(*leaked: LeakedName, free: int = 60 << 20) -> SharedMemory:
    return SharedMemory(64 << 20, free, leaked)


def test_names_that_nobody_uses_are_told_together() -> None:
    (finding,) = found(shared_memory=room(*(leak(100.0 + i, f"/mp-{i}") for i in range(8))))
    assert (finding.code, finding.severity) == ("leaked-name", "warning")
    unused = finding.fact(UnusedNames)
    assert unused is not None
    assert [each.name for each in unused.names] == [f"/mp-{i}" for i in range(7, -1, -1)], "the oldest first"


def test_young_or_unsearched_names_are_not_reported() -> None:
    assert codes(shared_memory=room(leak(59.0))) == []
    assert codes(shared_memory=SharedMemory(64 << 20, 60 << 20, None)) == []


@pytest.mark.parametrize(("size", "free", "full"), [
    (64 << 20, 500 << 10, True),
    (64 << 20, 2 << 20, False),
    (8 << 30, 100 << 20, True),
    (8 << 30, 1 << 30, False),
    (0, 0, False),  # it could not be asked
])  # fmt: skip
def test_little_room_in_dev_shm(size: int, free: int, full: bool) -> None:
    assert (codes(shared_memory=SharedMemory(size, free)) == ["shm-full"]) == full


def block(size: int, age_s: float = 300.0) -> LeakedName:
    return LeakedName(SemId(0, 27, 6), f"/psm_{size}", age_s, "alice", "block", size)


def test_blocks_are_counted_with_the_semaphores_but_are_no_locks() -> None:
    (finding,) = found(shared_memory=room(block(4096), leak(100.0)))
    assert (finding.code, [lock.name for lock in finding.locks]) == ("leaked-name", ["/mp-abc"])
    assert finding.remedy.advice == (Advice.PREVIEW_CLEAN_BLOCKS,)
    (alone,) = found(shared_memory=room(block(4096)))
    assert (alone.locks, alone.name) == ((), "/dev/shm")


def test_full_shared_memory_names_what_nobody_uses_largest_first() -> None:
    sizes = (1 << 20, 3 << 20, 2 << 20)
    full, leaked = found(shared_memory=room(*map(block, sizes), free=1 << 10))
    assert (full.code, leaked.code) == ("shm-full", "leaked-name")
    unused = full.fact(UnusedRoom)
    assert unused is not None
    assert [each.size for each in unused.names] == sorted(sizes, reverse=True)
    assert unused.other == (64 << 20) - (1 << 10) - (6 << 20)
    assert full.remedy.command == ("semtrace", "clean")


def test_full_shared_memory_shows_the_young_too() -> None:
    (full,) = found(shared_memory=room(block(1 << 20, age_s=3.0), free=0))
    unused = full.fact(UnusedRoom)
    assert unused is not None
    assert [each.age_s for each in unused.names] == [3.0]
    assert full.remedy.advice[0] == Advice.CLEAN_IN_A_MINUTE


def test_full_shared_memory_in_use_points_to_no_clean() -> None:
    (full,) = found(shared_memory=room(free=0))
    assert full.remedy.command is None
    (unknown,) = found(shared_memory=SharedMemory(64 << 20, 0))
    assert (unknown.fact(UnusedRoom), unknown.remedy.command) == (None, ("semtrace", "clean"))


def test_another_mount_namespace_is_cleaned_there() -> None:
    there = replace(room(block(1 << 20)), elsewhere=True)
    (finding,) = found(shared_memory=there)
    assert finding.remedy.command == ("nsenter", "-t", "10", "-m", "semtrace", "clean")
    assert finding.remedy.advice[-1] == Advice.CLEAN_THERE


# -- hostile text


def test_target_cannot_write_to_the_terminal() -> None:
    evil = "app.\x1b[2Jlock\n"
    stack = frames((f"/srv/{evil}.py", evil))
    sick = snapshot(
        lock(evil, 1, state="orphaned", reason=evil, waiters=(waiter(12, 20.0, stack=stack),)),
        lock(evil, 2, holders=(holder(11, 20.0, asleep_s=20.0, stack=stack),)),
        lock(evil, 3, strays=(Stray(pid(12), 1),)),
        thread_locks=(thread_lock(evil, overlap=overlap(11, 12)),),
        shared_memory=room(leak(name=evil)),
    )
    told = replace(sick, findings=findings(sick))
    assert len(told.findings) == 5
    assert all(c.isprintable() or c == "\n" for c in everything(told).replace("'" + evil + "'", ""))
