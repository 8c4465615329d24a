"""SemLock objects: what is one, what only looks like one, and the search for them in an imitated memory."""

from __future__ import annotations

import random
import struct
from collections.abc import Collection, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.cpython import semlock
from semtrace.cpython.semlock import SIZE, Search, SemLock

HEAP, TYPES, TEXTS = 0x7F1D40000000, 0x7F1D50000000, 0x7F1D60000000
TYPE, OTHER_TYPE = TYPES + 0x100, TYPES + 0x800
HANDLE, HANDLE_2 = 0x7F1D70001000, 0x7F1D70002000
MEMBERS = (("handle", 16), ("kind", 40), ("maxvalue", 36), ("name", 48))


def packed(
    handle: int = HANDLE,
    count: int = 0,
    maxvalue: int = 1,
    kind: int = 1,
    type_: int = TYPE,
    refcount: int = 1,
    tid: int = 0,
) -> bytes:
    return struct.pack("<QQQQiii4xQ", refcount, type_, handle, tid, count, maxvalue, kind, 0)


class Image:
    """Imitates Memory over a few regions."""

    def __init__(self, size: int = 1 << 16) -> None:
        self.regions = {HEAP: bytearray(size), TYPES: bytearray(8192), TEXTS: bytearray(8192)}
        self._texts = TEXTS + 16
        self.put_type(TYPE)
        self.put_type(OTHER_TYPE, members=(("handle", 16), ("kind", 36), ("maxvalue", 40), ("name", 48)))

    def put_type(
        self,
        address: int,
        basicsize: int = SIZE,
        members: tuple[tuple[str, int], ...] = MEMBERS,
        base: int = 0,
        name: bytes = b"_multiprocessing.SemLock",
    ) -> int:
        """A type object with the words that matter: tp_name, tp_basicsize, tp_members and tp_base."""
        table = self._texts
        texts = table + 40 * (len(members) + 1)
        for number, (member, offset) in enumerate(members):
            self.put(table + 40 * number, struct.pack("<Qi4xQ", texts + 16 * number, 1, offset))
            self.put(texts + 16 * number, member.encode() + b"\0")
        self._texts = texts + 16 * len(members)
        self.put(self._texts, name + b"\0")
        for word, value in ((3, self._texts), (4, basicsize), (30, table), (32, base)):
            self.put(address + 8 * word, struct.pack("<Q", value))
        self._texts += 64
        return address

    def put(self, address: int, data: bytes) -> int:
        base = address & ~0xFFFFFFF
        self.regions[base][address - base : address - base + len(data)] = data
        return address

    def read(self, address: int, size: int) -> bytes | None:
        base = address & ~0xFFFFFFF
        region = self.regions.get(base)
        if region is None or address - base + size > len(region):
            return None
        return bytes(region[address - base : address - base + size])

    def u64(self, address: int) -> int | None:
        raw = self.read(address, 8)
        return None if raw is None else int.from_bytes(raw, "little")

    def cstring(self, address: int, limit: int = 256) -> bytes | None:
        raw = bytes(self.regions.get(address & ~0xFFFFFFF, b""))[address & 0xFFFFFFF :][:limit]
        return raw[: raw.index(0)] if 0 in raw else None

    def find_words(self, start: int, end: int, wanted: Sequence[int]) -> list[tuple[int, int]]:
        words = memoryview(self.regions[start & ~0xFFFFFFF]).cast("I")
        first = (start & 0xFFFFFFF) // 4
        places = enumerate(words[first : first + (end - start) // 4])
        return [(start + 4 * at, wanted.index(word)) for at, word in places if word in wanted]

    def find(self, *handles: int, types: Collection[int] = ()) -> dict[int, SemLock]:
        ranges = lambda: iter([(HEAP, HEAP + len(self.regions[HEAP]))])  # noqa: E731
        search = Search(self, ranges, set(handles), types)  # type: ignore[arg-type]
        for _ in search:
            pass
        return search.found


def test_a_real_looking_object_is_parsed_field_by_field() -> None:
    found = semlock.parse(HEAP, packed(count=2, kind=0, tid=0x7F1D00000700))
    assert found == SemLock(HEAP, TYPE, HANDLE, 0x7F1D00000700, 2, 1, 0)


def test_a_count_below_zero_and_the_largest_maximum_are_kept() -> None:
    found = semlock.parse(0, packed(count=-3, maxvalue=0x7FFFFFFF))
    assert found is not None
    assert (found.count, found.maxvalue) == (-3, 0x7FFFFFFF)


def test_immortal_or_314_flags_in_the_reference_count_hide_nothing() -> None:
    assert semlock.parse(0, packed(refcount=1 | 1 << 48)) is not None


@pytest.mark.parametrize(
    ("why", "raw"),
    [
        ("freed: a free list's pointer where the reference count was", packed(refcount=0x7F1D40001230)),
        ("freed: no references", packed(refcount=0)),
        ("kind is neither", packed(kind=2)),
        ("kind below zero", packed(kind=-1)),
        ("no maximum", packed(maxvalue=0)),
        ("maximum below zero", packed(maxvalue=-1)),
        ("no type", packed(type_=0)),
        ("type not aligned", packed(type_=TYPE + 1)),
        ("handle not aligned", packed(handle=HANDLE + 4)),
        ("one byte too few", packed()[:-1]),
        ("nothing", b""),
        ("unreadable", None),
    ],
)
def test_what_cannot_be_a_living_object_is_refused(why: str, raw: bytes | None) -> None:
    assert semlock.parse(HEAP, raw) is None


@given(st.binary(max_size=SIZE + 8))
def test_parse_accepts_only_plausible_bytes_and_never_raises(raw: bytes) -> None:
    found = semlock.parse(1, raw)
    if found is not None:
        assert found.kind in (0, 1)
        assert found.maxvalue > 0


@given(st.binary(min_size=SIZE, max_size=SIZE))
def test_garbage_replacing_a_known_object_is_not_its_use(raw: bytes) -> None:
    image = Image()
    known = semlock.parse(HEAP, packed())
    assert known is not None
    image.put(HEAP, raw)
    assert semlock.read_use(image, known) is None or raw[8:24] == packed()[8:24]  # type: ignore[arg-type]


def test_known_object_can_be_read_until_another_replaces_it() -> None:
    image = Image()
    image.put(HEAP, packed(count=1, tid=7))
    known = semlock.read(image, HEAP)  # type: ignore[arg-type]
    assert known is not None
    assert semlock.read_use(image, known) == (7, 1)  # type: ignore[arg-type]
    image.put(HEAP, packed(count=1, tid=7, handle=HANDLE_2))
    assert semlock.read_use(image, known) is None  # type: ignore[arg-type]


def test_every_object_of_every_handle_is_found_and_nothing_else() -> None:
    image = Image()
    wanted = {
        image.put(HEAP + 0x100, packed(count=1)),
        image.put(HEAP + 0x4000, packed(handle=HANDLE_2, kind=0)),
        image.put(HEAP + 0x4040, packed()),  # a second object of the first
        image.put(HEAP + (1 << 16) - SIZE, packed(handle=HANDLE_2)),
    }
    image.put(HEAP + 0x200, packed(handle=0x7F1D70009000))  # a semaphore that is not mapped
    image.put(HEAP + 0x300, packed(type_=OTHER_TYPE))  # looks like one, but its type is another
    image.put(HEAP + 0x404, packed())  # not aligned
    image.put(HEAP + 0x500, packed(refcount=HEAP + 0x600))  # freed
    image.put(HEAP + 0x700, struct.pack("<Q", HANDLE))  # glibc's table
    image.put(HEAP + 0x800, struct.pack("<Q", TYPE))  # any other reference to the type
    assert image.find(HANDLE, HANDLE_2).keys() == wanted


def test_false_match_before_the_first_object_does_not_mislead() -> None:
    image = Image()
    image.put(HEAP, packed(type_=OTHER_TYPE))
    image.put(HEAP + 0x80, packed(type_=0x7F1DF0000000))  # a type where nothing can be read
    at = image.put(HEAP + 0x1000, packed())
    assert image.find(HANDLE).keys() == {at}


def test_objects_of_several_types_are_found_for_one_handle() -> None:
    """From 3.12 each interpreter and each import of _multiprocessing has a SemLock type of its own."""
    image = Image()
    second = image.put_type(TYPES + 0x1000)
    wanted = {image.put(HEAP, packed()), image.put(HEAP + 0x80, packed(type_=second, count=1))}
    assert image.find(HANDLE).keys() == wanted
    assert image.find(HANDLE, types={TYPE}).keys() == wanted


@pytest.mark.parametrize("name", [b"_billiard.SemLock", b"_copy.Anything", b""])
def test_name_of_a_type_does_not_matter(name: bytes) -> None:
    image = Image()
    image.put_type(TYPE, name=name)
    at = image.put(HEAP, packed())
    assert image.find(HANDLE).keys() == {at}


@pytest.mark.parametrize("basicsize", [56, 64, 72])
def test_subclasses_of_a_subclass_are_recognised(basicsize: int) -> None:
    image = Image()
    first = image.put_type(TYPES + 0x1000, basicsize, (), base=TYPE)
    second = image.put_type(TYPES + 0x1400, basicsize + 8, (("x", basicsize),), base=first)
    at = image.put(HEAP, packed(type_=second))
    assert image.find(HANDLE).keys() == {at}


@pytest.mark.parametrize(
    ("basicsize", "members"),
    [(48, MEMBERS), (64, MEMBERS), (56, MEMBERS[:3]), (56, (*MEMBERS, ("more", 24))), (56, ())],
    ids=["smaller", "larger", "no name", "a further member", "no members"],
)
def test_type_of_another_layout_is_not_recognised(basicsize: int, members: tuple[tuple[str, int], ...]) -> None:
    image = Image()
    image.put(HEAP, packed(type_=image.put_type(TYPES + 0x1000, basicsize, members)))
    assert image.find(HANDLE) == {}


def test_types_that_are_their_own_bases_end_the_search() -> None:
    image = Image()
    first, second = TYPES + 0x1000, TYPES + 0x1400
    image.put_type(first, 64, (), base=second)
    image.put_type(second, 64, (), base=first)
    image.put(HEAP, packed(type_=first))
    assert image.find(HANDLE) == {}


def test_object_of_another_type_is_found_among_many_handles() -> None:
    image = Image()
    subclass = image.put_type(TYPES + 0x1000, 64, (), base=TYPE)
    wanted = {
        image.put(HEAP + 0x100, packed()),
        image.put(HEAP + 0x200, packed(handle=HANDLE_2, type_=subclass)),
    }
    assert image.find(HANDLE, HANDLE_2).keys() == wanted
    assert image.find(HANDLE, HANDLE_2, types={TYPE}).keys() == wanted


def test_memory_without_any_or_without_handles_gives_nothing() -> None:
    assert Image().find(HANDLE) == {}
    assert Image().find() == {}


def test_garbage_throughout_memory_gives_nothing_and_does_not_raise() -> None:
    random.seed(7)
    image = Image()
    image.regions[HEAP][:] = random.randbytes(1 << 16)
    for at in range(HEAP, HEAP + (1 << 16) - 64, 512):  # many true pointers in it
        image.put(at, struct.pack("<Q", random.choice([HANDLE, TYPE])))
    found = image.find(HANDLE)
    assert all(f.handle == HANDLE and f.type == TYPE for f in found.values())


def test_objects_that_are_read_together_say_the_same() -> None:
    """Whether they lie close to each other or far apart, and also once one is gone."""
    image = Image()
    places = (HEAP, HEAP + 72, HEAP + 4096, HEAP + 0x8000)
    for place in places:
        image.put(place, packed(handle=HANDLE + place - HEAP))
    objects = [known for place in places if (known := semlock.read(image, place)) is not None]  # type: ignore[arg-type]
    together = semlock.Together()
    first = together.uses(image, objects)  # type: ignore[arg-type]
    assert first == dict.fromkeys(places, (0, 0))
    assert together.uses(image, objects) is first  # type: ignore[arg-type]
    image.put(places[1], packed(handle=HANDLE + 72, count=1, tid=7))
    image.put(places[3], packed(handle=HANDLE_2))
    now = together.uses(image, objects)  # type: ignore[arg-type]
    assert now == {each.address: semlock.read_use(image, each) for each in objects}  # type: ignore[arg-type]
    assert now[places[1]] == (7, 1)
    assert now[places[3]] is None
    assert together.uses(image, objects[:1]) == {places[0]: (0, 0)}  # type: ignore[arg-type]
