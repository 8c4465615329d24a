"""Reading memory, on this very process: what cannot be read is None or left out, never short and never an error."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from semtrace.linux.memory import HIGHEST_ADDRESS, Memory
from semtrace.linux.process import PAGE_SIZE

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Area:
    memory: Memory
    start: int
    bytes: mmap.mmap

    def put(self, at: int, data: bytes) -> int:
        self.bytes[at : at + len(data)] = data
        return self.start + at


@pytest.fixture
def area() -> Iterator[Area]:
    """Eight pages, of which the fifth may not be touched."""
    pages = mmap.mmap(-1, 8 * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    hole = ctypes.c_void_p(start + 4 * PAGE_SIZE)
    # MADV_DONTNEED would leave it readable: ptrace reads through PROT_NONE, so it is unmapped.
    assert _libc.munmap(hole, ctypes.c_size_t(PAGE_SIZE)) == 0
    with Memory.own() as memory:
        yield Area(memory, start, pages)
    _libc.mmap.restype = ctypes.c_void_p
    _libc.mmap(hole, ctypes.c_size_t(PAGE_SIZE), 3, 0x32, -1, ctypes.c_long(0))


def test_a_read_gives_what_lies_there(area: Area) -> None:
    address = area.put(100, b"\x01\x02\x03\x04\x05\x06\x07\x08")
    assert area.memory.read(address, 8) == b"\x01\x02\x03\x04\x05\x06\x07\x08"
    assert area.memory.u32(address) == 0x04030201
    assert area.memory.u64(address) == 0x0807060504030201


def test_read_reaching_into_the_hole_is_none_and_never_short(area: Area) -> None:
    edge = area.start + 4 * PAGE_SIZE
    assert area.memory.read(edge - 8, 8) == bytes(8)
    assert area.memory.read(edge - 7, 8) is None
    assert area.memory.read(edge, 1) is None


@pytest.mark.parametrize(
    "address", [0, -1, -(1 << 63), 8, HIGHEST_ADDRESS - 4, HIGHEST_ADDRESS, 1 << 63, (1 << 64) - 1]
)
def test_an_address_that_cannot_be_is_none(address: int) -> None:
    with Memory.own() as memory:
        assert memory.read(address, 8) is None
        assert memory.u64(address) is None
        assert memory.cstring(address) is None


def test_string_may_end_at_the_last_byte_before_the_hole(area: Area) -> None:
    address = area.put(4 * PAGE_SIZE - 6, b"hello\0")
    assert area.memory.cstring(address) == b"hello"


def test_a_string_that_runs_into_the_hole_is_none(area: Area) -> None:
    address = area.put(4 * PAGE_SIZE - 5, b"hello")
    assert area.memory.cstring(address) is None


def test_a_string_longer_than_the_limit_is_none(area: Area) -> None:
    address = area.put(3, b"x" * 300 + b"\0")
    assert area.memory.cstring(address, 300) is None
    assert area.memory.cstring(address, 301) == b"x" * 300
    assert area.memory.cstring(address + 300) == b""


@pytest.mark.parametrize("piece", [64, PAGE_SIZE, 3 * PAGE_SIZE, 1 << 19])
def test_search_finds_matches_across_pieces_and_around_a_hole(area: Area, piece: int) -> None:
    offsets = [0, 60, PAGE_SIZE - 3, 4 * PAGE_SIZE - 5, 5 * PAGE_SIZE, 8 * PAGE_SIZE - 5]
    for at in offsets:
        area.put(at, b"NEEDL")
    end = area.start + 8 * PAGE_SIZE
    assert [hit - area.start for hit in area.memory.search(area.start, end, b"NEEDL", piece)] == offsets


def test_search_finds_overlapping_hits_and_each_only_once(area: Area) -> None:
    area.put(62, b"aaaaa")
    hits = list(area.memory.search(area.start, area.start + PAGE_SIZE, b"aaa", 64))
    assert hits == [area.start + 62, area.start + 63, area.start + 64]


def test_search_stays_within_its_range(area: Area) -> None:
    area.put(96, b"NEEDL")
    assert list(area.memory.search(area.start, area.start + 100, b"NEEDL")) == []
    assert list(area.memory.search(area.start + 97, area.start + 200, b"NEEDL")) == []
    assert list(area.memory.search(area.start, area.start + 3, b"NEEDL")) == []
    assert list(area.memory.search(area.start + 3, area.start, b"NEEDL")) == []


def test_aligned_words_are_found_on_both_sides_of_a_hole(area: Area) -> None:
    offsets = [0, 4, PAGE_SIZE - 4, 4 * PAGE_SIZE - 4, 5 * PAGE_SIZE, 8 * PAGE_SIZE - 4]
    for at in (*offsets, PAGE_SIZE + 2):
        area.put(at, b"WORD")
    area.put(PAGE_SIZE + 64, b"ELSE")
    wanted = [int.from_bytes(word, "little") for word in (b"ELSE", b"WORD", b"NONE")]
    found = area.memory.find_words(area.start, area.start + 8 * PAGE_SIZE, wanted)
    assert sorted((at - area.start, number) for at, number in found) == sorted(
        [(PAGE_SIZE + 64, 0), *((at, 1) for at in offsets)]
    )
    assert area.memory.find_words(area.start + 4, area.start + 8, wanted) == [(area.start + 4, 1)]
    assert area.memory.find_words(area.start + 8, area.start + 4, wanted) == []
    assert area.memory.find_words(area.start, area.start + PAGE_SIZE, []) == []


def test_words_are_found_in_every_piece_that_is_read() -> None:
    data = bytearray(5 << 17)
    start = ctypes.addressof(ctypes.c_char.from_buffer(data))
    offsets = [at - start % 8 for at in (8, (1 << 17) - 4, 1 << 17, (3 << 17) + 4, (5 << 17) - 8)]
    for at in offsets:
        data[at : at + 4] = b"WORD"
    with Memory.own() as memory:
        found = memory.find_words(start - start % 8 + 8, start + len(data), [int.from_bytes(b"WORD", "little")])
    assert [at - start for at, _ in found] == offsets


def test_ended_process_reads_as_none_through_the_open_file() -> None:
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process, Memory(process.pid) as memory:
        process.kill()
        process.wait()
        assert memory.read(4096 * 1024, 8) is None
        assert list(memory.search(1 << 22, 1 << 23, b"x")) == []


def test_opening_a_process_that_does_not_exist_raises_oserror() -> None:
    with pytest.raises(FileNotFoundError):
        Memory(2**22 + 1)


def test_closing_twice_does_not_close_someone_elses_file() -> None:
    memory = Memory.own()
    memory.close()
    other = os.open("/dev/null", os.O_RDONLY)
    memory.close()
    os.fstat(other)
    os.close(other)
