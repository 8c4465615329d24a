"""The words near a stack pointer: a return address that is there is always found, within the window."""

from __future__ import annotations

import struct

import pytest

from semtrace.cpython.acquiring import acquiring_code
from semtrace.linux.maps import Mapping
from semtrace.linux.memory import Memory
from semtrace.linux.nativestack import WINDOW, returns_into

CODE = [(0x7F0000001000, 0x7F0000002000)]
STACK = 0x7FFE00000100
INSIDE = 0x7F0000001234


class Image(Memory):
    """Bytes at addresses, in place of a process's."""

    def __init__(self, parts: dict[int, bytes]) -> None:
        self.parts = parts

    def read(self, address: int, size: int) -> bytes | None:
        for start, raw in self.parts.items():
            if start <= address and address + size <= start + len(raw):
                return raw[address - start : address - start + size]
        return None


def stack_of(word: int, at: int, size: int = WINDOW) -> Image:
    raw = bytearray(size)
    struct.pack_into("=Q", raw, at, word)
    return Image({STACK: bytes(raw)})


@pytest.mark.parametrize(
    ("what", "word", "at", "found"),
    [
        ("a return address", INSIDE, 424, True),
        ("the last word of the window", INSIDE, WINDOW - 8, True),
        ("behind the last instruction, a call", CODE[0][1], 424, True),
        ("the first address, to which nothing returns", CODE[0][0], 424, False),
        ("another address", INSIDE + 0x1000, 424, False),
        ("signed, as on aarch64", INSIDE | 0x1234 << 48, 424, True),
    ],
)
def test_a_word_that_points_into_the_code_is_found(what: str, word: int, at: int, found: bool) -> None:
    assert returns_into(stack_of(word, at), STACK, CODE) is found


def test_stack_shorter_than_the_window_is_read_to_its_end() -> None:
    to_page = 4096 - STACK % 4096
    assert returns_into(stack_of(INSIDE, 424, to_page), STACK, CODE) is True
    assert returns_into(stack_of(0, 424, to_page), STACK, CODE) is False


@pytest.mark.parametrize("stack", [0, 1 << 40, STACK + 4, STACK + 0x2000])
def test_of_a_stack_that_cannot_be_read_nothing_is_known(stack: int) -> None:
    assert returns_into(stack_of(0, 0), stack, CODE) is None


def test_next_to_the_end_of_the_stack_nothing_is_known() -> None:
    near_the_end = STACK - STACK % 4096 + 4096 - 512
    assert returns_into(Image({near_the_end: bytes(512)}), near_the_end, CODE) is None


# -- the code of SemLock.acquire

TYPE, BASE, META, METHODS, NAME, OTHER_NAME = 0x10000, 0x20000, 0x30000, 0x40000, 0x50000, 0x50100
MODULE, LIBRARY = 0x7F0000001100, 0x7E0000001100


def mapping(start: int, inode: int, perms: str = "r-xp") -> Mapping:
    return Mapping(start, start + 0x1000, perms, 0, (8, 1), inode, f"/lib/{inode}.so")


MAPPINGS = [
    mapping(0x7E0000001000, 1),
    mapping(0x7F0000000000, 2, "r--p"),
    mapping(0x7F0000001000, 2),
    mapping(0x7F0000005000, 2),
]


def type_object(methods: int, base: int) -> bytes:
    raw = bytearray(400)
    struct.pack_into("=Q", raw, 8, META)
    struct.pack_into("=Q", raw, 232, methods)
    struct.pack_into("=Q", raw, 256, base)
    return bytes(raw)


def process(acquire: int, derived: bool = False) -> Image:
    meta = bytearray(400)
    struct.pack_into("=Q", meta, 48, LIBRARY)
    methods = struct.pack("=QQQQ", OTHER_NAME, LIBRARY, 0, 0) + struct.pack("=QQQQ", NAME, acquire, 0, 0) + bytes(32)
    return Image(
        {
            TYPE: type_object(0 if derived else METHODS, BASE),
            BASE: type_object(METHODS, 0),
            META: bytes(meta),
            METHODS: methods,
            NAME: b"acquire\0".ljust(64, b"\0"),
            OTHER_NAME: b"release\0".ljust(64, b"\0"),
        }
    )


@pytest.mark.parametrize("derived", [False, True])
def test_all_code_of_the_file_that_has_acquire_is_meant(derived: bool) -> None:
    found = acquiring_code(process(MODULE, derived), [TYPE], MAPPINGS)
    assert found == ((0x7F0000001000, 0x7F0000002000), (0x7F0000005000, 0x7F0000006000))


@pytest.mark.parametrize(
    ("what", "acquire"), [("linked into the interpreter", LIBRARY + 8), ("not in code", 0x7F0000000010), ("gone", 0)]
)
def test_indistinguishable_code_makes_the_acquire_unknown(what: str, acquire: int) -> None:
    assert acquiring_code(process(acquire), [TYPE], MAPPINGS) is None


def test_endless_methods_and_self_based_types_are_ignored() -> None:
    hostile = process(MODULE)
    hostile.parts[METHODS] = struct.pack("=QQQQ", OTHER_NAME, LIBRARY, 0, 0) * 4096
    hostile.parts[TYPE] = type_object(METHODS, TYPE)
    assert acquiring_code(hostile, [TYPE], MAPPINGS) is None
