"""What is shown of a server that has ended."""

from __future__ import annotations

from dataclasses import replace

from support.snapshots import found, holder, lock, pid, processes, snapshot, waiter

from semtrace.model import Lock, Snapshot
from semtrace.observe.history.lastpicture import LastPicture

ORPHAN = lock(state="orphaned", value=0, waiters=(waiter(11), waiter(12)), reason="locked in 40 readings over 1.0 s")
WATCHING = "locked, and no living process claims it; not proved orphaned: watching whether it stays so"
UNPROVED = "locked, and no living process claims it; not proved orphaned before it ended"
SUSPECT = lock(state="unknown", value=0, reason=WATCHING, if_ended=UNPROVED)


def at(now_s: float, *locks: Lock, workers: int = 3) -> Snapshot:
    there = processes(workers)
    return snapshot(*locks, monotonic_s=now_s, processes=there, findings=found(*locks, processes=there))


def ended(*pictures: Snapshot, after_s: float = 0.2) -> Snapshot:
    last = LastPicture()
    for picture in pictures:
        last.add(picture)
    end = last.ended(pictures[-1].monotonic_s + after_s)
    assert end is not None
    assert not end.alive
    return end


def test_who_never_had_a_picture_has_no_last_one() -> None:
    assert LastPicture().ended(1.0) is None


def test_last_picture_is_from_before_the_workers_left() -> None:
    healthy = lock(holders=(holder(11),), waiters=(waiter(12), waiter(13)))
    full = at(10.0, healthy)
    end = ended(full, at(10.1, SUSPECT, workers=1), at(10.2, SUSPECT, workers=0), at(10.4, SUSPECT, workers=0))
    assert end == replace(full, alive=False)


def test_findings_stay_though_the_last_snapshots_show_nothing() -> None:
    end = ended(at(8.0, ORPHAN), at(9.9, SUSPECT), at(10.0, SUSPECT, workers=0))
    assert [finding.code for finding in end.findings] == ["orphaned-lock"]
    assert end.locks == (ORPHAN,)


def test_what_was_over_before_the_end_is_not_said() -> None:
    assert ended(at(8.0, ORPHAN), at(9.9, lock()), at(10.0, lock(), workers=0)).findings == ()
    assert ended(at(2.0, ORPHAN), at(9.9, SUSPECT), at(10.0, SUSPECT, workers=0)).findings == ()


def test_who_was_killed_is_still_there_but_waits_no_more() -> None:
    killed = replace(ORPHAN, waiters=())
    assert ended(at(10.0, ORPHAN), at(10.1, killed), at(10.2, killed, workers=0)).locks == (ORPHAN,)
    assert ended(at(10.0, ORPHAN), at(10.1, ORPHAN), at(10.2, killed)).monotonic_s == 10.1


def test_waiters_stay_if_only_snapshots_after_their_death_prove_it() -> None:
    doubted, killed = replace(SUSPECT, waiters=ORPHAN.waiters), replace(ORPHAN, waiters=())
    end = ended(at(10.0, doubted), at(10.1, killed), at(10.2, killed, workers=0))
    assert end.locks == (ORPHAN,)


def test_sparse_snapshots_keep_the_one_before_the_last_too() -> None:
    assert ended(at(6.0, ORPHAN), at(10.0, replace(ORPHAN, waiters=())), at(14.0, workers=0)).locks == (ORPHAN,)
    assert ended(at(6.0, ORPHAN), at(10.0, lock()), at(14.0, lock())).locks == (lock(),)


def test_a_suspicion_is_not_frozen_in_the_present_tense() -> None:
    (suspect,) = ended(at(10.0, SUSPECT)).locks
    assert (suspect.reason, suspect.if_ended) == (UNPROVED, None)
    lasting = "locked, and no living process claims it; not proved orphaned: PID 99 maps it too"
    assert ended(at(10.0, replace(SUSPECT, reason=lasting, if_ended=None))).locks[0].reason == lasting


def test_master_that_continued_without_workers_ends_as_it_was() -> None:
    alone = [at(10.0 + i, lock(), workers=0) for i in range(1, 9)]
    assert ended(at(10.0, ORPHAN), *alone) == replace(alone[-1], alive=False)


def test_workers_that_come_back_are_the_last_picture() -> None:
    back = at(11.0, lock(), workers=3)
    assert ended(at(9.0, ORPHAN), at(10.0, lock(), workers=0), back) == replace(back, alive=False)


def test_a_server_without_workers_shows_what_was_seen_last() -> None:
    pictures = [at(10.0, lock(), workers=0), at(10.1, lock(holders=(holder(10),)), workers=0)]
    assert ended(*pictures).locks[0].holders[0].process == pid(10)
