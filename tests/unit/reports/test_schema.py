"""The JSON of `dump --json` is a contract: these keys, these types; what was not measured is null."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from semtrace.model import (
    Advice,
    Elapsed,
    Finding,
    FindingCode,
    Frame,
    Holder,
    LeakedName,
    Lock,
    LockRef,
    Place,
    Problem,
    Process,
    ProcessId,
    Remedy,
    SemId,
    Server,
    Snapshot,
    ThreadLock,
    ThreadLockUse,
    ThreadRef,
    UnusedNames,
    UnusedRoom,
    WaitedFor,
    Waiter,
)
from semtrace.reports.schema import snapshot_json

MASTER, WORKER = ProcessId(10, 100), ProcessId(11, 101)
LOCK = SemId(0, 27, 42)

# design.md, "Commands": fields may be added, never renamed.
CONTRACT = {
    "": {"schema", "taken_at", "server", "processes", "locks", "thread_locks", "findings", "problems"},
    "server": {"kind", "pid", "title", "version"},
    "processes": {
        *("pid", "ppid", "role", "state", "cpu_percent", "rss", "threads", "started_at", "last_heartbeat_s", "holds"),
        "waits_on",
    },
    "locks": {
        *("id", "name", "names", "kind", "part_of", "state", "value", "maximum", "shm_name", "linked", "holders"),
        *(
            "waiters",
            "mapped_by",
            "reason",
            "orphaned_s",
        ),
    },
    "locks.holders": {"pid", "tid", "count", "since_s", "evidence", "stack"},
    "locks.waiters": {"pid", "tid", "for_s", "stack"},
    "locks.holders.stack": {"function", "file", "line"},
    "thread_locks": {"name", "kind", "processes"},
    "thread_locks.processes": {"pid", "locked"},
    "findings": {
        *("code", "severity", "lock", "name", "pids", "title", "evidence", "remedy", "locks", "threads", "since_s"),
    },
    "findings.locks": {"id", "name", "kind", "pid"},
    "findings.threads": {"pid", "tid", "place"},
    "problems": {"pid", "what", "error", "remedy"},
}


def full() -> Snapshot:
    stack = (Frame("deposit", "/srv/myapp.py", 42, "with lock:"),)
    return Snapshot(
        server=Server("gunicorn", MASTER, "gunicorn myapp:app", 1_700_000_000.0, "alice", "27.0.1", "myapp:app"),
        taken_at=1_700_000_060.25,
        monotonic_s=60.0,
        processes=(
            Process(MASTER, 1, "master", "sleeping", 25 << 20, 1, 1_700_000_000.0),
            Process(WORKER, 10, "worker", "running", 41 << 20, 2, 1_700_000_001.0, 12.345, 0.5, (LOCK,), (LOCK,)),
        ),
        locks=(
            Lock(
                LOCK,
                "Lock",
                "contended",
                0,
                1,
                name="myapp.lock",
                names=("myapp.lock", "myapp.db.lock"),
                shm_name="/mp-abc",
                holders=(Holder(WORKER, 11, 1, 1.23456, stack=stack),),
                waiters=(Waiter(MASTER, 10, 0.5, stack),),
                mapped_by=(MASTER, WORKER),
            ),
        ),
        thread_locks=(ThreadLock("myapp.tlock", "Lock", (ThreadLockUse(WORKER, True),)),),
        findings=(
            Finding(
                FindingCode.LONG_HOLD,
                "warning",
                (LockRef(LOCK, "myapp.lock", "Lock"),),
                (ThreadRef(WORKER, 11, Place(stack[0])),),
                (WaitedFor((ThreadRef(MASTER, 10),)),),
                Remedy((Advice.HOLD_SHORTER,)),
                Elapsed(12.3456),
            ),
            Finding(FindingCode.CONTENTION, "note", (), (), (), Remedy(())),
        ),
        problems=(Problem("read its memory", "Permission denied", "sudo semtrace 11", WORKER), Problem("a", "b", "c")),
    )


def empty() -> Snapshot:
    lock = Lock(
        LOCK, "unknown", "unknown", None, None, reason="its value could not be read", holders=(Holder(WORKER, None, 1),)
    )
    server = Server("python", MASTER, "serve.py", 0.0, "root")
    return Snapshot(server, 0.0, 0.0, (Process(MASTER, 1, "process", "sleeping", 0, 1, 0.0),), (lock,))


def _at(found: Any, path: str) -> list[dict[str, Any]]:
    here = [found]
    for key in filter(None, path.split(".")):
        here = [item for one in here for item in (one[key] if isinstance(one[key], list) else [one[key]])]
    return here


@pytest.mark.parametrize("path", CONTRACT)
def test_every_key_of_the_contract_is_there(path: str) -> None:
    found = _at(snapshot_json(full()), path)
    assert found
    for one in found:
        assert CONTRACT[path] <= one.keys()


def test_an_empty_snapshot_has_the_same_keys() -> None:
    found, other = snapshot_json(empty()), snapshot_json(full())
    assert found.keys() == other.keys()
    assert found["server"].keys() == other["server"].keys()
    assert found["locks"][0].keys() == other["locks"][0].keys()


def test_what_was_not_measured_is_null_and_never_0() -> None:
    found = snapshot_json(empty())
    assert found["server"]["version"] is None
    process, lock = found["processes"][0], found["locks"][0]
    assert [process["cpu_percent"], process["last_heartbeat_s"]] == [None, None]
    assert [lock[key] for key in ("name", "value", "maximum", "shm_name", "part_of")] == [None] * 5
    assert [lock["holders"][0][key] for key in ("tid", "since_s", "stack")] == [None] * 3


def test_private_locks_that_nobody_looked_at_are_null() -> None:
    unread = Problem("look", "no layout", "none", unread="private-locks")
    assert snapshot_json(empty())["thread_locks"] == []
    assert snapshot_json(replace(empty(), problems=(unread,)))["thread_locks"] is None
    unmeasured = ThreadLock("app.permits", "Semaphore", (ThreadLockUse(WORKER, True, waiters=None),))
    (lock,) = snapshot_json(replace(full(), thread_locks=(unmeasured,), problems=(unread,)))["thread_locks"]
    assert lock["processes"][0]["waiters"] is None


def test_files_that_nobody_uses_are_listed_with_their_sizes() -> None:
    block = LeakedName(SemId(0, 27, 9), "/psm_abc", 75.12345, "alice", "block", 4096)
    full_up = Finding(FindingCode.SHM_FULL, "warning", (), (), (UnusedRoom((block,), 0),), Remedy(()))
    left = Finding(FindingCode.LEAKED_NAME, "warning", (), (), (UnusedNames((block,)),), Remedy(()))
    first, second = snapshot_json(replace(empty(), findings=(full_up, left)))["findings"]
    file = {"id": "0:27:9", "name": "/psm_abc", "sort": "block", "size": 4096, "age_s": 75.123, "user": "alice"}
    assert first["files"] == second["files"] == [file]
    assert snapshot_json(full())["findings"][0]["files"] == []


def test_types_and_values_are_the_contracts() -> None:
    found = snapshot_json(full())
    assert found["schema"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)", found["taken_at"])
    assert found["server"]["kind"] == "gunicorn"
    lock = found["locks"][0]
    assert lock["id"] == "0:27:42"
    assert lock["names"] == ["myapp.lock", "myapp.db.lock"]
    assert lock["mapped_by"] == [10, 11]
    assert lock["linked"] is False
    assert lock["holders"][0]["evidence"] == "memory"
    assert lock["holders"][0]["since_s"] == pytest.approx(1.23456, abs=0.001)
    frame = {"function": "deposit", "file": "/srv/myapp.py", "line": 42, "source": "with lock:"}
    assert lock["holders"][0]["stack"] == [frame]
    assert found["processes"][1]["holds"] == ["0:27:42"]
    assert found["processes"][1]["waits_on"] == ["0:27:42"]
    assert found["processes"][1]["rss"] == 41 << 20
    use = {"pid": 11, "locked": True, "holder": None, "waiters": [], "tasks": 0}
    assert found["thread_locks"][0]["processes"] == [use]
    assert [p["pid"] for p in found["problems"]] == [11, None]
    finding, note = found["findings"]
    assert (finding["code"], finding["severity"], finding["lock"], finding["pids"]) == (
        "long-hold",
        "warning",
        "0:27:42",
        [11],
    )
    assert finding["locks"] == [{"id": "0:27:42", "name": "myapp.lock", "kind": "Lock", "pid": None}]
    assert finding["threads"] == [{"pid": 11, "tid": 11, "place": "/srv/myapp.py:42 in deposit: with lock:"}]
    assert finding["since_s"] == 12.346
    assert finding["evidence"] == ["1 thread waits for it: PID 10"]
    assert note["severity"] == "info", "schema 1 has this word for a note"


@pytest.mark.parametrize("snapshot", [full(), empty()], ids=["full", "empty"])
def test_it_is_json_and_comes_back_as_it_was(snapshot: Snapshot) -> None:
    found = snapshot_json(snapshot)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_name_that_is_no_utf8_can_still_be_written() -> None:
    from dataclasses import replace

    odd = replace(full(), server=replace(full().server, title="caf\udce9"))
    json.dumps(snapshot_json(odd)).encode()
