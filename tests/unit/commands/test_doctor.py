"""What the doctor makes of its looks, without a server."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from support.snapshots import SERVER, frames, holder, lock, pid, snapshot, thread_lock, waiter

from semtrace.commands import doctor
from semtrace.commands.doctor import Doctor, unknown_timeout
from semtrace.model import SemId, Snapshot, Target, ThreadId, ThreadLockUse, Unchecked, Wait, WaitKind, Wakers
from semtrace.observe.pyspy import confirmed
from semtrace.repairs.leaks import Leaks
from semtrace.rules import USUAL, findings
from semtrace.rules.headline import headline
from semtrace.rules.passing import passed
from semtrace.waits.build import wait_graph

STACK = frames(("/srv/app.py", "withdraw"))


class Looks:
    """In the place of an Observer: always the same picture, and how often stacks were taken of it."""

    def __init__(self, picture: Snapshot) -> None:
        self.picture = replace(picture, findings=findings(picture))
        self.taken: list[set[SemId] | None] = []

    def snapshot(self) -> Snapshot:
        return self.picture

    def undecided(self) -> bool:
        return False

    def unread(self) -> bool:
        return False

    def unnamed(self) -> bool:
        return False

    def searches_for_proof(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def with_stacks(self, told: Snapshot, locks: Iterable[SemId] | None = None) -> Snapshot:
        self.taken.append(None if locks is None else set(locks))
        return replace(told)


class Clock:
    """In the place of the module `time`: nothing takes time but sleep."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def watched(
    monkeypatch: pytest.MonkeyPatch, picture: Snapshot, clock: Clock | None = None, seconds: float = 0.3
) -> Looks:
    looks = Looks(picture)
    monkeypatch.setattr(doctor, "time", clock or Clock())
    monkeypatch.setattr(doctor, "Observer", lambda *_, **__: looks)
    monkeypatch.setattr(doctor, "with_stacks", looks.with_stacks)
    monkeypatch.setattr(doctor, "leaks", lambda pid: Leaks(()))
    assert Doctor(SERVER, USUAL).watch(seconds).samples > 3
    return looks


@pytest.mark.parametrize(("until_s", "ended_s"), [(0.0, 0.3), (3.0, 3.0), (1000.0, 12.3)])
def test_doctor_waits_a_while_for_a_decision(monkeypatch: pytest.MonkeyPatch, until_s: float, ended_s: float) -> None:
    clock = Clock()
    began_s = clock.monotonic()
    monkeypatch.setattr(Looks, "undecided", lambda _: clock.monotonic() < began_s + until_s)
    watched(monkeypatch, snapshot(lock()), clock)
    assert clock.monotonic() - began_s == pytest.approx(ended_s, abs=doctor._PAUSE_S)


@pytest.mark.parametrize(("seconds", "ended_s"), [(0.3, 5.3), (3.0, 6.0), (30.0, 30.0)])
def test_doctor_watches_what_became_known_late(monkeypatch: pytest.MonkeyPatch, seconds: float, ended_s: float) -> None:
    clock = Clock()
    began_s = clock.monotonic()
    monkeypatch.setattr(Looks, "unread", lambda _: clock.monotonic() < began_s + 5.0)
    monkeypatch.setattr(Looks, "undecided", Looks.unread)
    watched(monkeypatch, snapshot(lock()), clock, seconds)
    assert clock.monotonic() - began_s == pytest.approx(ended_s, abs=2 * doctor._PAUSE_S)


@pytest.mark.parametrize(("until_s", "ended_s"), [(20.0, 20.0), (1000.0, 30.3)])
def test_doctor_waits_longer_for_the_search_of_large_memory(
    monkeypatch: pytest.MonkeyPatch, until_s: float, ended_s: float
) -> None:
    clock = Clock()
    began_s = clock.monotonic()
    monkeypatch.setattr(Looks, "undecided", lambda _: True)
    monkeypatch.setattr(Looks, "searches_for_proof", lambda _: clock.monotonic() < began_s + until_s)
    watched(monkeypatch, snapshot(lock()), clock)
    assert clock.monotonic() - began_s == pytest.approx(ended_s, abs=doctor._PAUSE_S)


def test_steady_findings_cost_no_stacks_while_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = watched(monkeypatch, snapshot(lock(), thread_locks=(thread_lock(),)))
    assert [finding.code for finding in looks.picture.findings] == ["private-lock"]
    assert looks.taken == [None]


def test_the_stacks_of_what_passes_by_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held = lock(holders=(holder(11, 20.0, asleep_s=20.0),))
    looks = watched(monkeypatch, snapshot(held, lock("app.other", 2), thread_locks=(thread_lock(),)))
    assert looks.taken == [{held.id}, None]


def test_stack_of_a_thread_that_moved_is_dropped() -> None:
    stayed, left = waiter(12, stack=STACK), waiter(13, stack=STACK)
    told = snapshot(lock(holders=(holder(11, stack=STACK),), waiters=(stayed, left)))
    after = snapshot(lock(holders=(holder(13),), waiters=(waiter(12),)))
    (now,) = confirmed(told, after).locks
    assert [each.stack for each in (*now.holders, *now.waiters)] == [None, STACK, None]
    assert confirmed(told, told) == told
    assert [each.stack for each in confirmed(told, snapshot()).locks[0].waiters] == [None, None]


def test_so_it_is_of_threading_locks() -> None:
    def used(name: str, stack: object = None) -> Snapshot:
        use = ThreadLockUse(pid(11), True, holder(11, stack=stack), (waiter(11, tid=15, stack=stack),))
        return snapshot(thread_locks=(replace(thread_lock(name), processes=(use,)),))

    assert confirmed(used("a", STACK), used("a")).thread_locks == used("a", STACK).thread_locks
    assert confirmed(used("a", STACK), used("b")).thread_locks == used("a").thread_locks


def test_a_timeout_that_is_not_known_is_said() -> None:
    server = snapshot().server
    assert list(unknown_timeout(replace(server, timeout_s=30.0))) == []
    assert list(unknown_timeout(replace(server, kind="python", timeout_s=None))) == []
    (problem,) = unknown_timeout(replace(server, timeout_s=None))
    assert "--timeout" in problem.what
    assert problem.process is None


def test_wait_for_a_lock_that_is_renamed_is_not_over() -> None:
    """A lock that its modules lead to has its full name only after a search: until then that of a variable."""
    seen = waiting_for("guard", 20.0)
    (finding,) = [each for each in findings(seen) if each.code == "long-wait"]
    for asleep_s, gone in ((21.0, 0), (0.5, 1)):
        now = replace(waiting_for("app.guard", asleep_s), monotonic_s=seen.monotonic_s + 1.0)
        now = replace(now, findings=findings(now))
        assert len(list(passed({finding.key: (seen.monotonic_s, finding)}, now))) == gone


def waiting_for(name: str, asleep_s: float) -> Snapshot:
    target = Target(WaitKind.PRIVATE_LOCK, name, process=pid(11), address=4096)
    wait = Wait(ThreadId(pid(11), 12), target, False, Wakers((), (pid(11),)), asleep_s=asleep_s, for_s=asleep_s)
    seen = replace(
        snapshot(), blocked=(wait,), processes=tuple(replace(each, threads=3) for each in snapshot().processes)
    )
    return replace(seen, waits=wait_graph(seen))


def test_doctor_waits_for_names_that_are_soon_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    began_s = clock.monotonic()
    monkeypatch.setattr(Looks, "unnamed", lambda _: clock.monotonic() < began_s + 2.0)
    watched(monkeypatch, snapshot(lock()), clock)
    assert clock.monotonic() - began_s == pytest.approx(2.0, abs=doctor._PAUSE_S)


@pytest.mark.parametrize("unread", [False, True])
def test_doctor_names_memory_that_it_could_not_read_in_time(monkeypatch: pytest.MonkeyPatch, unread: bool) -> None:
    monkeypatch.setattr(Looks, "unread", lambda _: unread)
    monkeypatch.setattr(Looks, "undecided", Looks.unread)
    looks = Looks(snapshot(lock()))
    monkeypatch.setattr(doctor, "time", Clock())
    monkeypatch.setattr(doctor, "Observer", lambda *_, **__: looks)
    monkeypatch.setattr(doctor, "leaks", lambda pid: Leaks(()))
    diagnosis = Doctor(SERVER, USUAL, stacks=False).watch(0.3)
    gaps = [gap.what for gap in headline(diagnosis.snapshot).gaps]
    assert gaps == ([Unchecked.MEMORY] if unread else [])


def test_progress_of_a_watch_is_one_line_for_all_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = [snapshot(lock()), snapshot(lock()), snapshot(lock(), alive=False)]
    told: list[str] = []

    class Patient:
        server = SERVER

        def __init__(self, *_: object) -> None: ...
        def forget_passed(self) -> None: ...
        def close(self) -> None: ...

        def watch(self, _: float) -> doctor.Diagnosis:
            told.append("round")
            return doctor.Diagnosis(rounds.pop(0), 9)

    @contextmanager
    def working(_: str) -> Iterator[None]:
        told.append("begins")
        yield
        told.append("ends")

    monkeypatch.setattr(doctor, "Doctor", Patient)
    monkeypatch.setattr(doctor, "working", working)
    monkeypatch.setattr(doctor.discovery, "choose", lambda _: SERVER)
    monkeypatch.setattr(doctor, "limits", lambda _: USUAL)
    doctor.run(argparse.Namespace(pid=4710, watch=True, seconds=0.1, fail_on="error", json=False, brief=True))
    assert told == ["begins", "round", "round", "round", "ends"]
