"""Holders and waiters of file locks, by the kernel."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import child_pids, wait_until
from support.blocking import Blocking, blocking

from semtrace.linux.filelocks import FileLock, HeldFile, file_of, holders_by_fdinfo, path_of, read_file_locks
from semtrace.linux.syscalls import NUMBERS
from semtrace.model import FileLockType, SemId


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Blocking]:
    if not NUMBERS:
        pytest.skip("the system calls of this processor are not known")
    with blocking(sys.executable, tmp_path_factory.mktemp("locks"), "flock", "ofd", "posix") as found:
        yield found


def locks_of(file: SemId) -> list[FileLock]:
    return [lock for lock in read_file_locks() or () if lock.file == file]


def identity(target: Blocking, name: str) -> SemId:
    fd, second, *_ = target.about[name]
    file = file_of(target.pid, fd)
    assert file is not None
    assert file == file_of(target.pid, second)
    return file


def test_an_flock_has_its_holder_and_waiter(target: Blocking) -> None:
    file = identity(target, "flock")
    asked = FileLock(FileLockType.FLOCK, True, target.pid, file)
    (held,) = locks_of(file)
    assert held == FileLock(FileLockType.FLOCK, True, target.pid, file, waiters=(asked,))
    found, hidden = holders_by_fdinfo([target.pid], [file])
    fd, _, path, *_ = target.about["flock"]
    assert path_of(target.pid, file) == path
    assert path_of(os.getpid(), file) is path_of(target.pid, file._replace(minor=77)) is None
    assert (found, hidden) == (
        [HeldFile(target.pid, fd, path, FileLock(FileLockType.FLOCK, True, target.pid, file))],
        (),
    )


def test_posix_lock_has_its_range_and_its_waiting_process(target: Blocking) -> None:
    file = identity(target, "posix")
    (child,) = child_pids(target.pid)
    (held,) = locks_of(file)
    assert held == FileLock(
        FileLockType.POSIX, True, child, file, 3, 9, (FileLock(FileLockType.POSIX, False, target.pid, file),)
    )
    found, _ = holders_by_fdinfo([target.pid, child], [file])
    assert {each.pid for each in found} == {child}


def test_ofd_lock_without_a_process_is_found_by_its_descriptor(target: Blocking) -> None:
    file = identity(target, "ofd")
    (held,) = locks_of(file)
    assert (held.type, held.pid, held.start, held.end) == (FileLockType.OFD, None, 5, 14)
    assert [(each.type, each.pid) for each in held.waiters] == [(FileLockType.OFD, None)]
    found, _ = holders_by_fdinfo([target.pid], [file])
    assert [(each.pid, each.fd) for each in found] == [(target.pid, target.about["ofd"][0])]


TAKER = """import fcntl, os, signal, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
if os.fork() == 0:
    os.close(1)
    signal.pause()
print(os.getpid(), fd, flush=True)
os._exit(0)
"""


def test_the_holder_of_an_flock_whose_taker_died_is_found(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", TAKER, str(path)], stdout=subprocess.PIPE, text=True) as taker:
        assert taker.stdout
        pid, fd = map(int, taker.stdout.readline().split())
    heirs = [each for each in _pids() if _has_open(each, fd, path)]
    try:
        with path.open("rb") as file:
            number = file_of(os.getpid(), file.fileno())
        assert number is not None
        (held,) = locks_of(number)
        assert (held.pid, os.path.exists(f"/proc/{pid}")) == (pid, False)
        found, _ = holders_by_fdinfo(heirs, [number])
        assert [(each.pid, each.fd, each.path) for each in found] == [(heirs[0], fd, str(path))]
    finally:
        for heir in heirs:
            os.kill(heir, signal.SIGKILL)
    wait_until(lambda: not locks_of(number), what="the lock to go with its holder")
    assert holders_by_fdinfo(heirs, [number])[0] == []


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _has_open(pid: int, fd: int, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}") == str(path)
    except OSError:
        return False


def test_a_process_that_may_not_be_asked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        number = file_of(os.getpid(), file.fileno())
        assert number is not None
        assert [(each.pid, each.exclusive) for each in locks_of(number)] == [(os.getpid(), False)]

        def refuse(path: str) -> list[str]:
            raise PermissionError(13, "no", path)

        monkeypatch.setattr(os, "listdir", refuse)
        assert holders_by_fdinfo([os.getpid()], [number]) == ([], (os.getpid(),))
