"""Threads as they are sighted: what a stack says counts only for one that has not run meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from semtrace.linux import futex, nativestack
from semtrace.linux.futex import NUMBER, RunTime, Thread
from semtrace.linux.memory import Memory
from semtrace.observe.evidence import sightings
from semtrace.observe.evidence.proof import Gil, Sighting
from semtrace.observe.evidence.sightings import Sightings

WAITS = Thread(11, NUMBER, 0x5000, stack=0x9000)
SEMAPHORE_AT = 0x7000


class Scene:
    """One thread of a made-up process. `ran` are its run times, one for each time that they are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: Iterator[RunTime | None] = iter(())
        self.now: Thread | None = WAITS
        self.inside: bool | None = False
        self.stacks_read = 0
        monkeypatch.setattr(futex, "run_time", lambda *_: next(self.ran))
        monkeypatch.setattr(futex, "read_thread", lambda *_: self.now)
        monkeypatch.setattr(nativestack, "returns_into", self._stack)
        monkeypatch.setattr(sightings, "acquiring_code", lambda memory, types, _: ((0, len(types)),))
        self.taken = Sightings(1, Memory.own(), list)

    def _stack(self, *_: object) -> bool | None:
        self.stacks_read += 1
        return self.inside

    def take(self, *ran: int | None, thread: Thread = WAITS, types: tuple[int, ...] = (1,)) -> Sighting:
        self.ran = iter([None if each is None else RunTime(each, 1) for each in ran])
        (found,) = self.taken.take([thread], False, [SEMAPHORE_AT], types)
        return found


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    found = Scene(monkeypatch)
    yield found
    found.taken._memory.close()


@pytest.mark.parametrize(("inside", "gil"), [(False, Gil.NO), (True, Gil.ACQUIRING), (None, Gil.UNKNOWN)])
def test_stack_of_a_motionless_thread_shows_where_it_is(scene: Scene, inside: bool | None, gil: Gil) -> None:
    scene.inside = inside
    assert scene.take(5, 5).gil is gil


@pytest.mark.parametrize("ran", [(5, 6), (None, None), (5, None)])
def test_thread_that_ran_or_may_have_meanwhile_is_running(scene: Scene, ran: tuple[int | None, ...]) -> None:
    assert not scene.take(*ran).thread.blocked


@pytest.mark.parametrize("now", [None, Thread(11, None), Thread(11, NUMBER, 0x6000, stack=0x9000)])
def test_one_that_waits_elsewhere_by_then_is_taken_for_running(scene: Scene, now: Thread | None) -> None:
    scene.now = now
    assert not scene.take(5, 5).thread.blocked


def test_stack_of_a_thread_that_has_not_run_is_reused(scene: Scene) -> None:
    scene.take(5, 5)
    assert scene.take(5).gil is Gil.NO
    assert scene.stacks_read == 1
    scene.take(6, 6)
    assert scene.stacks_read == 2


def test_one_that_may_acquire_is_read_each_time(scene: Scene) -> None:
    scene.inside = True
    scene.take(5, 5)
    assert scene.take(5, 5).gil is Gil.ACQUIRING


def test_another_type_of_semlock_makes_its_stack_be_read_again(scene: Scene) -> None:
    scene.take(5, 5)
    scene.inside = True
    assert scene.take(5, 5, types=(1, 2)).gil is Gil.ACQUIRING


def test_a_waiter_of_a_semaphore_has_not_taken_it(scene: Scene) -> None:
    assert scene.take(5, thread=Thread(11, NUMBER, SEMAPHORE_AT)).gil is Gil.NO
    assert not scene.stacks_read


def test_wait_in_futex_is_unknown_without_a_type(scene: Scene) -> None:
    assert scene.take(5, types=()).gil is Gil.UNKNOWN
