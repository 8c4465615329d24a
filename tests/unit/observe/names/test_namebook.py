"""A process of another user gives no name to a lock that the server's own user has part in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from semtrace.cpython.name_walk import Named, Walk
from semtrace.model import ProcessId, SemId
from semtrace.observe.names import namebook
from semtrace.observe.names.namebook import NameBook

LOCK = SemId(0, 27, 501)
ROOT, WORKER, THEIRS = ProcessId(101, 1), ProcessId(102, 2), ProcessId(103, 3)
ALICE, MALLORY = 1000, 1001
ADDRESS = 0x7000


def mapper(process: ProcessId) -> Any:
    return SimpleNamespace(id=process, objects={LOCK: (SimpleNamespace(address=ADDRESS),)})


def names(monkeypatch: pytest.MonkeyPatch, users: dict[ProcessId, int], *processes: ProcessId) -> list[str]:
    monkeypatch.setattr(namebook, "effective_user", users.get)
    book = NameBook(ROOT)
    for process in (ROOT, WORKER, THEIRS):
        book.walks[process] = Walk({ADDRESS: (Named(ADDRESS, f"name_of_{process.pid}", "Lock"),)})
    found = book.names(LOCK, cast(Any, [mapper(process) for process in processes]))
    return [named.name for named in found]


def test_a_hostile_child_names_no_lock_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    users = {ROOT: 0, WORKER: 0, THEIRS: MALLORY}
    assert names(monkeypatch, users, ROOT, WORKER, THEIRS) == ["name_of_101", "name_of_102"]
    assert names(monkeypatch, users, WORKER, THEIRS) == ["name_of_102"]


def test_lock_of_only_one_user_is_named_by_that_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with gunicorn --user and without --preload: the master is root's, the locks are the workers'."""
    users = {ROOT: 0, WORKER: ALICE, THEIRS: ALICE}
    assert names(monkeypatch, users, WORKER, THEIRS) == ["name_of_102", "name_of_103"]


def test_the_servers_own_user_names_its_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    users = {ROOT: ALICE, WORKER: ALICE, THEIRS: MALLORY}
    assert names(monkeypatch, users, WORKER, THEIRS) == ["name_of_102"]
