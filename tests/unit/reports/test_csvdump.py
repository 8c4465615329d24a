"""A snapshot as rows for a spreadsheet."""

from __future__ import annotations

import csv
from dataclasses import replace

from support.snapshots import lock, snapshot, thread_lock, waiter

from semtrace.model import Snapshot
from semtrace.reports.csvdump import csv_header, csv_rows


def rows(of: Snapshot) -> list[dict[str, str]]:
    return list(csv.DictReader([csv_header(), *csv_rows(of)]))


def test_each_shared_lock_has_one_row() -> None:
    one, two = lock(state="orphaned", waiters=(waiter(12, 75.0), waiter(13, 2.0))), replace(lock(), name=None)
    found = rows(snapshot(one, two))
    assert [(row["name"], row["state"], row["waiters"], row["longest_wait_s"]) for row in found] == [
        ("app.lock", "orphaned", "2", "75.000"),
        ("", two.state, "0", ""),
    ]
    assert {row["id"] for row in found} == {str(one.id)}


def test_a_private_lock_has_one_row_for_each_process() -> None:
    private = thread_lock()
    found = rows(replace(snapshot(), thread_locks=(private,)))
    assert [int(row["processes"]) for row in found] == [use.process.pid for use in private.processes]


def test_a_name_is_no_formula_and_breaks_no_row() -> None:
    [row] = rows(snapshot(replace(lock(), name='=HYPERLINK("x"),\n')))
    assert row["name"].startswith("'=HYPERLINK")
    assert len(list(csv_rows(snapshot(lock())))) == 1
