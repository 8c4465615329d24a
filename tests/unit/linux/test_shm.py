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
from semtrace.linux.shm import (
    ShmDirectory,
    has_musls_words,
    is_semaphore_file,
    may_be_musls,
    may_be_musls_file,
    parse_sem,
    parse_shared,
    table_name,
)
from semtrace.model import SemId


@pytest.fixture
def directory(tmp_path: Path) -> ShmDirectory:
    found = ShmDirectory()
    found.path = tmp_path
    return found


def _id(path: Path) -> SemId:
    info = path.stat()
    return SemId(os.major(info.st_dev), os.minor(info.st_dev), info.st_ino)


def test_semaphores_are_listed_by_the_name_that_sem_open_takes(directory: ShmDirectory, tmp_path: Path) -> None:
    ours = tmp_path / "sem.mp-abc"
    ours.write_bytes(struct.pack("<8I", 3, 1, 128, 0, 0, 0, 0, 0))
    assert directory.names() == {_id(ours): "/mp-abc"}
    assert directory.read(_id(ours)) == (3, 1)


def test_a_semaphore_of_musl_has_its_bare_name(directory: ShmDirectory, tmp_path: Path) -> None:
    """Also where one of glibc has the same name."""
    for name, value, mark in (("mp-abcd1234", 0x80000002, 0), ("sem.mp-abcd1234", 7, 128)):
        (tmp_path / name).write_bytes(struct.pack("<8I", value, 1, mark, 0, 0, 0, 0, 0))
    assert set(directory.names().values()) == {"/mp-abcd1234"}
    assert directory.read(_id(tmp_path / "mp-abcd1234")) == (2, 1)
    assert directory.read(_id(tmp_path / "sem.mp-abcd1234")) == (7, 1)


# musl 1.2.4 and later mark a wait in the upper bit, earlier ones by -1; the third word is 0 under musl alone.
@pytest.mark.parametrize(
    ("words", "read"),
    [
        ((3, 0, 0), (3, 0)),
        ((0x80000000, 2, 0), (0, 2)),
        ((0x80000001, 2, 0), (1, 2)),
        ((0xFFFFFFFF, 1, 0), (0, 1)),
        ((0x7FFFFFFF, 0, 128), (0x7FFFFFFF, 0)),
        ((0, 5, 128), (0, 5)),
    ],
)
def test_each_c_library_s_words_are_read_by_its_rules(words: tuple[int, int, int], read: tuple[int, int]) -> None:
    assert parse_shared(struct.pack("<III", *words)) == read


@pytest.mark.parametrize("size", [0, 1, 8, 11])
def test_too_few_bytes_are_no_semaphore(size: int) -> None:
    assert parse_shared(bytes(size)) is None
    assert parse_shared(None) is None


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/dev/shm/sem.iVc3bq", True),
        ("/anywhere/sem.x", True),
        ("/dev/shm/tmp-706402810", True),
        ("/dev/shm/mp-abcd1234", True),
        ("/dev/shm/loky-12-abcd1234", True),
        ("/tmp/tmp-706402810", False),
        ("/dev/shm/tmp-7064028101", False),
        ("/dev/shm/tmp-", False),
        ("/dev/shm/a/mp-abcd1234", False),
        ("/dev/shm/mp-abcd12345", False),
        ("/dev/shm/psm_abcd1234", False),
    ],
)
def test_files_of_semaphores_are_known_by_name(path: str, found: bool) -> None:
    assert is_semaphore_file(path) is found


def test_another_program_s_file_is_no_semaphore_of_musl() -> None:
    semaphore = struct.pack("<8I", 0, 1, 0, 77, 77, 0, 0, 0).ljust(4096, b"\0")
    assert may_be_musls(semaphore)
    assert may_be_musls(None)
    assert not may_be_musls(semaphore[:-1] + b"x")
    assert not may_be_musls(semaphore[:8] + b"\x80" + semaphore[9:])


def test_a_name_that_comes_or_goes_is_noticed(directory: ShmDirectory, tmp_path: Path) -> None:
    assert directory.names() == {}
    for round_ in range(50):  # also when it changes within one tick of the file system's clock
        path = tmp_path / f"sem.mp-{round_}"
        path.write_bytes(bytes(32))
        assert list(directory.names().values()) == [f"/mp-{round_}"]
        path.unlink()
        assert directory.names() == {}


def test_name_added_in_the_tick_of_another_is_noticed(directory: ShmDirectory, tmp_path: Path) -> None:
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
    ids = {name: semaphore for semaphore, name in directory.names().items()}
    assert directory.read(ids["/fifo"]) is None
    assert directory.read(ids["/link"]) is None


def test_a_directory_that_cannot_be_read_has_no_names(directory: ShmDirectory, tmp_path: Path) -> None:
    directory.path = tmp_path / "none"
    assert directory.names() == {}
    assert directory.read(_id(tmp_path)) is None
    assert ShmDirectory(2**22 + 1).names() == {}


def test_a_file_that_is_too_short_has_no_value(directory: ShmDirectory, tmp_path: Path) -> None:
    (tmp_path / "sem.short").write_bytes(b"\1\0\0")
    assert directory.read(_id(tmp_path / "sem.short")) is None
    assert parse_sem(None) is None
    assert parse_sem(b"") is None


@given(st.binary(max_size=64))
def test_no_bytes_make_a_sem_t_raise(raw: bytes) -> None:
    assert (parse_sem(raw) is None) == (len(raw) < 8)
    assert (parse_shared(raw) is None) == (len(raw) < 12)
    assert may_be_musls(raw) in (True, False)


def test_a_real_linked_lock_is_listed_with_its_value() -> None:
    lock = multiprocessing.get_context("spawn").Lock()
    directory = ShmDirectory()
    name = lock._semlock.name
    semaphore = next(s for s, n in directory.names().items() if n == name)
    assert directory.read(semaphore) == (1, 0)
    with lock:
        assert directory.read(semaphore) == (0, 0)
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


def test_entry_whose_name_is_unterminated_or_empty_is_refused() -> None:
    for name in (b"\0", b"/mp-" + b"x" * 400 + b"\0"):
        raw, at = _entry(os.makedev(0, 0x1B), 42, name)
        assert _table_name(raw, at, SemId(0, 0x1B, 42)) is None


def test_an_entry_at_an_unreadable_address_is_none() -> None:
    with Memory.own() as memory:
        assert table_name(memory, 16, SemId(0, 0x1B, 42)) is None


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("mp-abcd_234", True),
        ("loky-123-abcd1234", True),
        ("mp-abcd123", False),
        ("mp-abcd12345", False),
        ("sem.mp-abcd1234", False),
        ("mp-abcd1234\n", False),
    ],
)
def test_musl_gives_pythons_semaphores_their_bare_names(name: str, may: bool) -> None:
    assert may_be_musls_file(name) is may


def test_a_file_is_musls_by_its_words(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        for mark, musls in ((0, True), (128, False)):
            (tmp_path / "mp-abcd1234").write_bytes(struct.pack("<8I", 1, 0, mark, 0, 0, 0, 0, 0))
            assert has_musls_words("mp-abcd1234", directory) is musls
        assert has_musls_words("mp-missing1", directory) is None
        os.mkfifo(tmp_path / "mp-fifo1234")
        assert has_musls_words("mp-fifo1234", directory) is None
    finally:
        os.close(directory)


def test_room_says_whether_it_is_of_another_dev_shm(directory: ShmDirectory) -> None:
    ours, other = ShmDirectory().room(), directory.room()
    assert ours is not None
    assert other is not None
    assert (ours.elsewhere, other.elsewhere) == (False, True)
