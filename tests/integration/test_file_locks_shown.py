"""File locks of real servers: in the table, in the graph, in findings and in JSON."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import PROGRAMS, child_pids, kill_tree, start_gunicorn, wait_until
from support.commands import run, run_as

from semtrace.linux.syscalls import NUMBERS
from semtrace.model import FileLockType, Finding, FindingCode, Lock, Snapshot
from semtrace.observe.observer import Observer, settle
from semtrace.reports.schema import snapshot_json
from semtrace.servers.discovery import server_of

PROGRAM = PROGRAMS / "file_locks.py"
NOBODY = 65534
TYPES = {
    "flock": FileLockType.FLOCK,
    "posix": FileLockType.POSIX,
    "ofd": FileLockType.OFD,
    "filelock": FileLockType.FLOCK,
    "soft": FileLockType.SOFT,
    "portalocker": FileLockType.FLOCK,
    "fasteners": FileLockType.POSIX,
    "readwrite": FileLockType.POSIX,
}

NAMES = {"filelock": "file_locks.report_lock", "fasteners": "file_locks.store_lock"}

FILE_CODES = tuple(code for code in FindingCode if "file" in code)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a namespace of its own")

pytestmark = pytest.mark.skipif(not NUMBERS, reason="the system calls of this processor are not known")


@contextlib.contextmanager
def observing(pid: int) -> Iterator[Observer]:
    observer = Observer(server_of(pid))
    try:
        yield observer
    finally:
        observer.close()


@contextlib.contextmanager
def program(folder: Path, *arguments: str, inside: str = "") -> Iterator[tuple[int, list[int]]]:
    """Run the program with its lock files in the folder; `inside` prepares a mount namespace of its own."""
    env = {**os.environ, "LOCKS": str(folder)}
    argv = [sys.executable, str(PROGRAM), *arguments]
    if inside:
        argv = ["unshare", "-m", "sh", "-c", f'{inside} && exec "$@"', "sh", *argv]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as popen:
        assert popen.stdout
        try:
            yield popen.pid, list(map(int, popen.stdout.readline().split()))
        finally:
            kill_tree(popen.pid)


def by_name(snapshot: Snapshot) -> dict[str, Lock]:
    return {Path(lock.file.path or "").name: lock for lock in snapshot.locks if lock.file}


def until(observer: Observer, name: str, waiters: int = 1, stuck: int = 0) -> tuple[Snapshot, Lock]:
    """Return the first snapshot in which so many threads wait for the file, and so many threads are stuck."""

    def look() -> tuple[Snapshot, Lock] | None:
        snapshot = settle(observer, 0.5)
        lock = by_name(snapshot).get(name)
        ready = lock is not None and len(lock.waiters) >= waiters and len(snapshot.waits.stuck) >= stuck
        return (snapshot, lock) if ready and lock is not None else None

    return wait_until(look, what=f"{waiters} threads to wait for {name}")


def finding(snapshot: Snapshot, code: str) -> Finding:
    found = [each for each in snapshot.findings if each.code == code]
    assert found, snapshot.findings
    return found[0]


@pytest.mark.parametrize(
    ("preload", "ways"), [(True, tuple(TYPES)), (False, ("flock", "filelock"))], ids=["preload", "no-preload"]
)
def test_each_library_shows_its_holder_and_waiter(tmp_path: Path, preload: bool, ways: tuple[str, ...]) -> None:
    options = ["-w", str(len(ways) + 1), "-t", "0", *(["--preload"] if preload else [])]
    env = {"LOCKS": str(tmp_path)}
    with start_gunicorn("file_locks:app", *options, env=env) as server, observing(server.pid) as observer:
        server.wait_workers(len(ways) + 1)
        ask(server.get, "hold")
        wait_until((tmp_path / "has-hold").exists, what="all locks to be held")
        for way in ways:
            ask(server.get, way)

        def ready() -> dict[str, Lock] | None:
            found = by_name(settle(observer, 0.5))
            known = all(name in found and found[name].waiters for name in ways)
            return found if known and all(found[name].name == NAMES[name] for name in ways if name in NAMES) else None

        locks = wait_until(ready, what="each lock to have its waiter and its name")
        snapshot = observer.snapshot()
        holders = {lock.holders[0].pid for name, lock in locks.items() if lock.holders}
        assert len(holders) == 1
        for name in ways:
            lock, kind = locks[name], TYPES[name]
            assert lock.file is not None
            assert (lock.kind, lock.state, lock.file.path, lock.file.type) == (
                "file",
                "contended",
                str(tmp_path / name),
                kind,
            )
            assert [holder.pid for holder in lock.holders] == list(holders)
            assert len(lock.waiters) == 1
        assert len({locks[name].waiters[0].pid for name in ways}) == len(ways)
        posix = locks["posix"].file
        assert posix is not None
        assert [(claim.start, claim.end) for claim in posix.claims] == [(5, 14)]
        rows = [row for row in snapshot_json(snapshot)["locks"] if row["path"] == str(tmp_path / "flock")]
        assert [(row["kind"], row["file"]["type"]) for row in rows] == [("file", "flock")]


def ask(get: object, name: str) -> None:
    def call() -> None:
        with contextlib.suppress(OSError):
            get(f"/{name}", timeout=60)  # type: ignore[operator]

    threading.Thread(target=call, daemon=True).start()


@pytest.mark.parametrize("way", ["flock", "filelock", "fasteners"])
def test_ring_of_file_lock_and_shared_lock_is_a_deadlock(tmp_path: Path, way: str) -> None:
    with program(tmp_path, "opposite", way) as (pid, children), observing(pid) as observer:
        snapshot, lock = until(observer, way, stuck=2)
        assert [holder.pid for holder in lock.holders] == [children[0]]
        assert [waiter.pid for waiter in lock.waiters] == [children[1]]
        # A thread that polls runs, so its process's count of the semaphore may be inherited: then it is no sure ring.
        codes = ("deadlock",) if way == "flock" else ("deadlock", "stuck")
        found = next(each for each in snapshot.findings if each.code in codes)
        assert found.severity == "error"
        if found.code == "deadlock":
            assert set(found.pids) == set(children)
            assert lock.id in {each.id for each in found.locks}


def test_child_that_inherited_the_file_is_the_holder(tmp_path: Path) -> None:
    with program(tmp_path, "inherited", "flock") as (pid, (waiter,)), observing(pid) as observer:
        snapshot, lock = until(observer, "flock")
        try:
            assert [each.pid for each in lock.waiters] == [waiter]
            (holder,) = wait_until(lambda: by_name(settle(observer, 0.5))["flock"].holders, what="the heir to be found")
            assert os.readlink(f"/proc/{holder.pid}/exe") == os.readlink(f"/proc/{pid}/exe")
            lock = by_name(observer.snapshot())["flock"]
            assert lock.file is not None
            assert [claim.inherited for claim in lock.file.claims] == [True]
            assert not snapshot.waits.stuck
            found = wait_until(lambda: settle(observer, 0.5).findings, what="the finding")
            assert [each.code for each in found if each.code in FILE_CODES] == ["inherited-file"]
        finally:
            for each in by_name(observer.snapshot())["flock"].holders:
                os.kill(each.pid, signal.SIGKILL)


def test_lock_on_a_file_opened_before_the_fork_is_reported(tmp_path: Path) -> None:
    with program(tmp_path, "shared", "") as (pid, (taker, other)), observing(pid) as observer:
        found = wait_until(lambda: settle(observer, 0.5).findings, what="the finding")
        assert [each.code for each in found if each.code in FILE_CODES] == ["shared-file"]
        assert {each.pid for each in by_name(observer.snapshot())["flock"].holders} == {taker, other}


def test_posix_lock_of_a_file_opened_twice_is_noted(tmp_path: Path) -> None:
    with program(tmp_path, "twice", "") as (pid, (child,)), observing(pid) as observer:
        found = wait_until(lambda: settle(observer, 0.5).findings, what="the finding")
        assert [(each.code, each.severity, each.pids) for each in found if each.code in FILE_CODES] == [
            ("fragile-file-lock", "note", (child,))
        ]


def test_posix_lock_that_a_second_descriptor_dropped_is_an_error(tmp_path: Path) -> None:
    with program(tmp_path, "dropped", "") as (pid, (child,)), observing(pid) as observer:
        wait_until(lambda: by_name(settle(observer, 0.5))["fasteners"].name, what="the name of the lock")
        assert [each.code for each in observer.snapshot().findings if each.code in FILE_CODES] == []
        os.kill(child, signal.SIGUSR1)
        found = wait_until(lambda: settle(observer, 0.5).findings, what="the finding")
        assert [(each.code, each.severity, each.pids) for each in found] == [("lost-file-lock", "error", (child,))]
        lock = by_name(observer.snapshot())["fasteners"]
        assert (lock.name, lock.state, lock.holders) == ("__main__.store_lock", "free", ())


def test_lock_file_of_a_dead_owner_comes_with_a_command(tmp_path: Path) -> None:
    with program(tmp_path, "left_over", "") as (pid, (poller,)), observing(pid) as observer:
        snapshot, lock = until(observer, "soft")
        found = finding(snapshot, "stale-lock-file")
        assert found.remedy.command == ("rm", str(tmp_path / "soft"))
        assert ([each.pid for each in lock.waiters], lock.state) == ([poller], "unknown")
        assert not snapshot.waits.stuck


@as_root
def test_file_of_a_containers_own_layers_is_noted(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    layers = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
    merged = tmp_path / "merged"
    with (
        program(merged, "many", "1", inside=f"mount -t overlay none -o {layers} {merged}") as (pid, _),
        observing(pid) as observer,
    ):
        lock = wait_until(lambda: by_name(observer.snapshot()).get("flock"), what="the lock to be seen")
        assert lock.file is not None
        assert (lock.file.path, lock.file.filesystem, lock.file.local) == (str(merged / "flock"), "overlay", True)
        found = [(each.code, each.severity) for each in observer.snapshot().findings if each.code in FILE_CODES]
        assert found == [("local-lock-file", "note")]


@as_root
def test_holder_in_another_pid_namespace_is_unknown_and_said(tmp_path: Path) -> None:
    """The kernel shows no lock whose taker is outside: who waits is seen all the same."""
    with (tmp_path / "flock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        argv = ["unshare", "-pf", "--mount-proc", sys.executable, str(PROGRAM), "contained", "flock"]
        env = {**os.environ, "LOCKS": str(tmp_path)}
        printed = subprocess.run(argv, capture_output=True, text=True, env=env, check=True, timeout=60).stdout
    dump = json.loads(printed)
    (row,) = [row for row in dump["locks"] if row["kind"] == "file"]
    assert (row["state"], row["holders"], len(row["waiters"])) == ("unknown", [], 1)
    assert row["path"] == str(tmp_path / "flock")
    assert row["reason"]
    assert dump["stuck"]["threads"] == 0


@as_root
def test_other_user_sees_holder_and_waiter_and_what_is_hidden(tmp_path: Path) -> None:
    with program(tmp_path, "opposite", "posix") as (pid, (holder, waiter)):
        wait_until(lambda: "setlk" in Path(f"/proc/{waiter}/wchan").read_text(), what="the second child to wait")
        dump = json.loads(run_as(NOBODY, "dump", pid, "--json").stdout)
        (row,) = [row for row in dump["locks"] if row["kind"] == "file"]
        assert ([each["pid"] for each in row["holders"]], [each["pid"] for each in row["waiters"]]) == (
            [holder],
            [waiter],
        )
        assert row["path"] is None
        assert {problem["pid"] for problem in dump["problems"]} >= {pid, holder, waiter}
        assert dump["stuck"]["threads"] == 0


def test_deleted_file_says_so_and_release_refuses_it(tmp_path: Path) -> None:
    with program(tmp_path, "many", "3") as (pid, children), observing(pid) as observer:
        (tmp_path / "flock").unlink()
        lock = wait_until(lambda: by_name(observer.snapshot()).get("flock"), what="the lock to be seen")
        assert lock.file is not None
        assert (lock.state, lock.file.deleted, lock.file.path) == ("held", True, str(tmp_path / "flock"))
        assert {each.pid for each in lock.holders} <= {pid, *children}
        assert children == child_pids(pid)
        refused = run("release", pid, lock.id, "--yes")
        assert refused.returncode == 2, refused.stderr
