"""Dataclasses that are made late are dataclasses all the same."""

from __future__ import annotations

import threading
from dataclasses import FrozenInstanceError, field, fields
from functools import cached_property

import pytest

from semtrace.lazydata import _first, _first_eq, _first_hash, dataclass, replace


def is_made(cls: type) -> bool:
    return vars(cls)["__init__"] is not _first


@pytest.fixture
def point() -> type:
    @dataclass(frozen=True)
    class Point:
        x: int
        y: int = 2
        seen: list[int] = field(default_factory=list, compare=False)

    return Point


def test_class_is_made_at_its_first_use(point: type) -> None:
    assert not is_made(point)
    one = point(1)
    assert is_made(point)
    assert (one.x, one.y, one.seen) == (1, 2, [])
    assert [each.name for each in fields(one)] == ["x", "y", "seen"]
    assert replace(one, y=5) == point(x=1, y=5)


def test_instances_are_equal_hashed_and_frozen_as_usual(point: type) -> None:
    one = point(1, seen=[1])
    assert one == point(1)
    assert hash(one) == hash(point(1))
    assert repr(one).endswith("Point(x=1, y=2, seen=[1])")
    with pytest.raises(FrozenInstanceError):
        one.x = 3
    with pytest.raises(FrozenInstanceError):
        one.other = 3
    with pytest.raises(TypeError, match=r"__init__\(\)"):
        point()


def test_heir_is_made_with_its_bases(point: type) -> None:
    @dataclass(frozen=True)
    class Named(point):  # type: ignore[misc]
        name: str = ""

        def __post_init__(self) -> None:
            self.seen.append(len(self.name))

    assert Named(1, name="abc").seen == [3]
    assert is_made(point)
    assert point(1).seen == []
    assert Named(1) != point(1)


def test_several_threads_may_be_the_first(point: type) -> None:
    together = threading.Barrier(8)
    made: list[object] = []

    def make() -> None:
        together.wait()
        made.append(point(1))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [point(1)] * 8


def test_replace_checks_names_and_forgets_what_was_computed() -> None:
    @dataclass(frozen=True)
    class Square:
        side: int
        color: str = field(default="red", kw_only=True)

        @cached_property
        def area(self) -> int:
            return self.side * self.side

    one = Square(2, color="blue")
    assert one.area == 4
    other = replace(one, side=3)
    assert (other.side, other.color, other.area) == (3, "blue", 9)
    with pytest.raises(TypeError):
        replace(one, colour="green")
    with pytest.raises(TypeError):
        Square(2, "blue")  # type: ignore[misc]


def test_replace_runs_what_follows_the_making_of_an_instance() -> None:
    @dataclass(frozen=True)
    class Positive:
        number: int

        def __post_init__(self) -> None:
            if self.number <= 0:
                raise ValueError("not positive")

    with pytest.raises(ValueError, match="positive"):
        replace(Positive(1), number=-1)


def test_mutable_class_stays_mutable_when_made_late() -> None:
    @dataclass(frozen=False)
    class Counter:
        count: int = 0

    one = Counter()
    one.count += 1
    assert one == Counter(1)


def test_methods_are_written_at_their_first_call(point: type) -> None:
    one = point(1)
    assert vars(point)["__eq__"] is _first_eq
    assert one == point(1)
    assert one != 1
    assert vars(point)["__eq__"] is not _first_eq
    assert vars(point)["__hash__"] is _first_hash
    assert len({one, point(1)}) == 1
    assert vars(point)["__hash__"] is not _first_hash


def test_what_a_class_defines_itself_stays() -> None:
    @dataclass(frozen=True)
    class Name:
        text: str
        line: int = field(default=0, hash=False, repr=False)

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Name) and self.text.lower() == other.text.lower()

        def __hash__(self) -> int:
            return hash(self.text.lower())

        def __str__(self) -> str:
            return self.text

    assert len({Name("a"), Name("A", 3)}) == 1
    assert repr(Name("a", 3)).endswith("Name(text='a')")
    assert str(Name("a")) == "a"


def test_heirs_of_one_base_compare_their_own_fields(point: type) -> None:
    @dataclass(frozen=True)
    class Named(point):  # type: ignore[misc]
        name: str = ""

    assert Named(1, name="a") != Named(1, name="b")
    assert point(1) == point(1)
    assert hash(Named(1, name="a")) != hash(Named(1, name="b"))


def test_mutable_instances_have_no_hash() -> None:
    @dataclass(frozen=False)
    class Counter:
        count: int = 0

    with pytest.raises(TypeError):
        hash(Counter())


def test_instance_that_contains_itself_is_printed() -> None:
    @dataclass(frozen=False)
    class Node:
        next: object = None

    node = Node()
    node.next = node
    assert repr(node).endswith("Node(next=...)")
