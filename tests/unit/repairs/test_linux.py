"""The pieces of a repair that touch the system, on files and processes of our own."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import wait_until

from semtrace.errors import Refused
from semtrace.linux import lease
from semtrace.linux.lease import in_use
from semtrace.linux.post import MOST_UNITS, SIZE, OpenSemaphore, Word, identity, open_semaphore
from semtrace.linux.stillness import Stillness
from semtrace.model import Lock, SemId
from semtrace.repairs import repair

reads = pytest.mark.skipif(lease._kernel() < (5, 3), reason="an older kernel does not count readers")


@contextlib.contextmanager
def _file(content: bytes = bytes(SIZE)) -> Iterator[Path]:
    """In /dev/shm, where semaphores are; in a directory of its own, so that nobody takes it for one."""
    with tempfile.TemporaryDirectory(prefix="semtrace-test-", dir="/dev/shm") as directory:
        path = Path(directory, "sem.mp-test")
        path.write_bytes(content)
        yield path


def _open(path: Path) -> OpenSemaphore:
    return OpenSemaphore(os.open(path, os.O_RDWR), str(path))


# -- the semaphore


@pytest.mark.parametrize(("before", "units"), [(0, 1), (1, 1), (0, 3), (2, 1), (0, MOST_UNITS)])
def test_the_value_becomes_the_units_whatever_it_was(before: int, units: int) -> None:
    with _file(before.to_bytes(4, "little") + bytes(SIZE - 4)) as path, _open(path) as semaphore:
        assert semaphore.read() == Word(before, 0)
        assert semaphore.give_back(units) == 0
        assert semaphore.read() == Word(units, 0)


def test_nothing_but_the_value_is_written() -> None:
    with _file(bytes(4) + b"\xff" * (SIZE - 4)) as path:
        with _open(path) as semaphore:
            semaphore.give_back(1)
        assert path.read_bytes() == b"\1\0\0\0" + b"\xff" * (SIZE - 4)


@pytest.mark.parametrize("units", [0, -1, MOST_UNITS + 1])
def test_units_that_the_kernel_would_take_for_others_are_refused(units: int) -> None:
    with _file() as path, _open(path) as semaphore, pytest.raises(OSError, match="Invalid"):
        semaphore.give_back(units)


def test_one_that_its_owner_has_cut_short_is_refused() -> None:
    with _file() as path, _open(path) as semaphore:
        os.truncate(path, 4)
        with pytest.raises(OSError, match="data"):
            semaphore.read()
        with pytest.raises(OSError, match="Invalid"):
            semaphore.give_back(1)
        lock = Lock(SemId(0, 27, 7), "Lock", "orphaned", 0, 1, name="myapp.lock")
        with pytest.raises(Refused, match=r"myapp\.lock cannot be released: No data") as caught:
            repair._act(semaphore, lock, still=True)
        assert caught.value.remedy == "nothing was done"


def test_only_one_may_reserve_it_until_that_one_closes() -> None:
    with _file() as path:
        with _open(path) as first, _open(path) as second:
            assert first.reserve()
            assert not second.reserve()
        with _open(path) as third:
            assert third.reserve()


def test_another_file_of_the_same_name_is_not_opened() -> None:
    with _file() as path:
        name = f"../shm/{path.parent.name}/x"
        with pytest.raises(FileNotFoundError):
            open_semaphore(SemId(0, 0, 1), name, [os.getpid()])


def test_file_of_another_size_or_kind_has_no_identity(tmp_path: Path) -> None:
    with _file(bytes(SIZE + 1)) as path:
        assert identity(path.stat()) is None
    assert identity(tmp_path.stat()) is None
    with _file() as path:
        assert identity(path.stat()) is not None


# -- whether anybody uses it


def _used(path: Path, *, for_reading: bool = False) -> bool | None:
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        with in_use(path.name, directory, for_reading=for_reading) as used:
            return used
    finally:
        os.close(directory)


def test_kernel_reports_whether_it_is_mapped_or_open_for_writing() -> None:
    with _file() as path:
        assert _used(path) is False
        with path.open("r+b") as file:
            assert _used(path) is True
            mapping = mmap.mmap(file.fileno(), SIZE)
        assert _used(path) is True
        mapping.close()
        assert _used(path) is False


@reads
def test_the_kernel_tells_of_readers_on_demand() -> None:
    with _file(bytes(4096)) as path:
        assert _used(path, for_reading=True) is False
        with path.open("rb") as file:
            assert (_used(path), _used(path, for_reading=True)) == (False, True)
            mapping = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
        assert (_used(path), _used(path, for_reading=True)) == (False, True)
        mapping.close()
        with path.open("r+b"):
            assert _used(path, for_reading=True) is True
        assert _used(path, for_reading=True) is False


def test_a_kernel_that_cannot_tell_of_readers_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_kernel", lambda: (5, 2))
    with _file() as path:
        with path.open("rb"):
            assert _used(path, for_reading=True) is None
        with path.open("r+b"):
            assert _used(path, for_reading=True) is True


def test_opener_waits_during_the_check_and_no_signal_kills() -> None:
    with _file() as path:
        directory = os.open(path.parent, os.O_RDONLY)
        opened = threading.Event()

        def open_it() -> None:
            os.close(os.open(path, os.O_RDWR))
            opened.set()

        opener = threading.Thread(target=open_it)
        with in_use(path.name, directory) as used:
            assert used is False
            opener.start()
            task = Path(f"/proc/self/task/{wait_until(lambda: opener.native_id)}/wchan")
            wait_until(lambda: "lease" in task.read_text() or opened.is_set())
            assert not opened.is_set()
        opener.join()
        os.close(directory)
        assert opened.is_set()


def test_of_a_file_that_is_gone_nothing_is_known() -> None:
    assert _used(Path("/dev/shm/sem.mp-semtrace-no-such")) is None


# -- whether anybody ran


@contextlib.contextmanager
def _child(code: str) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", f"import sys; print(1, flush=True); {code}"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield child
        finally:
            child.kill()


def test_sleeper_is_still_until_it_wakes_even_for_a_moment() -> None:
    with _child("[print(len(line), flush=True) for line in sys.stdin.buffer]") as child:
        wait_until(lambda: Stillness([child.pid]).broken_by() is None)
        moment = Stillness([child.pid])
        assert moment.broken_by() is None
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"x\n")
        child.stdin.flush()
        child.stdout.readline()
        wait_until(lambda: Stillness([child.pid]).broken_by() is None)
        assert moment.broken_by() == child.pid


def test_who_runs_or_has_ended_is_not_still() -> None:
    with _child("exec('while True: pass')") as child:
        assert Stillness([child.pid]).broken_by() == child.pid
    assert Stillness([child.pid]).broken_by() == child.pid


def test_a_new_thread_breaks_the_stillness() -> None:
    code = "import threading; sys.stdin.readline(); threading.Thread(target=sys.stdin.readline).start()"
    with _child(code) as child:
        wait_until(lambda: Stillness([child.pid]).broken_by() is None)
        moment = Stillness([child.pid])
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        wait_until(lambda: len(os.listdir(f"/proc/{child.pid}/task")) == 2)
        assert moment.broken_by() == child.pid
