"""Names in /dev/shm, the two words of a sem_t, and glibc's table of what a process opened."""

from __future__ import annotations

import multiprocessing
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.linux.memory import Memory
from semtrace.linux.shm import ShmDirectory, parse_sem, table_name
from semtrace.model import SemId


@pytest.fixture
def directory(tmp_path: Path) -> ShmDirectory:
    found = ShmDirectory()
    found.path = tmp_path
    return found


def _id(path: Path) -> SemId:
    info = path.stat()
    return SemId(os.major(info.st_dev), os.minor(info.st_dev), info.st_ino)


def test_only_semaphores_are_listed_and_by_the_name_that_sem_open_takes(
    directory: ShmDirectory, tmp_path: Path
) -> None:
    ours = tmp_path / "sem.mp-abc"
    ours.write_bytes(struct.pack("<II", 3, 1))
    (tmp_path / "psm_1234").write_bytes(b"x")
    (tmp_path / "xsem.mp-abc").write_bytes(b"x")
    assert directory.names() == {_id(ours): "/mp-abc"}
    assert directory.read("/mp-abc") == (3, 1)


def test_a_name_that_comes_or_goes_is_noticed(directory: ShmDirectory, tmp_path: Path) -> None:
    assert directory.names() == {}
    for round_ in range(50):  # also when it changes within one tick of the file system's clock
        path = tmp_path / f"sem.mp-{round_}"
        path.write_bytes(bytes(32))
        assert list(directory.names().values()) == [f"/mp-{round_}"]
        path.unlink()
        assert directory.names() == {}


def test_a_name_that_comes_within_the_tick_of_the_last_change_is_noticed(
    directory: ShmDirectory, tmp_path: Path
) -> None:
    """Kernels before 6.13 give both changes one time."""
    (tmp_path / "sem.first").write_bytes(bytes(32))
    changed_ns = tmp_path.stat().st_mtime_ns
    assert list(directory.names().values()) == ["/first"]
    (tmp_path / "sem.second").write_bytes(bytes(32))
    os.utime(tmp_path, ns=(changed_ns, changed_ns))
    assert sorted(directory.names().values()) == ["/first", "/second"]


def test_what_is_no_file_is_not_waited_for(directory: ShmDirectory, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sem.fifo")
    (tmp_path / "sem.link").symlink_to(tmp_path / "sem.target")
    (tmp_path / "sem.target").write_bytes(bytes(32))
    assert directory.read("/fifo") is None
    assert directory.read("/link") is None


def test_a_directory_that_cannot_be_read_has_no_names(directory: ShmDirectory, tmp_path: Path) -> None:
    directory.path = tmp_path / "none"
    assert directory.names() == {}
    assert directory.read("/mp-abc") is None
    assert ShmDirectory(2**22 + 1).names() == {}


def test_a_file_that_is_too_short_has_no_value(directory: ShmDirectory, tmp_path: Path) -> None:
    (tmp_path / "sem.short").write_bytes(b"\1\0\0")
    assert directory.read("/short") is None
    assert parse_sem(None) is None
    assert parse_sem(b"") is None


@given(st.binary(max_size=64))
def test_no_bytes_make_a_sem_t_raise(raw: bytes) -> None:
    found = parse_sem(raw)
    assert (found is None) == (len(raw) < 8)


def test_a_real_linked_lock_is_listed_with_its_value() -> None:
    lock = multiprocessing.get_context("spawn").Lock()
    directory = ShmDirectory()
    name = lock._semlock.name
    assert name in directory.names().values()
    assert directory.read(name) == (1, 0)
    with lock:
        assert directory.read(name) == (0, 0)
    semaphore = next(s for s, n in directory.names().items() if n == name)
    assert semaphore == _id(Path("/dev/shm", f"sem.{name.removeprefix('/')}"))


def _entry(device: int, inode: int, name: bytes) -> tuple[bytearray, int]:
    """A table entry as nptl/sem_routines.c has it, and where its `sem` field lies."""
    raw = bytearray(struct.pack("<QQi4xQ", device, inode, 1, 0x7F0000001000) + name)
    return raw, 24


def _table_name(raw: bytearray, at: int, semaphore: SemId) -> str | None:
    import ctypes

    buffer = (ctypes.c_char * (len(raw) + 16)).from_buffer(bytearray(raw) + bytes(16))
    with Memory.own() as memory:
        return table_name(memory, ctypes.addressof(buffer) + at, semaphore)


def test_the_tables_entry_gives_the_real_name() -> None:
    raw, at = _entry(os.makedev(0, 0x1B), 42, b"/mp-abcd1234\0")
    assert _table_name(raw, at, SemId(0, 0x1B, 42)) == "/mp-abcd1234"


@pytest.mark.parametrize("other", [SemId(0, 0x1C, 42), SemId(0, 0x1B, 43), SemId(1, 0x1B, 42)])
def test_an_entry_of_another_file_is_refused(other: SemId) -> None:
    raw, at = _entry(os.makedev(0, 0x1B), 42, b"/mp-abcd1234\0")
    assert _table_name(raw, at, other) is None


def test_an_entry_with_a_name_without_end_or_without_letters_is_refused() -> None:
    for name in (b"\0", b"/mp-" + b"x" * 400 + b"\0"):
        raw, at = _entry(os.makedev(0, 0x1B), 42, name)
        assert _table_name(raw, at, SemId(0, 0x1B, 42)) is None


def test_an_entry_at_an_unreadable_address_is_none() -> None:
    with Memory.own() as memory:
        assert table_name(memory, 16, SemId(0, 0x1B, 42)) is None
