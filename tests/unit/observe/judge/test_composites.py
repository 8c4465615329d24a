"""From bare semaphores to Queues and Conditions, and plain locks that stay plain."""

from __future__ import annotations

import itertools

import pytest

from semtrace.model import SEM_VALUE_MAX, SemId
from semtrace.observe.judge.composites import Made, Part, kind_of, parts

LOCK, RLOCK = (1, 1, 1), (0, 1, 1)
NONE_YET = (1, SEM_VALUE_MAX, 0)
UNLIMITED = (1, SEM_VALUE_MAX, SEM_VALUE_MAX)


def bounded(n: int) -> tuple[int, int, int]:
    return (1, n, n)


def semaphore(n: int) -> tuple[int, int, int]:
    return (1, SEM_VALUE_MAX, n)


CONDITION = [RLOCK, *[NONE_YET] * 3]
EVENT = [LOCK, *[NONE_YET] * 4]
QUEUE = [LOCK, LOCK, UNLIMITED]
JOINABLE = [*QUEUE, NONE_YET, *CONDITION]


def made(*shapes: tuple[int, int, int], first: int = 1) -> list[Made]:
    return [Made(SemId(0, 27, first + at), *shape) for at, shape in enumerate(shapes)]


def grouped(*shapes: tuple[int, int, int]) -> list[str]:
    """For each of the semaphores what it is part of, in lower case if it is a signal; `-` for a plain one."""
    semaphores = made(*shapes)
    found = parts(semaphores, {m.id: frozenset("p") for m in semaphores})
    return [_shown(found.get(m.id)) for m in semaphores]


def _shown(part: Part | None) -> str:
    if part is None:
        return "-"
    name = part.part_of.split()[0]
    return name.lower() if part.signal else name


@pytest.mark.parametrize(
    ("name", "shapes", "expected"),
    [
        ("Condition()", CONDITION, ["Condition", *["condition"] * 3]),
        ("Condition(Lock())", [LOCK, *[NONE_YET] * 3], ["Condition", *["condition"] * 3]),
        ("Event", EVENT, ["Event", *["event"] * 4]),
        ("Event that is set", [*EVENT[:4], semaphore(1)], ["Event", *["event"] * 4]),
        ("Queue without limit", QUEUE, ["Queue", "Queue", "queue"]),
        (
            "JoinableQueue",
            JOINABLE,
            [*["JoinableQueue"] * 2, *["joinablequeue"] * 2, "JoinableQueue", *["joinablequeue"] * 3],
        ),
    ],
)
def test_each_primitive_is_recognised_alone(name: str, shapes: list[tuple[int, int, int]], expected: list[str]) -> None:
    assert grouped(*shapes) == expected


def test_queue_without_limit_is_recognised_while_in_use() -> None:
    assert grouped(LOCK, (1, 1, 0), semaphore(SEM_VALUE_MAX - 1000)) == ["Queue", "Queue", "queue"]


@pytest.mark.parametrize("order", list(itertools.permutations(["Condition", "Event", "Queue", "JoinableQueue"])))
def test_primitives_made_consecutively_in_any_order_are_distinguished(order: tuple[str, ...]) -> None:
    shapes = {"Condition": CONDITION, "Event": EVENT, "Queue": QUEUE, "JoinableQueue": JOINABLE}
    found = grouped(*[shape for name in order for shape in shapes[name]])
    assert [f.lower() for f in found] == [name.lower() for name in order for _ in shapes[name]]


@pytest.mark.parametrize(
    "shapes",
    [
        [LOCK],
        [LOCK, LOCK],
        [LOCK, LOCK, LOCK],
        [RLOCK, RLOCK, LOCK],
        [LOCK, RLOCK, LOCK, RLOCK],
        [semaphore(3)],
        [bounded(3)],
        [LOCK, semaphore(3)],
        [LOCK, semaphore(3), semaphore(2)],
        [RLOCK, NONE_YET, NONE_YET],
        [NONE_YET, NONE_YET, NONE_YET],
        [UNLIMITED],
        [LOCK, UNLIMITED],
        [semaphore(2), LOCK, LOCK],
    ],
)
def test_plain_locks_stay_plain(shapes: list[tuple[int, int, int]]) -> None:
    assert grouped(*shapes) == ["-"] * len(shapes)


@pytest.mark.parametrize("first", [LOCK, RLOCK])
def test_a_users_lock_and_three_full_semaphores_are_no_condition(first: tuple[int, int, int]) -> None:
    """`pools = [Semaphore(5) for _ in range(3)]` after a lock: a Condition's begin at 0, and stay near it."""
    assert grouped(first, semaphore(5), semaphore(5), semaphore(5)) == ["-"] * 4


def test_an_incomplete_pattern_at_the_end_stays_plain() -> None:
    assert grouped(*CONDITION, RLOCK, NONE_YET) == ["Condition", *["condition"] * 3, "-", "-"]


def test_two_of_a_kind_are_two_primitives() -> None:
    semaphores = made(*CONDITION, *CONDITION)
    found = parts(semaphores, {m.id: frozenset("p") for m in semaphores})
    assert len({part.part_of for part in found.values()}) == 2


def test_what_different_processes_map_is_never_one_primitive() -> None:
    semaphores = made(*CONDITION)
    mapped = {m.id: frozenset("ab" if at < 2 else "b") for at, m in enumerate(semaphores)}
    assert parts(semaphores, mapped) == {}


def test_primitives_two_workers_made_alternately_are_distinguished_by_their_mappers() -> None:
    ours, theirs = made(*CONDITION), made(*CONDITION)
    mixed = [m for pair in zip(ours, theirs, strict=True) for m in pair]
    semaphores = [Made(SemId(0, 27, at), m.kind, m.maxvalue, m.value) for at, m in enumerate(mixed)]
    found = parts(semaphores, {m.id: frozenset(str(at % 2)) for at, m in enumerate(semaphores)})
    assert [found[m.id].signal for m in semaphores] == [False, False, *[True] * 6]
    assert len({found[m.id].part_of for m in semaphores}) == 2


def test_the_order_in_which_they_are_given_does_not_matter() -> None:
    semaphores = made(*JOINABLE, LOCK, *EVENT)
    mapped = {m.id: frozenset("p") for m in semaphores}
    assert parts(list(reversed(semaphores)), mapped) == parts(semaphores, mapped)


def test_inodes_are_ordered_as_numbers() -> None:
    semaphores = made(*CONDITION, first=8)  # 8, 9, 10, 11
    assert len(parts(semaphores, {m.id: frozenset("p") for m in semaphores})) == 4


def test_nothing_has_no_parts() -> None:
    assert parts([], {}) == {}


@pytest.mark.parametrize(
    ("kind", "maxvalue", "expected"),
    [(0, 1, "RLock"), (1, 1, "Lock"), (1, 5, "BoundedSemaphore"), (1, SEM_VALUE_MAX, "Semaphore")],
)
def test_kind_and_maximum_tell_the_class(kind: int, maxvalue: int, expected: str) -> None:
    assert kind_of(kind, maxvalue) == expected
