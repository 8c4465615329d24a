"""The mappings of a process: parsed text, the ioctl against the text, and the pages that were touched."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.linux import pages
from semtrace.linux.maps import (
    SemaphoreMaps,
    SemMapping,
    _semaphores_in_text,
    parse_mappings,
    read_mappings,
    semaphores_in,
)
from semtrace.linux.process import PAGE_SIZE
from semtrace.model import SemId

_MAP_FIXED = 0x10
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

SEMAPHORE = b"7f7ff7fc9000-7f7ff7fca000 rw-s 00000000 00:1b 3   /dev/shm/sem.iVc3bq (deleted)\n"


def test_line_of_an_unlinked_semaphore_gives_identity_address_and_name() -> None:
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


def test_path_keeps_its_blanks_and_the_kernels_escaped_newline() -> None:
    line = rb"1000-2000 r-xp 00000000 fd:01 7                  /opt/my app/a\012b (deleted) (deleted)"
    (mapping,) = parse_mappings(line)
    assert mapping.path == r"/opt/my app/a\012b (deleted) (deleted)"


def test_name_ending_in_deleted_loses_only_the_kernels_mark() -> None:
    line = b"1000-2000 rw-s 00000000 00:1b 3 /dev/shm/sem.a (deleted) (deleted)"
    assert semaphores_in(parse_mappings(line))[0].path == "/dev/shm/sem.a (deleted)"


def test_a_path_that_is_no_utf8_survives() -> None:
    (mapping,) = parse_mappings(b"1000-2000 rw-s 00000000 00:1b 3 /dev/shm/sem.\xff\xfe")
    assert os.fsencode(mapping.path) == b"/dev/shm/sem.\xff\xfe"


@pytest.mark.parametrize("separator", [b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\r"])
def test_control_character_in_a_path_does_not_break_the_line(separator: bytes) -> None:
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


# As glibc names them, as musl does, and what is none.
NAMES = (
    "/dev/shm/sem.x",
    "/x/sem.y (deleted)",
    "/dev/shm/tmp-7064 (deleted)",
    "/dev/shm/mp-abcd1234",
    "/dev/shm/psm_1",
)


def test_the_quick_parser_finds_what_the_whole_one_finds() -> None:
    text = "".join(f"{n}000-{n + 1}000 rw-s 00000000 00:1b {n} {name}\n" for n, name in enumerate(NAMES, 1)).encode()
    found = list(_semaphores_in_text(text))
    assert [each.id.inode for each in found] == [1, 2, 3, 4]
    assert found == semaphores_in(parse_mappings(text))


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


def test_shared_file_with_an_overlong_path_hides_no_semaphore(
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


ways = pytest.mark.parametrize("way", ["ioctl", "link", "text"])


@contextlib.contextmanager
def _asked(pid: int, way: str) -> Iterator[SemaphoreMaps]:
    """The mappings of a process, asked for in one way alone."""
    with contextlib.closing(SemaphoreMaps(pid, by_ioctl=way == "ioctl")) as maps:
        maps._by_links = way == "link"
        yield maps


def _file_id(file: IO[bytes]) -> SemId:
    info = os.fstat(file.fileno())
    return SemId(os.major(info.st_dev), os.minor(info.st_dev), info.st_ino)


@ways
@pytest.mark.parametrize(("prot", "flags", "pages"), [
    (mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, 1),
    (mmap.PROT_READ, mmap.MAP_SHARED, 1),
    (mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, 1),
    (mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, 3),
])  # fmt: skip
def test_the_file_at_an_address_is_found_however_mapped(way: str, prot: int, flags: int, pages: int) -> None:
    with tempfile.TemporaryFile(dir="/dev/shm") as file, _asked(os.getpid(), way) as maps:
        file.truncate(4 * PAGE_SIZE)
        address = _libc_mmap(0, pages * PAGE_SIZE, prot, flags, file.fileno())
        assert maps.at(address) == _file_id(file)
        _libc.munmap(address, pages * PAGE_SIZE)
        assert maps.at(address) is None


@ways
def test_a_file_that_replaced_another_at_an_address_is_noticed(way: str) -> None:
    prot, shared = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED
    with (
        tempfile.TemporaryFile(dir="/dev/shm") as first,
        tempfile.TemporaryFile(dir="/dev/shm") as second,
        _asked(os.getpid(), way) as maps,
    ):
        for file in first, second:
            file.truncate(PAGE_SIZE)
        address = _libc_mmap(0, PAGE_SIZE, prot, shared, first.fileno())
        assert maps.at(address) == _file_id(first)
        _libc_mmap(address, PAGE_SIZE, prot, shared | _MAP_FIXED, second.fileno())
        assert maps.at(address) == _file_id(second)
        _libc_mmap(address, PAGE_SIZE, prot, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED, -1)
        assert maps.at(address) is None
        _libc.munmap(address, PAGE_SIZE)


@pytest.mark.parametrize("way", ["ioctl", "text"])
def test_a_later_page_of_a_file_is_not_its_first(way: str) -> None:
    with tempfile.TemporaryFile(dir="/dev/shm") as file, _asked(os.getpid(), way) as maps:
        file.truncate(2 * PAGE_SIZE)
        address = _libc_mmap(0, 2 * PAGE_SIZE, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno())
        assert maps.at(address + PAGE_SIZE) is None
        _libc.munmap(address, PAGE_SIZE)
        assert maps.at(address + PAGE_SIZE) is None
        _libc.munmap(address + PAGE_SIZE, PAGE_SIZE)


@ways
def test_an_ended_process_has_nothing_at_an_address(way: str) -> None:
    program = "import multiprocessing as m; l = m.Lock(); print(l._semlock.handle, flush=True); input()"
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = int(process.stdout.readline())
        with _asked(process.pid, way) as maps:
            assert maps.at(address) is not None
            process.kill()
            process.wait()
            assert maps.at(address) is None


def test_a_kernel_without_the_ioctl_is_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    lock = multiprocessing.get_context("fork").Lock()
    with contextlib.closing(SemaphoreMaps(os.getpid())) as maps:
        known = maps.at(lock._semlock.handle)  # type: ignore[attr-defined]
        monkeypatch.setattr(fcntl, "ioctl", unknown)
        assert known is not None
        assert maps.at(lock._semlock.handle) == known  # type: ignore[attr-defined]
        assert not maps.by_ioctl


def test_a_refusal_is_no_sign_that_nothing_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(fcntl, "ioctl", refused)
    with contextlib.closing(SemaphoreMaps(os.getpid())) as maps, pytest.raises(OSError, match="denied"):
        maps.at(PAGE_SIZE)


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
        read = list(pages.touched(os.getpid(), m.start, m.end, by_ioctl=False))
        later = list(pages.touched(os.getpid(), m.start, m.end))
        # This process touches more of its heap meanwhile.
        assert _pages(scanned, m.start) <= _pages(read, m.start) <= _pages(later, m.start)


def test_everything_counts_as_touched_where_the_kernel_is_silent() -> None:
    assert list(pages.touched(2**22 + 1, 4096, 8192)) == [(4096, 8192)]


def _libc_mmap(address: int, size: int, prot: int, flags: int, fd: int) -> int:
    """As mmap(2): Python's module tells no address and takes none."""
    found = _libc.mmap(address, size, prot, flags, fd, 0)
    assert found != ctypes.c_void_p(-1).value
    return int(found)


def _range_of(area: mmap.mmap) -> tuple[int, int]:
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    return start, start + len(area)


def _pages(ranges: Iterator[tuple[int, int]] | list[tuple[int, int]], start: int) -> set[int]:
    return {page for a, b in ranges for page in range((a - start) // PAGE_SIZE, (b - start) // PAGE_SIZE)}
