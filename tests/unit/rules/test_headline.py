"""The one line that answers whether a server moves."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.finding_cases import cases
from support.snapshots import embrace, found, holder, lock, pid, snapshot, thread_lock, waiter

from semtrace.model import Snapshot
from semtrace.present.headline import headline_text
from semtrace.rules import findings, gone_by
from semtrace.rules.headline import headline


def judged(picture: Snapshot) -> Snapshot:
    return replace(picture, findings=findings(picture))


def said(picture: Snapshot) -> str:
    return headline_text(headline(judged(picture)))


def test_healthy_server_is_ok() -> None:
    assert said(snapshot(lock(), thread_locks=(thread_lock(),))) == "OK: 3 workers, 3 busy"


def test_deadlock_counts_the_workers_behind_it() -> None:
    a, b = embrace()
    behind = replace(a, waiters=(*a.waiters, waiter(13)))
    assert said(snapshot(behind, b)).startswith("DEADLOCK: 3 of 3 workers wait for app.a, app.b, since ")


def test_old_hang_is_as_old_in_the_next_dump() -> None:
    """The scheduler's clock gives another lower bound each time."""

    def since(asleep_s: float) -> str:
        held = lock(holders=(holder(11, within=True),), waiters=(waiter(11, asleep_s), waiter(12, asleep_s)))
        return said(snapshot(held)).partition(", since ")[2]

    assert re.fullmatch(r"\d\d:\d\d:\d\d", since(20.0))
    assert re.fullmatch(r"about \d\d:\d\d", since(600.0))
    assert since(600.0) == since(598.5)


def test_orphan_nobody_waits_for_is_not_blamed_for_other_waits() -> None:
    orphan = lock(state="orphaned", reason="nobody holds it")
    other = lock("app.other", 2, holders=(holder(11),), waiters=(waiter(12), waiter(13)))
    assert said(snapshot(orphan, other)) == "ORPHANED: app.lock is orphaned: the process that held it died"
    wanted = replace(orphan, waiters=(waiter(11),))
    other = replace(other, holders=(holder(10),))
    assert said(snapshot(wanted, other)) == "ORPHANED: 1 of 3 workers waits for app.lock"


def test_all_workers_that_wait_are_waiting() -> None:
    taken = lock(holders=(holder(10, 1.0),), waiters=tuple(waiter(number, 1.0) for number in (11, 12, 13)))
    assert said(snapshot(taken)) == "WAITING: 3 of 3 workers wait for app.lock"


def test_what_is_over_is_no_answer() -> None:
    a, b = embrace()
    (ring,) = found(a, b)
    assert headline_text(headline(replace(snapshot(lock()), findings=(gone_by(ring, 5.0),)))).startswith("OK")


def test_ended_server_is_called_so() -> None:
    assert said(snapshot(lock(), alive=False)).startswith("ENDED: ")


@pytest.mark.parametrize(("name", "finding"), list(cases()), ids=lambda each: each if isinstance(each, str) else "")
def test_every_finding_makes_one_printable_line(name: str, finding: object) -> None:
    line = headline_text(headline(replace(snapshot(lock(mapped_by=(pid(11),))), findings=(finding,))))
    assert line.isprintable()
