"""Locks that do not protect across workers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.snapshots import (
    SERVER,
    codes,
    found,
    holder,
    lock,
    overlap,
    pid,
    processes,
    thread_lock,
    waiter,
)

from semtrace.model import (
    Advice,
    HeldAtOnce,
    LockedSinceFork,
    Overlapped,
    SeparateSemaphores,
)
from semtrace.present.findings import evidence, remedy, title

# -- private-lock


def test_a_threading_lock_with_two_inside_is_an_error() -> None:
    (finding,) = found(thread_locks=(thread_lock(overlap=overlap(11, 13)),))
    assert (finding.code, finding.severity, finding.name) == ("private-lock", "error", "app.guard")
    assert finding.fact(Overlapped) == Overlapped(3, 2, 10.0, (pid(11), pid(13)))
    assert finding.remedy.advice == (Advice.SHARE_ACROSS_WORKERS, Advice.FINE_FOR_ONE_PROCESS)


def test_cure_of_another_server_does_not_name_gunicorn() -> None:
    twice, other = thread_lock(overlap=overlap(11, 13)), replace(SERVER, kind="python")
    (finding,) = found(thread_locks=(twice,), server=other)
    assert finding.remedy.advice == (Advice.SHARE_BY_FORK, Advice.FINE_FOR_ONE_PROCESS)
    (finding,) = found(thread_locks=(replace(twice, kind="asyncio.Lock"),), server=other)
    assert finding.remedy.advice[:2] == (Advice.SHARE_BY_FORK, Advice.NOT_IN_EVENT_LOOP)
    (finding,) = found(*separate(), server=other)
    assert finding.remedy.advice[0] == Advice.MAKE_IN_PARENT


def test_threading_lock_in_several_workers_is_a_note() -> None:
    (finding,) = found(thread_locks=(thread_lock(),))
    assert (finding.code, finding.severity, finding.pids) == ("private-lock", "note", (11, 12, 13))


def test_a_server_of_one_worker_may_have_threading_locks() -> None:
    alone = thread_lock(workers=1, overlap=overlap(10, 11))
    assert codes(thread_locks=(alone,), processes=processes(1)) == []


def test_a_script_may_have_threading_locks() -> None:
    family = tuple(replace(process, role="process") for process in processes())
    assert codes(thread_locks=(thread_lock(),), processes=family, server=replace(SERVER, kind="python")) == []


def test_a_librarys_lock_and_a_condition_are_their_own_business() -> None:
    assert codes(thread_locks=(thread_lock(own=False, overlap=overlap(11, 12)),)) == []
    assert codes(thread_locks=(thread_lock(kind="Condition"),)) == []
    assert codes(thread_locks=(thread_lock(kind="Condition", overlap=overlap(11, 12)),)) == []


def test_master_and_worker_inside_at_once_is_no_error() -> None:
    assert [f.severity for f in found(thread_locks=(thread_lock(overlap=overlap(10, 11)),))] == ["note"]


def inherited(*numbers: int, **changes: Any) -> Any:
    guard = thread_lock(locked=numbers, **changes)
    uses = (replace(use, inherited=use.process.pid in numbers) for use in guard.processes)
    return replace(guard, processes=tuple(uses))


def test_copies_locked_at_the_fork_are_inherited_holds() -> None:
    (finding,) = found(thread_locks=(inherited(11, 12, 13),))
    assert (finding.code, finding.severity, finding.pids) == ("inherited-hold", "warning", (11, 12, 13))
    assert finding.fact(LockedSinceFork) == LockedSinceFork((pid(11), pid(12), pid(13)), workers=True)
    assert Advice.NEW_LOCK_AFTER_FORK in finding.remedy.advice


def test_one_copy_that_stays_locked_is_told_where_somebody_waits() -> None:
    alone = inherited(12)
    assert codes(thread_locks=(alone,)) == ["private-lock"]
    uses = tuple(replace(use, waiters=(waiter(12),) if use.inherited else ()) for use in alone.processes)
    (finding,) = found(thread_locks=(replace(alone, processes=uses),))
    assert finding.code == "stuck"
    assert finding.fact(LockedSinceFork) == LockedSinceFork((pid(12),), workers=False)
    assert codes(thread_locks=(inherited(11, 12, own=False),)) == []


def test_script_may_fork_while_a_threading_lock_is_held() -> None:
    """Unlike a gunicorn's workers, which are told alike, one of its processes may be meant to keep it."""
    script = {
        "server": replace(SERVER, kind="python"),
        "processes": tuple(replace(process, role="process") for process in processes()),
    }
    kept = inherited(10, 11, 12)
    assert codes(thread_locks=(kept,), **script) == []
    uses = tuple(replace(use, waiters=(waiter(use.process.pid),)) for use in kept.processes)
    (finding,) = found(thread_locks=(replace(kept, processes=uses),), **script)
    assert (finding.code, finding.severity, finding.pids) == ("stuck", "error", (11, 12, 13))
    assert finding.fact(LockedSinceFork) == LockedSinceFork((pid(11), pid(12)), workers=False)


# -- unshared-lock


def separate(count: int = 3, name: str = "app.lock", **changes: Any) -> tuple[Any, ...]:
    return tuple(lock(name, i, separate=count, mapped_by=(pid(11 + i),), **changes) for i in range(count))


def test_separate_lock_in_each_worker_is_an_error() -> None:
    (finding,) = found(*separate())
    assert (finding.code, finding.severity, finding.pids) == ("unshared-lock", "error", (11, 12, 13))
    assert finding.remedy.advice == (Advice.MAKE_BEFORE_FORK, Advice.FINE_FOR_CHILDREN)


def test_that_two_hold_it_at_once_is_told() -> None:
    one, two, three = separate()
    (finding,) = found(replace(one, holders=(holder(11, 0.1),)), replace(two, holders=(holder(12, 0.1),)), three)
    assert finding.fact(HeldAtOnce) == HeldAtOnce((pid(11), pid(12)))


def test_a_value_is_told_as_what_it_is() -> None:
    (finding,) = found(*separate(name="app.counter._lock", part_of="app.counter", kind="RLock"))
    assert finding.name == "app.counter"


@pytest.mark.parametrize(
    "changes",
    [
        {"own": False},  # a library's, such as tqdm's
        {"name": "app.pool._inqueue._rlock", "part_of": "app.pool"},  # each worker may have a pool of its own
        {"name": "app.event._flag", "part_of": "app.event", "signal": True},
    ],
)
def test_parts_that_each_worker_may_have_are_no_error(changes: dict[str, Any]) -> None:
    assert codes(*separate(**changes)) == []


QUEUES = {
    "SimpleQueue": ("_rlock", "_wlock"),
    "Queue": ("_rlock", "_wlock", "_sem"),
    "JoinableQueue": ("_rlock", "_wlock", "_sem", "_unfinished_tasks", "_cond._lock", "_cond._sleeping_count"),
}


def queue_of_each(name: str, pieces: tuple[str, ...], **changes: Any) -> tuple[Any, ...]:
    """Each of three workers has its own."""
    return tuple(
        lock(f"{name}.{piece}", 100 * at + i, separate=3, part_of=name, mapped_by=(pid(11 + i),), **changes)
        for at, piece in enumerate(pieces)
        for i in range(3)
    )


@pytest.mark.parametrize("kind", QUEUES)
def test_separate_queue_in_each_worker_is_one_warning(kind: str) -> None:
    (finding,) = found(*queue_of_each("app.queue", QUEUES[kind]))
    assert (finding.code, finding.severity, finding.name) == ("unshared-lock", "warning", "app.queue")
    assert finding.pids == (11, 12, 13)
    assert finding.locks[0].kind == kind
    assert finding.remedy.advice == (Advice.MAKE_BEFORE_FORK_TO_SHARE, Advice.FINE_FOR_CHILDREN)
    assert "_rlock" not in "".join((title(finding), *evidence(finding), remedy(finding)))


@pytest.mark.parametrize(("kind", "pieces"), [
    ("Event", ("_cond._lock", "_cond._sleeping_count", "_cond._wait_semaphore", "_flag")),
    ("Barrier", ("_cond._lock", "_cond._sleeping_count", "_cond._wait_semaphore")),
])  # fmt: skip
def test_separate_event_or_barrier_in_each_worker_is_a_warning(kind: str, pieces: tuple[str, ...]) -> None:
    (finding,) = found(*queue_of_each("app.done", pieces))
    assert (finding.code, finding.severity, finding.name) == ("unshared-lock", "warning", "app.done")
    assert finding.locks[0].kind == kind


def jobs(count: int, workers: int = 2) -> tuple[Any, ...]:
    """What each of the workers has appended to a list of its own, for processes that have ended."""
    return tuple(
        lock(f"app.history[{i}].{piece}", 100 * i + 10 * w + k, separate=workers, mapped_by=(pid(11 + w),), **changes)
        for i in range(count)
        for w in range(workers)
        for k, (piece, changes) in enumerate(
            (("lock", {}), ("counter._lock", {"part_of": f"app.history[{i}].counter", "kind": "RLock"}))
        )
    )


def test_separate_locks_in_lists_are_one_warning() -> None:
    told = found(*jobs(4))
    assert [(f.code, f.severity, f.name) for f in told] == [
        ("unshared-lock", "warning", "app.history[…].lock"),
        ("unshared-lock", "warning", "app.history[…].counter"),
    ]
    assert told[0].pids == (11, 12)
    assert [each.locks[0].kind for each in told] == ["Lock", "Value"]
    assert told[0].fact(SeparateSemaphores) == SeparateSemaphores(8, (pid(11), pid(12)), "Lock")


def test_keys_are_indexes_and_mapped_children_excuse_all() -> None:
    keyed = separate(name="app.locks['a]b']")
    assert [(f.severity, f.name) for f in found(*keyed)] == [("warning", "app.locks[…]")]
    first, *others = jobs(3)
    assert "app.history[…].lock" not in [
        f.name for f in found(replace(first, mapped_by=(*first.mapped_by, pid(90))), *others)
    ]


@pytest.mark.parametrize(
    "fine",
    [
        queue_of_each("app.ex", ("_call_queue._rlock", "_call_queue._wlock")),  # an executor's, before its first job
        queue_of_each("app.queue", QUEUES["Queue"], own=False),
        tuple(replace(each, mapped_by=(*each.mapped_by, pid(90))) for each in queue_of_each("app.q", QUEUES["Queue"])),
        tuple(lock(f"app.queue.{piece}", i, part_of="app.queue") for i, piece in enumerate(QUEUES["Queue"])),  # shared
    ],
)
def test_queue_of_a_worker_and_its_children_is_fine(fine: tuple[Any, ...]) -> None:
    assert codes(*fine) == []


def test_two_generations_of_a_server_have_each_their_own() -> None:
    """USR2: the old master and its workers, the new master and its workers."""
    old = lock(number=1, separate=2, mapped_by=tuple(map(pid, (10, 11, 12))))
    new = lock(number=2, separate=2, mapped_by=tuple(map(pid, (20, 21, 22))))
    assert codes(old, new) == []


def test_separate_locks_in_processes_of_a_script_are_a_warning() -> None:
    family = tuple(replace(process, role="process") for process in processes())
    (finding,) = found(*separate(), processes=family, server=replace(SERVER, kind="python"))
    assert (finding.code, finding.severity) == ("unshared-lock", "warning")


def test_a_second_worker_without_the_lock_yet_is_no_error() -> None:
    assert codes(lock(mapped_by=(pid(11),))) == []
