"""One name, several semaphores."""

from __future__ import annotations

from semtrace.model import Holder, Lock, LockState, ProcessId, SemId, Waiter
from semtrace.observe.names.separate import combine, count_separate

WORKERS = [ProcessId(number, 100 + number) for number in range(1, 5)]


def lock(inode: int, *mapped_by: ProcessId, name: str | None = "myapp.lock", state: LockState = "free") -> Lock:
    holders = (Holder(mapped_by[0], None, 1),) if state in ("held", "contended") else ()
    waiters = (Waiter(mapped_by[0], 9),) if state == "contended" else ()
    return Lock(
        id=SemId(0, 27, inode),
        kind="Lock",
        state=state,
        value=int(state == "free"),
        maximum=1,
        name=name,
        holders=holders,
        waiters=waiters,
        mapped_by=mapped_by,
    )


def test_locks_of_one_name_in_each_worker_count_as_separate() -> None:
    locks = count_separate([lock(number, worker) for number, worker in enumerate(WORKERS)])
    assert [each.separate for each in locks] == [4] * 4


def test_locks_of_one_name_in_one_process_are_not_separate() -> None:
    """A list that was filled twice, a name that was used again: they are two locks, and both are shared."""
    locks = count_separate([lock(1, *WORKERS), lock(2, *WORKERS)])
    assert [each.separate for each in locks] == [1, 1]


def test_locks_without_a_name_are_never_the_same() -> None:
    locks = count_separate([lock(number, worker, name=None) for number, worker in enumerate(WORKERS)])
    assert [each.separate for each in locks] == [1] * 4
    assert len(combine(locks)) == 4


def test_separate_locks_become_one_row_that_says_so() -> None:
    states: list[LockState] = ["free", "held", "contended", "free"]
    locks = count_separate([lock(n, w, state=s) for n, (w, s) in enumerate(zip(WORKERS, states, strict=True))])
    (row,) = combine(locks)
    assert row.reason is not None
    assert row.reason.startswith("4 separate locks, one a worker")
    assert row.state == "contended"
    assert [holder.process for holder in row.holders] == [WORKERS[1], WORKERS[2]]
    assert [waiter.process for waiter in row.waiters] == [WORKERS[2]]
    assert row.mapped_by == tuple(WORKERS)
    assert row.value is None


def test_an_orphan_among_them_shows() -> None:
    locks = count_separate([lock(1, WORKERS[0]), lock(2, WORKERS[1], state="orphaned")])
    assert combine(locks)[0].state == "orphaned"


def test_other_locks_keep_their_rows_and_their_order() -> None:
    locks = count_separate([lock(1, WORKERS[0]), lock(2, *WORKERS, name="myapp.shared"), lock(3, WORKERS[1])])
    assert [each.name for each in combine(locks)] == ["myapp.lock", "myapp.shared"]
    assert combine(locks)[1] is locks[1]
