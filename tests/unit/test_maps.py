"""The mappings of a process: parsed text, the ioctl against the text, and the pages that were touched."""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.linux import pages
from semtrace.linux.maps import SemaphoreMaps, SemMapping, parse_mappings, read_mappings, semaphores_in
from semtrace.linux.process import PAGE_SIZE
from semtrace.model import SemId

SEMAPHORE = b"7f7ff7fc9000-7f7ff7fca000 rw-s 00000000 00:1b 3   /dev/shm/sem.iVc3bq (deleted)\n"


def test_the_line_of_an_unlinked_semaphore_gives_its_identity_address_and_temporary_name() -> None:
    assert semaphores_in(parse_mappings(SEMAPHORE)) == [
        SemMapping(SemId(0, 0x1B, 3), 0x7F7FF7FC9000, "/dev/shm/sem.iVc3bq")
    ]


def test_device_numbers_are_hexadecimal_and_inodes_are_decimal() -> None:
    line = b"1000-2000 rw-s 00000000 fd:10 18446744073709551615 /dev/shm/sem.x\n"
    assert semaphores_in(parse_mappings(line))[0].id == SemId(0xFD, 0x10, 18446744073709551615)


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("private", b"1000-2000 rw-p 00000000 00:1b 3 /dev/shm/sem.x"),
        ("read-only", b"1000-2000 r--s 00000000 00:1b 3 /dev/shm/sem.x"),
        ("two pages", b"1000-3000 rw-s 00000000 00:1b 3 /dev/shm/sem.x"),
        ("not the file's start", b"1000-2000 rw-s 00001000 00:1b 3 /dev/shm/sem.x"),
        ("another name", b"1000-2000 rw-s 00000000 00:1b 3 /dev/shm/psm_x"),
        ("a directory's name", b"1000-2000 rw-s 00000000 00:1b 3 /dev/sem.d/x"),
        ("no path", b"1000-2000 rw-s 00000000 00:01 3"),
    ],
)
def test_what_is_not_a_semaphore_is_not_taken_for_one(what: str, line: bytes) -> None:
    assert semaphores_in(parse_mappings(line)) == []


def test_a_path_keeps_its_blanks_and_the_kernels_escape_of_a_newline() -> None:
    line = rb"1000-2000 r-xp 00000000 fd:01 7                  /opt/my app/a\012b (deleted) (deleted)"
    (mapping,) = parse_mappings(line)
    assert mapping.path == r"/opt/my app/a\012b (deleted) (deleted)"


def test_a_name_that_itself_ends_in_deleted_loses_only_the_kernels_mark() -> None:
    line = b"1000-2000 rw-s 00000000 00:1b 3 /dev/shm/sem.a (deleted) (deleted)"
    assert semaphores_in(parse_mappings(line))[0].path == "/dev/shm/sem.a (deleted)"


def test_a_path_that_is_no_utf8_survives() -> None:
    (mapping,) = parse_mappings(b"1000-2000 rw-s 00000000 00:1b 3 /dev/shm/sem.\xff\xfe")
    assert os.fsencode(mapping.path) == b"/dev/shm/sem.\xff\xfe"


@pytest.mark.parametrize("separator", [b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\r"])
def test_a_path_with_a_control_character_does_not_break_the_line(separator: bytes) -> None:
    """Only "\\n" is escaped by the kernel (fs/proc/task_mmu.c: seq_path with "\\n")."""
    line = b"1000-2000 rw-s 00000000 00:1b 3 /dev/shm/sem.a" + separator + b"b\n"
    (found,) = semaphores_in(parse_mappings(line))
    assert os.fsencode(found.path) == b"/dev/shm/sem.a" + separator + b"b"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"garbage",
        b"1000-2000",
        b"1000 rw-s 0 00:1b 3 /x",
        b"g-h rw-s 0 00:1b 3 /x",
        b"1000-2000 rw-s 0 1b 3",
    ],
)
def test_garbage_lines_are_left_out_and_the_others_stay(line: bytes) -> None:
    assert [m.inode for m in parse_mappings(line + b"\n" + SEMAPHORE)] == [3]


@given(st.binary(max_size=400))
def test_no_bytes_make_the_parser_raise(text: bytes) -> None:
    list(parse_mappings(text))
    list(parse_mappings(SEMAPHORE[: len(text) % 60] + text))


def test_one_semaphore_is_found_among_ten_thousand_lines() -> None:
    lines = [
        b"%x-%x rw-p 00000000 00:00 0 \n" % (at, at + 4096) for at in range(1 << 20, (1 << 20) + 10000 * 8192, 8192)
    ]
    assert len(lines) == 10000
    assert len(semaphores_in(parse_mappings(b"".join([*lines[:5000], SEMAPHORE, *lines[5000:]])))) == 1


@pytest.fixture
def own_locks() -> Iterator[set[str]]:
    """Twenty locks of this very process, half of them unlinked, half still listed."""
    fork, spawn = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")
    locks = [context.Lock() for context in (fork, spawn) for _ in range(10)]
    yield {lock._semlock.name for lock in locks[10:]}
    del locks


def test_the_ioctl_and_the_text_give_the_same_semaphores(own_locks: set[str]) -> None:
    by_ioctl, by_text = SemaphoreMaps(os.getpid()), SemaphoreMaps(os.getpid(), by_ioctl=False)
    try:
        first, second = by_ioctl.semaphores(), by_text.semaphores()
        assert first == second
        assert len(first) >= 20
        mappings = read_mappings(os.getpid())
        assert mappings is not None
        assert semaphores_in(mappings) == first
    finally:
        by_ioctl.close()
        by_text.close()


def test_the_identity_is_that_of_the_file(own_locks: set[str]) -> None:
    maps = SemaphoreMaps(os.getpid())
    try:
        known = {m.id for m in maps.semaphores()}
    finally:
        maps.close()
    for name in own_locks:
        info = os.stat(f"/dev/shm/sem.{name.removeprefix('/')}")
        assert SemId(os.major(info.st_dev), os.minor(info.st_dev), info.st_ino) in known


def test_a_shared_file_whose_path_is_too_long_for_the_ioctl_hides_no_semaphore(
    own_locks: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(25):  # longer than PATH_MAX, in steps
        Path("d" * 200).mkdir()
        os.chdir("d" * 200)
    with Path("file").open("w+b") as file:
        file.truncate(PAGE_SIZE)
        with mmap.mmap(file.fileno(), PAGE_SIZE), contextlib.closing(SemaphoreMaps(os.getpid())) as maps:
            assert len(maps.semaphores()) >= 20


@pytest.mark.parametrize("by_ioctl", [True, False])
def test_an_ended_process_has_no_semaphores_and_raises_nothing(by_ioctl: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        maps = SemaphoreMaps(process.pid, by_ioctl=by_ioctl)
        process.kill()
        process.wait()
        assert maps.semaphores() == []
        assert read_mappings(process.pid) is None
        maps.close()
        maps.close()


def test_touched_pages_are_the_same_by_scan_and_by_reading() -> None:
    area = mmap.mmap(-1, 1000 * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    wanted = {0, 1, 2, 500, 998, 999}
    for page in wanted:
        area[page * PAGE_SIZE] = 1
    start, end = _range_of(area)
    scanned = _pages(pages.touched(os.getpid(), start, end), start)
    read = _pages(pages.touched(os.getpid(), start, end, by_ioctl=False), start)
    assert scanned == read
    assert scanned >= wanted
    assert len(scanned) < 600  # huge pages may add some, not all
    area.close()


def test_touched_of_every_private_mapping_of_this_process_agrees() -> None:
    mappings = [m for m in read_mappings(os.getpid()) or [] if m.path == "[heap]"]
    for m in mappings:
        scanned = list(pages.touched(os.getpid(), m.start, m.end))
        assert scanned
        assert all(m.start <= a < b <= m.end for a, b in scanned)
        assert _pages(scanned, m.start) == _pages(pages.touched(os.getpid(), m.start, m.end, by_ioctl=False), m.start)


def test_where_the_kernel_does_not_say_all_of_it_counts_as_touched() -> None:
    assert list(pages.touched(2**22 + 1, 4096, 8192)) == [(4096, 8192)]


def _range_of(area: mmap.mmap) -> tuple[int, int]:
    import ctypes

    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    return start, start + len(area)


def _pages(ranges: Iterator[tuple[int, int]] | list[tuple[int, int]], start: int) -> set[int]:
    return {page for a, b in ranges for page in range((a - start) // PAGE_SIZE, (b - start) // PAGE_SIZE)}
