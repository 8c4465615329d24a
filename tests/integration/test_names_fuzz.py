"""The walk of damaged memory: it ends within its budget and raises nothing, whatever it reads."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import PATIENCE_S, PROGRAMS

from semtrace.cpython.budget import Budget
from semtrace.cpython.classes import Classes
from semtrace.cpython.elf import load_image
from semtrace.cpython.layout import DEBUG_WORDS, LAYOUTS, with_debug_offsets
from semtrace.cpython.modules import Modules
from semtrace.cpython.name_walk import Walk, walk
from semtrace.cpython.objects import Objects
from semtrace.cpython.page_cache import CHUNK, Pages
from semtrace.cpython.threadlock import FoundThreadLock, parked_at, read_thread_lock
from semtrace.linux.maps import Mapping, read_mappings
from semtrace.linux.memory import Memory

BUDGET_S = 2.0
SLACK_S = 10.0  # a loaded machine; without a bound a walk of garbage takes for ever
EXAMPLES = settings(max_examples=30, suppress_health_check=list(HealthCheck))


class Recorder:
    """Memory that keeps what was read, by address."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.pieces: dict[tuple[int, int], bytes] = {}

    def read(self, address: int, size: int) -> bytes | None:
        data = self.memory.read(address, size)
        if data is not None:
            self.pieces[address, size] = data
        return data


class Image:
    """Recorded memory, some of it damaged."""

    def __init__(self, pieces: dict[tuple[int, int], bytes]) -> None:
        self.pieces = pieces

    def read(self, address: int, size: int) -> bytes | None:
        return self.pieces.get((address, size))


@pytest.fixture(scope="module")
def recorded() -> Iterator[tuple[Recorder, list[Mapping], Walk]]:
    """The walk of a living process that has locks in every kind of place."""
    program = subprocess.Popen(
        [sys.executable, str(PROGRAMS / "planted.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdin
    assert program.stdout
    try:
        assert program.stdout.readline().startswith("READY")
        mappings = read_mappings(program.pid)
        assert mappings
        with Memory(program.pid) as memory:
            recorder = Recorder(memory)
            yield recorder, mappings, walk(program.pid, recorder, mappings=mappings, budget_s=20.0)
    finally:
        program.stdin.write("quit\n")
        program.stdin.close()
        program.stdout.close()
        program.wait(PATIENCE_S)


def _walk(pieces: dict[tuple[int, int], bytes], mappings: list[Mapping]) -> Walk:
    walked = walk(0, Image(pieces), mappings=mappings, budget_s=BUDGET_S)
    assert walked.seconds < BUDGET_S + SLACK_S
    for names in walked.semlocks.values():
        for each in names:
            assert each.name.isprintable()
            assert len(each.name) <= 300
    assert all(lock.name.isprintable() for lock in walked.thread_locks)
    if walked.layout:
        for lock in walked.thread_locks:
            assert read_thread_lock(Image(pieces), lock, walked.layout) in (None, True, False)
    return walked


def test_an_undamaged_recording_gives_the_same_walk(recorded: tuple[Recorder, list[Mapping], Walk]) -> None:
    recorder, mappings, original = recorded
    assert len(original.semlocks) > 100
    assert _walk(recorder.pieces, mappings).semlocks == original.semlocks


def _words(seed: random.Random, addresses: list[int]) -> int:
    """A word such as a torn read or freed memory shows."""
    address = seed.choice(addresses)
    choices = (
        0,
        address + 8 * seed.randrange(CHUNK // 8),  # another object, or its middle
        address + seed.randrange(CHUNK),  # not aligned
        seed.randrange(64),
        (1 << 64) - 1 - seed.randrange(64),
        1 << seed.randrange(64),
        seed.getrandbits(64),
    )
    return seed.choice(choices) & (1 << 64) - 1


@EXAMPLES
@given(number=st.integers(0, 1 << 32), damaged=st.integers(1, 20_000))
def test_damaged_words_do_no_harm(recorded: tuple[Recorder, list[Mapping], Walk], number: int, damaged: int) -> None:
    recorder, mappings, _ = recorded
    seed = random.Random(number)
    keys = list(recorder.pieces)
    addresses = [address for address, _ in keys]
    pieces: dict[tuple[int, int], bytes | bytearray] = dict(recorder.pieces)
    for _ in range(damaged):
        key = seed.choice(keys)
        if isinstance(pieces[key], bytes):
            pieces[key] = bytearray(pieces[key])
        struct.pack_into("<Q", pieces[key], 8 * seed.randrange(key[1] // 8), _words(seed, addresses))  # type: ignore[arg-type]
    _walk({key: bytes(data) for key, data in pieces.items()}, mappings)


@EXAMPLES
@given(number=st.integers(0, 1 << 32), share=st.floats(0.0, 1.0))
def test_pieces_that_are_missing_short_or_exchanged_do_no_harm(
    recorded: tuple[Recorder, list[Mapping], Walk], number: int, share: float
) -> None:
    recorder, mappings, _ = recorded
    seed = random.Random(number)
    pieces = dict(recorder.pieces)
    keys = list(pieces)
    for key in keys:
        if seed.random() < share**4:  # mostly little: too much, and the walk ends before it begins
            kind = seed.randrange(4)
            if kind == 0:
                del pieces[key]
            elif kind == 1:
                pieces[key] = pieces[key][: seed.randrange(key[1])]
            elif kind == 2:
                pieces[key] = recorder.pieces[seed.choice(keys)]
            else:
                pieces[key] = seed.randbytes(key[1])
    _walk(pieces, mappings)


class Noise:
    """Memory in which everything can be read and half of all words point at something that can."""

    BASE, SIZE = 1 << 20, 1 << 22

    def __init__(self, number: int) -> None:
        self.number = number

    def read(self, address: int, size: int) -> bytes | None:
        seed = random.Random(self.number ^ address)
        words = [
            self.BASE + 8 * seed.randrange(self.SIZE // 8)
            if seed.random() < 0.5
            else seed.choice((1, 2, 3, 1 << 62, seed.getrandbits(64)))
            for _ in range(-(-size // 8))
        ]
        return struct.pack(f"<{len(words)}Q", *words)[:size]


@EXAMPLES
@given(
    number=st.integers(0, 1 << 32),
    layout=st.sampled_from(list(LAYOUTS.values())),
)
def test_decoding_noise_gives_something_or_nothing(number: int, layout) -> None:  # type: ignore[no-untyped-def]
    pages = Pages(Noise(number), limit=64)
    objects = Objects(pages, layout)
    classes = Classes(objects)
    for address in range(Noise.BASE, Noise.BASE + 400, 8):
        objects.text(address)
        objects.integer(address)
        objects.shared_items(address, address + 8)
        assert len(objects.dict_items(address, 50)) <= 64
        assert len(objects.tuple_items(address, 50)) <= 50
        assert len(objects.list_items(address, 50)) <= 50
        assert len(objects.set_items(address, 50)) <= 50
        assert len(objects.deque_items(address, 50)) <= 50
        cls = classes.of(address)
        if cls:
            classes.attributes(address, cls)
            classes.attribute_slot(address, cls, "_value")
    Modules(objects, [Noise.BASE, Noise.BASE + 64], Budget(BUDGET_S, 1000))
    lock = FoundThreadLock("x", ("x",), "Semaphore", Noise.BASE, "semaphore", 1, Noise.BASE)
    assert read_thread_lock(Noise(number), lock, layout) in (None, True, False)
    for address in range(Noise.BASE, Noise.BASE + 400, 8):
        assert objects.reference(address) & 3 == 0 or not layout.tagged_references


class Stack:
    """A thread's stack with a `wait_entry` of Python/parking_lot.c, and one word of it overwritten."""

    BASE, FUTEX, RING, MUTEX = 1 << 20, (1 << 20) + 256, 1 << 21, 0x7F0000001010

    def __init__(self, damage: int | None = None, word: int = 0) -> None:
        ring = {self.RING: self.FUTEX + 32, self.RING + 8: self.FUTEX + 32}
        entry = {self.FUTEX - 16: self.BASE + 512, self.FUTEX - 8: self.MUTEX, self.FUTEX + 32: self.RING}
        self.words = ring | entry
        self.places = (*ring, *entry)
        if damage is not None:
            self.words[self.places[damage]] = word

    def read(self, address: int, size: int) -> bytes | None:
        if not self.BASE <= address < self.RING + 64:
            return None
        return b"".join(struct.pack("<Q", self.words.get(at, 0)) for at in range(address, address + size, 8))[:size]


def test_parked_thread_gives_the_mutex_it_waits_for() -> None:
    assert parked_at(Stack(), Stack.FUTEX) == Stack.MUTEX
    assert parked_at(Stack(), Stack.FUTEX + 8) is None


@EXAMPLES
@given(damage=st.sampled_from([1, 2, 4]), word=st.integers(0, (1 << 64) - 1))
def test_damaged_wait_entry_is_not_believed(damage: int, word: int) -> None:
    """The way back round the ring, the argument, the ring itself; the address can be compared with a lock's only."""
    stack = Stack(damage, word)
    assert (
        parked_at(stack, Stack.FUTEX) is None
        or abs(word - Stack.FUTEX) < 1 << 14
        or word in (0, *Stack().words.values())
    )


@EXAMPLES
@given(number=st.integers(0, 1 << 32), futex=st.integers(0, (1 << 64) - 1))
def test_noise_on_a_stack_does_no_harm(number: int, futex: int) -> None:
    for address in (futex, Noise.BASE + 8, 0, 8):
        found = parked_at(Noise(number), address)
        assert found is None or found > 0


@EXAMPLES
@given(
    words=st.lists(st.integers(0, (1 << 64) - 1), min_size=DEBUG_WORDS, max_size=DEBUG_WORDS),
    small=st.booleans(),
    version=st.sampled_from([(3, 13), (3, 14), (3, 15)]),
)
def test_hostile_debug_offsets_are_refused_or_small(words: list[int], small: bool, version: tuple[int, int]) -> None:
    told = tuple(word & 0xFFF8 for word in words) if small else tuple(words)
    found = with_debug_offsets(LAYOUTS[version], told)
    if found is not None:
        assert max(value for value in asdict(found).values() if isinstance(value, int)) <= 1 << 20
    assert (found is not None) >= small


@EXAMPLES
@given(header=st.binary(max_size=400), number=st.integers(0, 1 << 32))
def test_hostile_elf_image_is_rejected_or_has_no_symbols(header: bytes, number: int) -> None:
    noise = Noise(number)

    class Hostile:
        def read(self, address: int, size: int) -> bytes | None:
            data = noise.read(address, size)
            if address != Noise.BASE or data is None:
                return data
            return (b"\x7fELF\x02\x01" + header + data)[:size]

    pages = Pages(Hostile(), limit=64)
    image = load_image(pages, Noise.BASE)
    if image:
        image.find("_PyRuntime")
        assert image.imports(("sem_wait", "sem_trywait")) in (True, False)


@pytest.mark.parametrize("kind", [2, 3])
@EXAMPLES
@given(number=st.integers(0, 1 << 32), headers=st.integers(0, 0xFFFF))
def test_a_well_formed_header_with_hostile_contents_ends(kind: int, number: int, headers: int) -> None:
    seed = random.Random(number)
    noise = Noise(number)
    dynamic = [value for tag in (4, 5, 6, 10, 0x6FFFFEF5) for value in (tag, Noise.BASE + 8 * seed.randrange(4096))]
    blob = bytearray(noise.read(Noise.BASE, CHUNK) or b"")
    struct.pack_into(
        "<16sHHIQQQIHHHHHH", blob, 0, b"\x7fELF\x02\x01", kind, 62, 1, 0, 64, 0, 0, 64, 56, headers, 0, 0, 0
    )
    struct.pack_into("<IIQQQQQQ", blob, 64, 1, 5, 0, 0, 0, CHUNK, CHUNK, 4096)
    struct.pack_into("<IIQQQQQQ", blob, 120, 2, 6, 2048, 2048, 0, 160, 160, 8)
    struct.pack_into("<10Q", blob, 2048, *dynamic)

    class Hostile:
        def read(self, address: int, size: int) -> bytes | None:
            return bytes(blob[:size]) if address == Noise.BASE else noise.read(address, size)

    pages = Pages(Hostile(), limit=64)
    image = load_image(pages, Noise.BASE)
    if image:
        image.find("_PyRuntime")
        assert image.imports(("sem_wait", "sem_trywait")) in (True, False)
