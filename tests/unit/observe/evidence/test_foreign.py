"""The searches for other users of a semaphore and for owners: what is evidence, and that no memory misleads them."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Collection, Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semtrace.cpython import liveobject, owners, semlock, semtype
from semtrace.cpython.elf import load_image
from semtrace.cpython.layout import LAYOUTS
from semtrace.cpython.owners import OwnerSearch
from semtrace.cpython.page_cache import Pages
from semtrace.cpython.runtime import Runtime
from semtrace.linux import shm
from semtrace.linux.maps import Mapping, read_mappings
from semtrace.linux.memory import Memory
from semtrace.linux.threadstack import on_stack
from semtrace.model import SemId
from semtrace.observe.evidence import foreign
from semtrace.observe.evidence.foreign import ForeignUse, WholeSearch

EXAMPLES = settings(
    max_examples=settings.default.max_examples // 5, deadline=None, suppress_health_check=list(HealthCheck)
)
BASE, SIZE, NOISE, HANDLE = 0x7F1D40000000, 1 << 16, 1 << 13, 0x7F1D70001000
SEM = SemId(0, 27, 4711)


class Image:
    """Imitates Memory over one region."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data.ljust(SIZE, b"\0"))
        self.guards: tuple[int, ...] = ()  # pages that cannot be read

    def put(self, offset: int, *words: int) -> int:
        struct.pack_into(f"<{len(words)}Q", self.data, offset, *words)
        return BASE + offset

    def read(self, address: int, size: int) -> bytes | None:
        if any(address < page + 4096 and page < address + size for page in self.guards):
            return None
        return bytes(self.data[address - BASE :][:size]) if BASE <= address <= BASE + SIZE - size else None

    def u64(self, address: int) -> int | None:
        raw = self.read(address, 8)
        return None if raw is None else int.from_bytes(raw, "little")

    def u32(self, address: int) -> int | None:
        raw = self.read(address, 4)
        return None if raw is None else int.from_bytes(raw, "little")

    def find_words(self, start: int, end: int, wanted: Sequence[int]) -> list[tuple[int, int]]:
        return [(at, wanted.index(word)) for at in range(start, end, 4) if (word := self.u32(at) or 0) in wanted]

    def pointers(self, start: int, end: int, regions: Collection[int]) -> Iterator[tuple[int, int]]:
        for at in range(start, end, 8):
            word = self.u64(at) or 0
            if word >> 16 in regions:
                yield at, word


def heap(inode: int = 0, perms: str = "rw-p", start: int = BASE, size: int = SIZE) -> Mapping:
    return Mapping(start, start + size, perms, 0, (0, 27 if inode else 0), inode, "")


def search(image: Image, *mappings: Mapping) -> ForeignUse | None:
    whole = WholeSearch(image, mappings or (heap(),), lambda a, b: iter([(a, b)]), {HANDLE: SEM})  # type: ignore[arg-type]
    for _ in whole:
        pass
    return whole.foreign[SEM]


def noise(number: int) -> Image:
    """Words that point at each other, at the semaphore, or are anything."""
    seed = random.Random(number)
    choices = (BASE + 8 * seed.randrange(NOISE // 8), HANDLE, 1, 0, 56, seed.getrandbits(64), 1 << 31)
    words = [seed.choice((*choices, BASE + 8 * seed.randrange(NOISE // 8))) for _ in range(NOISE // 8)]
    return Image(struct.pack(f"<{len(words)}Q", *words))


@EXAMPLES
@given(number=st.integers(0, 1 << 32))
def test_searches_of_noise_end_and_raise_nothing(number: int) -> None:
    image = noise(number)
    assert search(image) in (None, *ForeignUse)
    for address in range(BASE, BASE + 2048, 8):
        semtype.basic_type(image, address)
        liveobject.holder_of(image, address)
        liveobject.is_text(image, address, 8)
        shm.opened(image, address, SEM)  # type: ignore[arg-type]


@EXAMPLES
@given(number=st.integers(0, 1 << 32), layout=st.sampled_from(list(LAYOUTS.values())))
def test_owners_are_not_found_in_noise(number: int, layout) -> None:  # type: ignore[no-untyped-def]
    image = noise(number)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owners, "locate", lambda pages, mappings: (Runtime(layout, (), ()), None))
        ranges = lambda: iter([(BASE, BASE + NOISE)])  # noqa: E731
        found = OwnerSearch(image, (), ranges, [BASE + 64, BASE + 1024])  # type: ignore[arg-type]
        for _ in found:
            pass
    assert found.owners == {}


def test_entry_of_the_c_librarys_table_is_no_reference() -> None:
    image = Image()
    image.put(0x100, os.makedev(0, 27), SEM.inode, 0, HANDLE)
    assert search(image) is None


def test_more_openings_than_objects_are_a_foreign_use() -> None:
    image = Image()
    image.put(0x100, os.makedev(0, 27), SEM.inode, 1, HANDLE)
    assert search(image) is ForeignUse.OPENED


def test_entry_that_was_given_back_is_no_opening() -> None:
    """free() has overwritten the first two words."""
    image = Image()
    image.put(0x100, BASE, 0x1234, 0, HANDLE, int.from_bytes(b"/mp-abcd", "little"))
    assert search(image) is None


def test_word_that_no_code_can_use_is_left_over() -> None:
    image = Image()
    image.put(0x100, HANDLE)
    assert search(image) is None


def test_ctypes_object_that_is_alive_is_a_foreign_use() -> None:
    image = Image()
    metatype = image.put(0x1000, 1, 0)
    image.put(0x1000 + 8 * 21, 1 << 31)
    kind = image.put(0x2000, 1, metatype)
    image.put(0x2000 + 8 * 4, 88)
    image.put(0x100, 1, kind, HANDLE, 0, 0, 4)
    assert search(image) is ForeignUse.REFERENCE
    image.put(0x100, 1, kind, BASE + 0x148, 1, 0, 8, 0, 0, 0, HANDLE)
    assert search(image) is ForeignUse.REFERENCE
    image.put(0x100, BASE + 0x80)  # freed: the allocator's pointer
    assert search(image) is None


def test_second_mapping_of_the_semaphore_is_a_foreign_use() -> None:
    mapped = heap(SEM.inode, "rw-s", HANDLE, 4096)
    assert search(Image(), heap(), mapped) is None
    again = heap(SEM.inode, "r--s", HANDLE + 0x5000, 4096)
    assert search(Image(), heap(), mapped, again) is ForeignUse.MAPPED_AGAIN


def test_process_with_too_many_objects_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_MOST_OBJECTS", 2)
    monkeypatch.setattr(semlock, "read", lambda memory, at: semlock.SemLock(at, 8, HANDLE, 0, 0, 1, 1))
    monkeypatch.setattr(semtype, "is_semlock_type", lambda memory, at: True)
    image = Image()
    for number, use in ((1, None), (2, None), (3, ForeignUse.UNSEARCHED)):
        image.put(0x100 * number, HANDLE)
        assert search(image) is use


def test_stack_lies_between_guard_and_thread_block() -> None:
    image = Image()
    guard = heap(perms="---p", start=BASE - 4096, size=4096)
    touched = lambda a, b: iter([(a, b)])  # noqa: E731
    assert not on_stack(image, [guard, heap()], touched, BASE + 0x1000)  # type: ignore[arg-type]
    block = BASE + 0x8000
    image.put(0x8000, block, 0, block)
    assert on_stack(image, [guard, heap()], touched, BASE + 0x1000)  # type: ignore[arg-type]
    assert not on_stack(image, [guard, heap()], touched, BASE + 0x9000)  # type: ignore[arg-type]
    assert not on_stack(image, [heap()], touched, BASE + 0x1000)  # type: ignore[arg-type]


def test_guard_may_be_a_part_of_the_stacks_mapping() -> None:
    """glibc 2.42 on Linux 6.13. Stacks that follow each other are one mapping, and so may be a heap between them."""
    image = Image()
    touched = lambda a, b: iter([(a, b)])  # noqa: E731
    mappings = [heap(start=BASE - 0x100000, size=4096), heap()]
    block = image.put(0x8000, BASE + 0x8000, 0, BASE + 0x8000)
    assert not on_stack(image, mappings, touched, BASE + 0x2000)  # type: ignore[arg-type]
    image.guards = (BASE, BASE + 0x9000)
    assert on_stack(image, mappings, touched, BASE + 0x2000)  # type: ignore[arg-type]
    assert not on_stack(image, mappings, touched, block + 0x100)  # type: ignore[arg-type]
    image.guards = (BASE, BASE + 0x4000)
    assert not on_stack(image, mappings, touched, BASE + 0x2000)  # type: ignore[arg-type]
    assert on_stack(image, mappings, touched, BASE + 0x6000)  # type: ignore[arg-type]


def test_pointers_into_a_region_are_found_with_their_places() -> None:
    import ctypes

    words = (ctypes.c_uint64 * 600)(*[HANDLE + i if i % 3 else i for i in range(600)])
    start = ctypes.addressof(words)
    with Memory.own() as memory:
        for piece in (64, 4096):
            found = dict(memory.pointers(start, start + 4800, [HANDLE >> 16], piece))
            assert found == {start + 8 * i: HANDLE + i for i in range(600) if i % 3}, piece


@pytest.mark.parametrize(
    ("name", "imported"), [("sem_wait", True), ("sem_nothing", False), ("PyInit__multiprocessing", False)]
)
def test_undefined_symbols_of_an_extension_are_its_imports(name: str, imported: bool) -> None:
    import _multiprocessing

    if not getattr(_multiprocessing, "__file__", ""):
        pytest.skip("the extension is a part of the interpreter")
    mapped = next(m for m in read_mappings(os.getpid()) or () if m.path == _multiprocessing.__file__ and not m.offset)
    with Memory.own() as memory:
        image = load_image(Pages(memory), mapped.start)
        assert image is not None
        assert image.imports([name]) is imported
