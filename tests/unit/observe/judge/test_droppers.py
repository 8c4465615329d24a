"""Which living process may have held a lock when it dropped it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from semtrace.model import ProcessId, SemId
from semtrace.observe.evidence.verdict import Claim, Verdict
from semtrace.observe.judge import droppers
from semtrace.observe.judge.droppers import Droppers
from semtrace.observe.watch.watched import RELIST_S

SEM = SemId(0, 27, 1)
FREE = Verdict("free")


class Process:
    """One that started `age_s` ago; the semaphore is `made_s` old, None where that is not shown."""

    dying, maps = False, True

    def __init__(
        self, pid: int, ppid: int = 1, *, forked: bool = True, made_s: float | None = None, reaped: int = 0
    ) -> None:
        self.id = ProcessId(pid, pid)
        self.stat = SimpleNamespace(ppid=ppid, forked=forked, reaped=reaped)
        self.made_s, self.age_s = made_s, 10.0

    def age_of(self, semaphore: SemId) -> float | None:
        return self.made_s

    def still_maps(self, semaphore: SemId) -> bool:
        return self.maps


@pytest.fixture(autouse=True)
def childless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(droppers, "children", lambda stat: [])


MAKER = Process(2)


def found(*mappers: Any, seen: Droppers | None = None, linked: bool = False) -> int | None:
    one = (seen or among(MAKER, *mappers)).find(SEM, mappers, lambda: [SEM] if linked else [])
    return one.pid if one else None


def among(*living: Any) -> Droppers:
    return Droppers(lambda child: next((each for each in living if each.id.pid == child.stat.ppid), None))


def noted(verdict: Verdict, times: int, *mappers: Any) -> Droppers:
    seen = among(MAKER, *mappers)
    for turn in range(times):
        now_s = turn * RELIST_S
        assert seen.due(now_s)
        seen.note(now_s, {SEM: verdict}, {SEM: mappers})
        assert not seen.due(now_s + 0.9 * RELIST_S)
    return seen


def test_two_children_have_it_from_their_parent() -> None:
    """Also if each had children: a nameless semaphore cannot have come from elsewhere."""
    assert found(Process(3, 2, reaped=1), Process(4, 2, reaped=1)) == 2


def test_parent_that_maps_it_has_not_dropped_it() -> None:
    assert found(MAKER, Process(3, 2), Process(4, 2)) is None


def test_parent_whose_mapping_has_gone_since_has_dropped_it() -> None:
    stale = Process(2)
    stale.maps = False
    assert found(stale, Process(3, 2), Process(4, 2)) == 2


def test_name_that_is_left_may_have_been_opened() -> None:
    assert found(Process(3, 2), Process(4, 2), linked=True) is None


def test_processes_that_began_with_an_exec_inherit_nothing() -> None:
    assert found(Process(3, 2, forked=False), Process(4, 2, forked=False)) is None


def test_dead_parent_holds_nothing() -> None:
    assert found(Process(3, 9), Process(4, 9)) is None


@pytest.mark.parametrize(
    ("made_s", "reaped", "dropper"),
    [
        (11.0, 1, 2),
        (9.0, 0, None),
        (10.01, 0, 2),  # its age decides nothing
        (10.01, 1, None),
        (None, 0, 2),
        (None, 1, None),
    ],
)
def test_only_child_has_inherited_it_or_made_it(made_s: float | None, reaped: int, dropper: int | None) -> None:
    assert found(Process(3, 2, made_s=made_s, reaped=reaped)) == dropper


HELD = Verdict("held", (Claim(ProcessId(3, 3), 1, 3),))


@pytest.mark.parametrize(
    ("verdict", "times", "dropper"),
    [
        (FREE, 2, None),
        (HELD, 2, None),
        (FREE, 1, 2),  # the maker may not have been listed with it yet
        (Verdict("unknown", reason="in flux"), 2, 2),
        (Verdict("held", (Claim(ProcessId(3, 3), 1, 3, certain=False),)), 2, 2),
    ],
)
def test_lock_that_was_sound_later_is_not_its(verdict: Verdict, times: int, dropper: int | None) -> None:
    children = Process(3, 2), Process(4, 2)
    assert found(*children, seen=noted(verdict, times, *children)) == dropper


def test_sound_lock_that_it_mapped_then_excludes_nothing() -> None:
    children = Process(3, 2), Process(4, 2)
    assert found(*children, seen=noted(FREE, 3, MAKER, *children)) == 2
